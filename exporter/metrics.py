# SPDX-License-Identifier: Apache-2.0
"""Every metric: name, type, labels and help, in one place. Pure: a Report in, families out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from exporter.model import (
    DIRECTIONS,
    LIFETIME_BOUNDS,
    OUTCOMES,
    PROTOCOLS,
    ROUND_TRIP_BOUNDS_US,
    SIZE_BOUNDS,
    UNITS,
    Distribution,
    TcpTraffic,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.model import Counters, ProgramStatus, Report, Snapshot, SocketWalk

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Labels: TypeAlias = tuple[str, ...]
Rows: TypeAlias = "Iterable[tuple[Labels, float]]"

PAST: Final = {"receive": "Received", "transmit": "Transmitted"}
LAYER: Final = "at the IP layer (IP header, transport header and payload; one per segment)"


class Build(NamedTuple):
    """How this program runs: constant labels of two info metrics."""

    version: str
    python: str
    loader: str
    libbpf: str
    kernel: str


class Stage(NamedTuple):
    """One step of a scrape."""

    name: str
    seconds: float
    success: bool


def families(
    report: Report | None,
    snapshot: Snapshot | None,
    walk: SocketWalk | None,
    programs: Iterable[ProgramStatus],
) -> Iterator[Family]:
    """Return all families that the available facts permit."""
    if report is not None:
        yield from _traffic_families(report)
        yield from _exit_families(report)
    if walk is not None:
        yield _gauge(
            "sockets",
            "Sockets of processes.",
            ("protocol",),
            (((protocol,), count) for protocol, count in walk.counts.items()),
        )
    if snapshot is not None:
        yield from _table_families(snapshot)
    yield from _program_families(programs)


def build_families(build: Build) -> Iterator[Family]:
    """Return the two info metrics."""
    yield _gauge(
        "build_info",
        "The version of this exporter.",
        ("version", "python"),
        [((build.version, build.python), 1)],
    )
    yield _gauge(
        "loader_info",
        "How the kernel programs were loaded.",
        ("loader", "libbpf", "kernel"),
        [((build.loader, build.libbpf, build.kernel), 1)],
    )


def stage_families(stages: Iterable[Stage]) -> Iterator[Family]:
    """Return how each stage of the scrape went."""
    stages = tuple(stages)
    yield _gauge(
        "scrape_stage_duration_seconds",
        "Time that a stage of this scrape took; of the stage exposition, in the scrape before.",
        ("stage",),
        (((stage.name,), stage.seconds) for stage in stages),
    )
    yield _gauge(
        "scrape_stage_success",
        "Whether a stage of this scrape succeeded; one that fails costs its own families only.",
        ("stage",),
        (((stage.name,), int(stage.success)) for stage in stages),
    )


def _traffic_families(report: Report) -> Iterator[Family]:
    yield from _traffic("", "of this host", (), [((), report.total)])
    yield from _traffic(
        "unidentified_",
        "that belong to no task, by reason",
        ("reason",),
        (((reason,), counters) for reason, counters in report.unidentified.items()),
    )
    yield from _traffic(
        "group_",
        "of all processes of a group, ended ones included",
        ("group",),
        (((group,), counters) for group, counters in report.groups.items()),
    )
    yield from _traffic(
        "process_",
        "of one process; a pid that is used again starts anew",
        ("pid", "process", "group"),
        (((str(p.pid), p.name, p.group), p.counters) for p in report.processes),
        sparse=True,
    )
    yield from _tcp(
        "group",
        "of all processes of a group",
        ("group",),
        (((group,), tcp) for group, tcp in report.group_tcp.items()),
    )
    yield _histogram(
        "group_tcp_round_trip_seconds",
        "Smoothed round-trip time of TCP connections of a group, one value each, when it ends.",
        tuple(bound / 1e6 for bound in ROUND_TRIP_BOUNDS_US),
        {
            group: Distribution(trips.counts, trips.sum_us / 1e6)
            for group, trips in report.round_trips.items()
        },
    )
    yield from _tcp(
        "process",
        "of one process",
        ("pid", "process", "group"),
        (((str(p.pid), p.name, p.group), p.tcp) for p in report.processes),
    )
    if report.threads:
        yield from _traffic(
            "thread_",
            "of one thread",
            ("pid", "tid", "thread"),
            (((str(t.pid), str(t.tid), t.name), t.counters) for t in report.threads),
            sparse=True,
        )
    if report.sockets:
        yield from _socket_families(report)


def _traffic(
    subject: str,
    meaning: str,
    labels: Labels,
    rows: Iterable[tuple[Labels, Counters]],
    *,
    sparse: bool = False,
) -> Iterator[CounterMetricFamily]:
    """Return four families with `labels` and `protocol`; sparse: only protocols that were used."""
    labels = (*labels, "protocol")
    found = [
        CounterMetricFamily(
            f"netatop_{subject}{direction}_{unit}",
            f"{PAST[direction]} {unit} {meaning}, {LAYER}.",
            labels=labels,
            unit=unit,
        )
        for direction in DIRECTIONS
        for unit in UNITS
    ]
    for values, counters in rows:
        for number, protocol in enumerate(PROTOCOLS):
            part = counters[number * len(found) : (number + 1) * len(found)]
            if any(part) or not sparse:
                for family, value in zip(found, part, strict=True):
                    _add(family, labels, (*values, protocol), value)
    yield from found


PAYLOAD: Final = (
    "as TCP delivers it: another layer than the counters of packets and bytes, never to be added "
    "to them"
)


def _tcp(
    subject: str, meaning: str, labels: Labels, rows: Iterable[tuple[Labels, TcpTraffic]]
) -> Iterator[CounterMetricFamily]:
    """Return three families, without series for those that have not used TCP."""
    used = [(values, tcp) for values, tcp in rows if any(tcp)]
    for number, (name, text) in enumerate(
        (
            ("payload_receive_bytes", f"Payload that was received {meaning}, {PAYLOAD}."),
            (
                "payload_transmit_bytes",
                f"Payload that the other side has acknowledged {meaning}, {PAYLOAD}.",
            ),
            ("retransmitted_packets", f"Segments sent again {meaning}."),
        )
    ):
        yield _counter(
            f"{subject}_tcp_{name}", text, labels, ((values, tcp[number]) for values, tcp in used)
        )


SOCKET_LABELS: Final = (
    "pid",
    "process",
    "protocol",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
)


def _socket_families(report: Report) -> Iterator[Family]:
    """Return four families; two sockets may have equal labels, in two network namespaces."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for pid, name, socket in report.sockets:
        labels = (
            str(pid),
            name,
            socket.protocol,
            socket.local_address,
            str(socket.local_port),
            socket.remote_address,
            str(socket.remote_port),
        )
        found = sums.setdefault(labels, [0] * 7)
        found[0] += socket.receive_packets
        found[1] += socket.receive_bytes
        found[2] += socket.transmit_packets
        found[3] += socket.transmit_bytes
        for number, value in enumerate(socket.tcp, start=4):
            found[number] += value
    for number, (direction, unit) in enumerate((d, u) for d in DIRECTIONS for u in UNITS):
        yield _counter(
            f"socket_{direction}_{unit}",
            f"{PAST[direction]} {unit} of one socket, {LAYER}.",
            SOCKET_LABELS,
            ((labels, values[number]) for labels, values in sums.items()),
        )
    yield from _tcp(
        "socket",
        "of one socket",
        SOCKET_LABELS,
        ((labels, TcpTraffic(*values[4:])) for labels, values in sums.items()),
    )


def _exit_families(report: Report) -> Iterator[Family]:
    yield from _traffic(
        "exited_",
        "that finished processes of a group had used",
        ("group",),
        (((group,), counters) for group, counters in report.exited.items()),
    )
    groups = dict.fromkeys(group for group, _ in report.exits)
    yield _counter(
        "exited_processes",
        "Finished processes that had used the network, by how they ended.",
        ("group", "outcome"),
        (
            ((group, outcome), report.exits.get((group, outcome), 0))
            for group in groups
            for outcome in OUTCOMES
        ),
    )
    yield _histogram(
        "exited_process_lifetime_seconds",
        "How long finished processes had lived; each counts when nothing can join it any more.",
        LIFETIME_BOUNDS,
        report.lifetimes,
    )
    yield _histogram(
        "exited_process_bytes",
        f"What each finished process had received and transmitted, {LAYER}.",
        SIZE_BOUNDS,
        report.sizes,
    )
    yield _gauge(
        "exit_list_processes",
        "Finished processes that are kept to be listed.",
        (),
        [((), len(report.exit_list))],
    )
    yield _counter(
        "exit_list_evicted",
        "Finished processes that made room for others in the list; their traffic is in the sums.",
        (),
        [((), report.exit_list_evicted)],
    )
    yield _gauge(
        "tasks",
        "Records of tasks that have used the network, finished ones included.",
        ("kind",),
        (((kind,), count) for kind, count in report.tasks.items()),
    )


def _table_families(snapshot: Snapshot) -> Iterator[Family]:
    yield _counter(
        "lost",
        "What could not be stored, or a kernel program that could not run.",
        ("object", "reason"),
        snapshot.lost.items(),
    )
    yield _gauge(
        "map_entries",
        "Entries of a kernel table.",
        ("map",),
        (((table.name,), table.entries) for table in snapshot.tables),
    )
    yield _gauge(
        "map_capacity",
        "Entries that a kernel table can hold.",
        ("map",),
        (((table.name,), table.capacity) for table in snapshot.tables),
    )


def _program_families(programs: Iterable[ProgramStatus]) -> Iterator[Family]:
    programs = tuple(programs)
    labels = ("program", "hook")
    yield _gauge(
        "program_attached",
        "Whether a kernel program is attached.",
        labels,
        (((p.name, p.hook), int(p.attached)) for p in programs),
    )
    if any(p.runs for p in programs):  # the kernel's statistics are on
        yield _counter(
            "program_run_seconds",
            "Time that a kernel program has run.",
            labels,
            (((p.name, p.hook), p.run_time_ns / 1e9) for p in programs),
        )
        yield _counter(
            "program_runs",
            "Runs of a kernel program.",
            labels,
            (((p.name, p.hook), p.runs) for p in programs),
        )


def _counter(name: str, text: str, labels: Labels, rows: Rows) -> CounterMetricFamily:
    family = CounterMetricFamily(f"netatop_{name}", text, labels=labels)
    for values, value in rows:
        _add(family, labels, values, value)
    return family


def _histogram(
    name: str, text: str, bounds: Iterable[float], found: Mapping[str, Distribution]
) -> HistogramMetricFamily:
    """Return a histogram by group; groups without a value have no series."""
    family = HistogramMetricFamily(f"netatop_{name}", text, labels=("group",))
    edges = [*map(str, map(float, bounds)), "+Inf"]
    for group, (counts, total) in found.items():
        if any(counts):
            buckets = zip(edges, itertools.accumulate(counts), strict=True)
            family.add_metric((group,), list(buckets), total)
    return family


def _gauge(name: str, text: str, labels: Labels, rows: Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"netatop_{name}", text, labels=labels)
    for values, value in rows:
        _add(family, labels, values, value)
    return family


def _add(
    family: CounterMetricFamily | GaugeMetricFamily, labels: Labels, values: Labels, value: float
) -> None:
    """Add a sample; the library itself would drop labels that have no value without a word."""
    if len(values) != len(labels):
        message = f"{family.name}: {len(values)} label values for the labels {labels}"
        raise ValueError(message)
    family.add_metric(values, value)
