// SPDX-License-Identifier: Apache-2.0
// All that is known of one row.

import * as format from "./format.js";
import * as plot from "./plot.js";

const PROTOCOLS = ["tcp", "udp", "icmp", "other"];
const LEFT_OUT = new Set([...PROTOCOLS, "totals", "rates", "history", "tcp_payload", "connections"]);

export class Details {
  constructor(dialog) {
    this.dialog = dialog;
    this.key = null;
    const [name, note, body] = ["name", "note", "body"].map((part) => dialog.querySelector(`#details-${part}`));
    Object.assign(this, { name, note, body, plot: plot.prepare(dialog.querySelector("#details-plot"), 600, 120) });
    dialog.addEventListener("close", () => { this.key = null; });
  }

  open(key, view, row, look) {
    this.key = key;
    this.view = view;
    this.show(row, look);
    this.dialog.showModal();
  }

  /** Show what is new of it; row: undefined if it is not among those shown any more. */
  show(row, look) {
    if (!row) {
      this.note.textContent = "Not among the rows that are shown now; the numbers are its last.";
      return;
    }
    const field = this.view.columns[0].field;
    this.name.replaceChildren(row[field] === null ? "nobody" : format.name(row[field]));
    const [receive, transmit] = ["receive_bytes", "transmit_bytes"].map((what) =>
      row.rates ? format.rate(row.rates[what], look.bits).join(" ") : "–");
    this.note.textContent = row.rates
      ? `receives ${receive}, transmits ${transmit}`
      : "";
    plot.draw(this.plot, row.history, look.ages);
    this.plot.toggleAttribute("hidden", !row.rates);
    this.body.replaceChildren(this.#protocols(row), this.#fields(row));
  }

  #protocols(row) {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const title of ["Total", "Received", "Packets", "Transmitted", "Packets"]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = title;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const protocol of PROTOCOLS) {
      const line = body.insertRow();
      const title = document.createElement("th");
      title.scope = "row";
      title.textContent = protocol;
      line.append(title);
      for (const what of ["receive_bytes", "receive_packets", "transmit_bytes", "transmit_packets"]) {
        const cell = line.insertCell();
        cell.className = row[protocol][what] ? "number" : "number none";
        cell.textContent = format.whole(row[protocol][what]);
      }
    }
    return table;
  }

  #fields(row) {
    const list = document.createElement("dl");
    for (const [field, value] of Object.entries(row)) {
      if (LEFT_OUT.has(field) || value === null) continue;
      const [title, text] = [document.createElement("dt"), document.createElement("dd")];
      title.textContent = field.replace(/_time_seconds$/, "").replaceAll("_", " ");
      if (field.endsWith("_time_seconds")) text.textContent = format.moment(value);
      else text.append(format.name(String(value)));
      list.append(title, text);
    }
    return list;
  }
}
