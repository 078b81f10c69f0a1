// SPDX-License-Identifier: Apache-2.0
// What each view shows. A column has a title, what it is sorted by, how it is drawn (table.js), and
// how soon it makes room on a narrow screen: 3 before 2.

const TRAFFIC = [
  { title: "Receive", sort: "rates.receive_bytes", kind: "rate", direction: "receive" },
  { title: "Transmit", sort: "rates.transmit_bytes", kind: "rate", direction: "transmit" },
  { title: "Activity", sort: "rates.bytes", kind: "plot" },
  { title: "Packets/s", sort: "rates.packets", kind: "packets", room: 3 },
  { title: "Received", sort: "totals.receive_bytes", kind: "total", field: "receive_bytes", room: 3 },
  { title: "Transmitted", sort: "totals.transmit_bytes", kind: "total", field: "transmit_bytes", room: 3 },
];
const PLACE = { title: "Container", sort: "container", kind: "place", room: 2 };
const GROUP = { title: "Group", sort: "group", kind: "text", field: "group", room: 3 };
const USER = { title: "User", sort: "user", kind: "text", field: "user", room: 3 };

export const VIEWS = [
  {
    noun: "groups",
    title: "Groups",
    letter: "g",
    key: ["group", "container", "pod", "namespace"],
    columns: [
      { title: "Group", sort: "group", kind: "name", field: "group" },
      PLACE,
      { title: "Processes", sort: "processes", kind: "count", field: "processes", room: 2 },
      ...TRAFFIC,
    ],
  },
  {
    noun: "processes",
    title: "Processes",
    letter: "p",
    key: ["pid", "start_time_seconds"],
    columns: [
      { title: "Process", sort: "process", kind: "name", field: "process", below: ["pid"] },
      GROUP,
      USER,
      PLACE,
      ...TRAFFIC,
    ],
  },
  {
    noun: "threads",
    title: "Threads",
    letter: "t",
    key: ["pid", "tid", "start_time_seconds"],
    columns: [
      { title: "Thread", sort: "thread", kind: "name", field: "thread", below: ["tid"] },
      { title: "Process", sort: "process", kind: "text", field: "process", below: ["pid"], room: 2 },
      USER,
      PLACE,
      ...TRAFFIC,
    ],
  },
  {
    noun: "sockets",
    title: "Sockets",
    letter: "s",
    key: ["cookie", "network_namespace"],
    columns: [
      { title: "Process", sort: "process", kind: "name", field: "process", below: ["pid", "protocol"] },
      { title: "Local", sort: "local_address", kind: "endpoint", field: "local", room: 2 },
      { title: "Remote", sort: "remote_address", kind: "endpoint", field: "remote", room: 2 },
      ...TRAFFIC,
    ],
  },
  {
    noun: "hosts",
    title: "Hosts",
    letter: "h",
    key: ["address", "device"],
    columns: [
      { title: "Address", sort: "address", kind: "name", field: "address", mono: true },
      { title: "Device", sort: "device", kind: "text", field: "device", empty: "this host", room: 2 },
      { title: "Connections", kind: "connections", room: 2 },
      ...TRAFFIC,
      { title: "Last use", sort: "last_use_time_seconds", kind: "moment", field: "last_use_time_seconds", room: 3 },
    ],
  },
  {
    noun: "exits",
    title: "Exits",
    letter: "e",
    key: ["number"],
    columns: [
      { title: "Process", sort: "process", kind: "name", field: "process", below: ["pid"] },
      { title: "Ended", sort: "end_time_seconds", kind: "moment", field: "end_time_seconds" },
      { title: "Outcome", sort: "outcome", kind: "outcome" },
      { title: "Lived", kind: "lifetime", room: 2 },
      GROUP,
      USER,
      PLACE,
      { title: "Received", sort: "totals.receive_bytes", kind: "total", field: "receive_bytes" },
      { title: "Transmitted", sort: "totals.transmit_bytes", kind: "total", field: "transmit_bytes" },
    ],
  },
];

/** Numbers come the greatest first, names the least first. */
export function usualOrder(sort) {
  const greatest = ["processes", "end_time_seconds", "last_use_time_seconds"];
  return sort.includes(".") || greatest.includes(sort) ? "descending" : "ascending";
}

/** What a row is known again by. */
export function keyOf(view, row) {
  return JSON.stringify(view.key.map((field) => row[field] ?? null));
}
