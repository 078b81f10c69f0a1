# SPDX-License-Identifier: Apache-2.0
"""One host: who uses its network, where to, and what is lost or of nobody."""

from __future__ import annotations

from grafana.board import Board, Part, exporters
from grafana.panels import (
    ANY_IS_BAD,
    BYTE_RATE,
    COUNT,
    FULL,
    GREEN,
    ORANGE,
    PACKET_RATE,
    RED,
    SECONDS,
    SHARE,
    Column,
    Link,
    Query,
    number,
    rows,
    series,
)
from grafana.promql import HERE, increase, pick, quantile, rate, top, total

TASKS = 'map="tasks"'
TCP = 'protocol="tcp"'
PROCESS = ("job", "instance", "pid", "process", "group")
WIDE = "exe, user, unit, container, pod, namespace"
THREAD = ("pid", "tid", "thread")
SOCKET = (
    *("pid", "process", "protocol"),
    *("local_address", "local_port", "remote_address", "remote_port"),
)
ADDRESS = ("address", "device")
BEFORE_GROUP = ("namespace", "group")
GROUP = Link(
    "Group",
    "This group",
    "netatop-group",
    {"group": "Group", "namespace": "Namespace"},
)


def of_process(expression: str) -> str:
    """Return it with what else is known of the process; `other` and the ended have no more."""
    return (
        f"({expression}) * on (job, instance, pid, process) group_left ({WIDE}) "
        f"netatop_process_info{{{HERE}}} or on (job, instance, pid, process) ({expression})"
    )


def busy(kind: str, direction: str, labels: tuple[str, ...], most: int = 30) -> str:
    """Return the rates of one direction, of those that are busiest in both."""
    receive, transmit = (
        total(rate(f"netatop_{kind}_{name}_bytes_total"), *labels)
        for name in ("receive", "transmit")
    )
    one = {"receive": receive, "transmit": transmit}[direction]
    return f"({one}) and {top(f'({receive}) + ({transmit})', most)}"


def both(kind: str, labels: tuple[str, ...], most: int = 30) -> tuple[Column, Column]:
    """Return the two columns that most tables have."""
    return (
        Column("Transmits", busy(kind, "transmit", labels, most), BYTE_RATE),
        Column("Receives", busy(kind, "receive", labels, most), BYTE_RATE),
    )


def retransmitted(*labels: str) -> str:
    """Return which share of the TCP packets that were sent had been sent before."""
    return (
        f"{total(rate('netatop_group_tcp_retransmitted_packets_total'), *labels)} / "
        f"({total(rate('netatop_group_transmit_packets_total', TCP), *labels)} > 0)"
    )


def by_protocol(metric: str) -> Query:
    """Return a host-wide counter by protocol."""
    return Query(total(rate(metric), "protocol"), "{{protocol}}")


NOW = Part(
    "Now",
    [
        number(
            "Received",
            "Bytes a second, at the IP layer: header, transport header and payload.",
            BYTE_RATE,
            total(rate("netatop_receive_bytes_total")),
        ),
        number(
            "Transmitted",
            "Bytes a second, at the IP layer.",
            BYTE_RATE,
            total(rate("netatop_transmit_bytes_total")),
        ),
        number(
            "Open sockets",
            "Sockets of processes.",
            COUNT,
            total(pick("netatop_sockets")),
        ),
        number(
            "Packets of nobody, share",
            "The share of packets whose process is not known: the reasons no_owner and overflow.",
            SHARE,
            "("
            + " + ".join(
                total(
                    rate(
                        f"netatop_unidentified_{direction}_packets_total",
                        'reason=~"no_owner|overflow"',
                    )
                )
                for direction in ("receive", "transmit")
            )
            + ") / ("
            + " + ".join(
                total(rate(f"netatop_{direction}_packets_total"))
                for direction in ("receive", "transmit")
            )
            + ")",
            steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
        ),
        number(
            "Lost",
            "What could not be stored in the time that is shown. The dashboard of the exporter has "
            "what and why.",
            COUNT,
            total(increase("netatop_lost_total")),
            steps=ANY_IS_BAD,
            instant=True,
        ),
        number(
            "Task table",
            "How full it is; what does not fit belongs to nobody (--tasks.max).",
            SHARE,
            f"max({pick('netatop_map_entries', TASKS)} / {pick('netatop_map_capacity', TASKS)})",
            steps=FULL,
        ),
    ],
)

WHO = Part(
    "Who",
    [
        series(
            "Received by group",
            "The ten groups that receive most: all their processes, ended ones included.",
            BYTE_RATE,
            Query(
                top(total(rate("netatop_group_receive_bytes_total"), *BEFORE_GROUP)),
                "{{namespace}} {{group}}",
            ),
        ),
        series(
            "Transmitted by group",
            "The ten groups that transmit most: all their processes, ended ones included.",
            BYTE_RATE,
            Query(
                top(total(rate("netatop_group_transmit_bytes_total"), *BEFORE_GROUP)),
                "{{namespace}} {{group}}",
            ),
        ),
        rows(
            "Groups now",
            "The fifty busiest groups, containers and pods. A click on a name shows the group.",
            {"group": "Group", "namespace": "Namespace", "pod": "Pod", "container": "Container"},
            *both("group", ("group", "namespace", "pod", "container"), 50),
            links=[GROUP],
        ),
        rows(
            "Processes now",
            "The thirty busiest processes that have series, with what is known of them. `other` is "
            "what no series of its own could show. For sums use groups: a process that lives for "
            "seconds is seen there.",
            {
                "instance": "Instance",
                "pid": "PID",
                "process": "Process",
                "group": "Group",
                "user": "User",
                "exe": "Executable",
                "unit": "Unit",
                "namespace": "Namespace",
                "pod": "Pod",
                "container": "Container",
            },
            *(
                Column(title, of_process(busy("process", direction, PROCESS)), BYTE_RATE)
                for title, direction in (("Transmits", "transmit"), ("Receives", "receive"))
            ),
            links=[GROUP],
        ),
        rows(
            "Threads now",
            "The thirty busiest threads. Needs --collector.threads, or a rule for a group.",
            {"pid": "PID", "tid": "TID", "thread": "Thread"},
            *both("thread", THREAD),
            width=12,
        ),
        series(
            "Finished processes",
            "What finished processes add to their groups, a second: traffic that no series of a "
            "process shows any more.",
            BYTE_RATE,
            Query(
                top(total(rate("netatop_exited_transmit_bytes_total"), *BEFORE_GROUP)),
                "{{namespace}} {{group}}",
            ),
        ),
    ],
)

WHERE_TO = Part(
    "Where to",
    [
        series(
            "Received by class of remote address",
            "From where. Needs --collector.remotes; classes are named in the configuration.",
            BYTE_RATE,
            Query(total(rate("netatop_group_remote_receive_bytes_total"), "remote"), "{{remote}}"),
            stacked=True,
        ),
        series(
            "Transmitted by class of remote address",
            "Where to. Needs --collector.remotes.",
            BYTE_RATE,
            Query(total(rate("netatop_group_remote_transmit_bytes_total"), "remote"), "{{remote}}"),
            stacked=True,
        ),
        rows(
            "Sockets now",
            "The thirty busiest open sockets, with both addresses. Needs --collector.sockets, or a "
            "rule for a group.",
            {
                "pid": "PID",
                "process": "Process",
                "protocol": "Protocol",
                "local_address": "Local address",
                "local_port": "Port",
                "remote_address": "Remote address",
                "remote_port": "Remote port",
            },
            *both("socket", SOCKET),
        ),
        rows(
            "Addresses now",
            "The thirty busiest IP addresses: this host's own, where no device is named, or behind "
            "that device, as they see it. Needs --collector.hosts.",
            {"address": "Address", "device": "Device"},
            *both("host", ADDRESS),
            Column(
                "Connections",
                total(pick("netatop_host_connections"), *ADDRESS),
                COUNT,
            ),
        ),
    ],
)

WHAT = Part(
    "What",
    [
        series(
            "Received by protocol",
            "Bytes a second of this host. other is what a socket carries that is neither TCP nor "
            "UDP nor ICMP: SCTP, raw IP, packet sockets.",
            BYTE_RATE,
            by_protocol("netatop_receive_bytes_total"),
            stacked=True,
        ),
        series(
            "Transmitted by protocol",
            "Bytes a second of this host.",
            BYTE_RATE,
            by_protocol("netatop_transmit_bytes_total"),
            stacked=True,
        ),
        series(
            "Packets received",
            "Packets a second by protocol: many and small ones cost more than their bytes tell.",
            PACKET_RATE,
            by_protocol("netatop_receive_packets_total"),
            width=8,
        ),
        series(
            "Packets transmitted",
            "Packets a second by protocol.",
            PACKET_RATE,
            by_protocol("netatop_transmit_packets_total"),
            width=8,
        ),
        series(
            "Sockets",
            "Sockets of processes by protocol: a leak rises and does not fall.",
            COUNT,
            Query(total(pick("netatop_sockets"), "protocol"), "{{protocol}}"),
            width=8,
        ),
    ],
)

WELL = Part(
    "Is it well, and accounted for",
    [
        series(
            "Segments sent again",
            "The share of TCP packets that had been sent before, of the ten groups with most of "
            "them: loss on the way, or a receiver that is too slow.",
            SHARE,
            Query(top(retransmitted(*BEFORE_GROUP)), "{{namespace}} {{group}}"),
            width=8,
            steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
        ),
        series(
            "Round trip, 95 %",
            "Smoothed round-trip time of TCP connections that ended: 95 % were below.",
            SECONDS,
            Query(
                top(quantile(0.95, "netatop_group_tcp_round_trip_seconds", *BEFORE_GROUP)),
                "{{namespace}} {{group}}",
            ),
            width=8,
        ),
        series(
            "Packets of nobody",
            "Packets a second that belong to no task, by reason: no_socket nobody listened, kernel "
            "its own, no_owner the process is not known, overflow the task table was full.",
            PACKET_RATE,
            *(
                Query(
                    total(rate(f"netatop_unidentified_{direction}_packets_total"), "reason"),
                    f"{{{{reason}}}}, {direction}",
                )
                for direction in ("receive", "transmit")
            ),
            width=8,
        ),
    ],
)

BOARD = Board(
    "netatop-host",
    "netatop / Host",
    "Who uses the network of one host, where to, and what is lost or of nobody.",
    exporters(all_at_first=False),
    [NOW, WHO, WHERE_TO, WHAT, WELL],
)
