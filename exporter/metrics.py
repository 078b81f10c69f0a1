# SPDX-License-Identifier: Apache-2.0
"""Every metric: name, type, labels and help, in one place. Pure: a Report in, families out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from exporter.model import (
    DIRECTIONS,
    LIFE_EVENTS,
    LIFETIME_BOUNDS,
    NO_TCP,
    NO_TRAFFIC,
    OTHER,
    OUTCOMES,
    PROTOCOLS,
    ROUND_TRIP_BOUNDS_US,
    SIZE_BOUNDS,
    UNITS,
    WIDTH,
    ZERO,
    Distribution,
    TcpTraffic,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from exporter.model import (
        Counters,
        Group,
        Member,
        ProgramStatus,
        Report,
        Snapshot,
        SocketWalk,
        Traffic,
    )

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Labels: TypeAlias = tuple[str, ...]
Rows: TypeAlias = "Iterable[tuple[Labels, float]]"

GROUP: Final = ("group", "container", "pod", "namespace")
PAST: Final = {"receive": "Received", "transmit": "Transmitted"}
LAYER: Final = "at the IP layer (IP header, transport header and payload; one per segment)"


class Build(NamedTuple):
    """How this program runs: constant labels of two info metrics."""

    version: str
    python: str
    loader: str
    libbpf: str
    kernel: str
    layout: str = ""
    """Fingerprint of the structs that the kernel programs share with us."""
    owners: str = ""
    """How users of sockets are known: exporter.kernel.tracer."""


class Stage(NamedTuple):
    """One step of a scrape."""

    name: str
    seconds: float
    success: bool


class Reload(NamedTuple):
    """How the last reading of the configuration file went."""

    success: bool
    at_seconds: float
    """When one last succeeded, since the epoch."""


def families(
    report: Report | None,
    shown: Mapping[str, Sequence[Member]],
    snapshot: Snapshot | None,
    walk: SocketWalk | None,
    programs: Iterable[ProgramStatus],
) -> Iterator[Family]:
    """Return all families that the available facts permit."""
    if report is not None:
        yield from _traffic_families(report)
        yield from _exit_families(report)
    yield from _member_families(shown)
    if report is not None and "host" in shown:
        yield _connections(report, shown["host"])
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
        ("loader", "libbpf", "kernel", "layout", "owners"),
        [((build.loader, build.libbpf, build.kernel, build.layout, build.owners), 1)],
    )


def reload_families(reload: Reload | None) -> Iterator[Family]:
    """Return what Prometheus says of its own configuration, under the same names."""
    if reload:
        yield _gauge(
            "config_last_reload_successful",
            "Whether the configuration file could be applied when it was last read.",
            (),
            [((), int(reload.success))],
        )
        yield _gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration file was last applied, since the epoch.",
            (),
            [((), reload.at_seconds)],
        )


class Log(Protocol):
    """A log of finished processes."""

    @property
    def written(self) -> int:
        """Return how many were written."""
        ...

    @property
    def lost(self) -> Mapping[str, int]:
        """Return how many were not, by reason."""
        ...


def log_families(log: Log | None) -> Iterator[Family]:
    """Return how the log of finished processes fares."""
    if log:
        yield _counter(
            "exit_log_records",
            "Finished processes that were written to the log.",
            (),
            [((), log.written)],
        )
        yield _counter(
            "exit_log_lost",
            "Finished processes that were not written: less than 5 % of the file system was free, "
            "it refused, or it was too slow.",
            ("reason",),
            (((reason,), count) for reason, count in log.lost.items()),
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
        GROUP,
        report.groups.items(),
    )
    if report.remotes:
        yield from _remote_families(report)
    yield from _tcp("group", "of all processes of a group", GROUP, report.group_tcp.items())
    yield _histogram(
        "group_tcp_round_trip_seconds",
        "Smoothed round-trip time of TCP connections of a group, one value each, when it ends.",
        tuple(bound / 1e6 for bound in ROUND_TRIP_BOUNDS_US),
        {
            group: Distribution(trips.counts, trips.sum_us / 1e6)
            for group, trips in report.round_trips.items()
        },
    )


def _remote_families(report: Report) -> Iterator[Family]:
    rows = [
        ((*group, name), numbers)
        for group, classes in report.remotes.items()
        for name, numbers in classes.items()
    ]
    for number, (direction, unit) in enumerate((d, u) for d in DIRECTIONS for u in UNITS):
        yield _counter(
            f"group_remote_{direction}_{unit}",
            f"{PAST[direction]} {unit} of a group, by class of the remote address, {LAYER}.",
            (*GROUP, "remote"),
            ((labels, numbers[number]) for labels, numbers in rows),
        )


PROCESS: Final = ("pid", "process", "group")
THREAD: Final = ("pid", "tid", "thread")
SOCKET: Final = (
    "pid",
    "process",
    "protocol",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
)
HOST: Final = ("address", "device")
NO_CONNECTIONS: Final = (0,) * len(PROTOCOLS)
REST: Final = "`other` holds what no series of its own could show"


def _member_families(shown: Mapping[str, Sequence[Member]]) -> Iterator[Family]:
    """Return what processes, threads and sockets have used; of each kind the last is `other`."""
    for kind, members in shown.items():
        if kind == "process":
            rows = [(m.labels, m.traffic) for m in members]
            meaning = f"of one process; a pid that is used again starts anew; {REST}"
            yield from _traffic("process_", meaning, PROCESS, rows, sparse=True)
            yield from _tcp("process", f"of one process; {REST}", PROCESS, _tcp_rows(rows))
        elif kind == "thread":
            rows = [(m.labels, m.traffic) for m in members]
            yield from _traffic("thread_", f"of one thread; {REST}", THREAD, rows, sparse=True)
        elif kind == "host":
            rows = [(m.labels, m.traffic) for m in members]
            meaning = (
                "of one IP address, as itself sees it: this host's own, or behind the device that "
                f"is named; {REST}"
            )
            yield from _traffic("host_", meaning, HOST, rows, sparse=True)
        else:
            yield from _socket_families(members)


def _connections(report: Report, shown: Sequence[Member]) -> Family:
    """Return how many each of these addresses has; the last is `other`."""
    there: dict[Labels, tuple[int, ...]] = {
        (host.address, host.device): host.connections for host in report.hosts
    }
    *named, other = (member.labels for member in shown)
    rows = [(labels, there.pop(labels, NO_CONNECTIONS)) for labels in named]
    rest = zip(NO_CONNECTIONS, *there.values(), strict=True)
    rows.append((other, tuple(map(sum, rest))))
    return _gauge(
        "host_connections",
        "Connections of one IP address now: sockets that have a remote address, or what was seen "
        f"at the device; {REST}.",
        (*HOST, "protocol"),
        (
            ((*labels, protocol), count)
            for labels, counts in rows
            for protocol, count in zip(PROTOCOLS, counts, strict=True)
        ),
    )


def information(rows: Iterable[Labels]) -> Iterator[Family]:
    """Return the wide labels of processes, to be joined by `pid` and `process`."""
    yield _gauge(
        "process_info",
        "What is known of a process that has series of its own; empty: nothing.",
        INFORMATION,
        ((row, 1) for row in rows),
    )


INFORMATION: Final = (
    "pid",
    "process",
    "exe",
    "user",
    "cgroup",
    "unit",
    "container",
    "pod",
    "namespace",
    "start",
)


def _traffic(
    subject: str,
    meaning: str,
    labels: Labels,
    rows: Iterable[tuple[Labels, Counters]],
    *,
    sparse: bool = False,
) -> Iterator[CounterMetricFamily]:
    """Return four families with `labels` and `protocol`; sparse: only protocols that were used.

    All of them for `other`: what is added to a series that was not there before is not seen.
    """
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
            part = counters[number * WIDTH : (number + 1) * WIDTH]
            if any(part) or not sparse or values[0] == OTHER.name:
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
    used = [(values, tcp) for values, tcp in rows if any(tcp) or values[:1] == (OTHER.name,)]
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


def _tcp_rows(rows: Iterable[tuple[Labels, Traffic]]) -> Iterator[tuple[Labels, TcpTraffic]]:
    return ((labels, TcpTraffic(*traffic[len(ZERO) :])) for labels, traffic in rows)


def _socket_families(members: Iterable[Member]) -> Iterator[Family]:
    """Return seven families: a socket has one protocol, which is among its labels."""
    parts: list[tuple[Labels, Counters]] = []
    for labels, traffic, *_ in members:
        for number, protocol in enumerate(PROTOCOLS):
            part = traffic[number * WIDTH : (number + 1) * WIDTH]
            if any(part) or labels[0] == OTHER.name:
                parts.append((_with_protocol(labels, protocol), part))
    for number, (direction, unit) in enumerate((d, u) for d in DIRECTIONS for u in UNITS):
        yield _counter(
            f"socket_{direction}_{unit}",
            f"{PAST[direction]} {unit} of one socket, {LAYER}; {REST}.",
            SOCKET,
            ((labels, part[number]) for labels, part in parts),
        )
    rows = ((_with_protocol(labels, "tcp"), traffic) for labels, traffic, *_ in members)
    yield from _tcp("socket", f"of one socket; {REST}", SOCKET, _tcp_rows(rows))


def _with_protocol(labels: Labels, protocol: str) -> Labels:
    """Return the labels of a socket, or of those that are `other`, with this protocol."""
    place = SOCKET.index("protocol")
    return (*labels[:place], protocol, *labels[place + 1 :])


def _exit_families(report: Report) -> Iterator[Family]:
    yield from _traffic(
        "exited_",
        "that finished processes of a group had used",
        GROUP,
        report.exited.items(),
    )
    if report.lives:
        yield _counter(
            "lifecycle_events",
            "Events in the lives of processes and threads; an abort is an exit by a signal.",
            (*GROUP, "event"),
            (
                ((*group, event), count)
                for group, counts in report.lives.items()
                for event, count in zip(LIFE_EVENTS, counts, strict=True)
            ),
        )
    groups = dict.fromkeys(group for group, _ in report.exits)
    yield _counter(
        "exited_processes",
        "Finished processes that had used the network, by how they ended.",
        (*GROUP, "outcome"),
        (
            ((*group, outcome), report.exits.get((group, outcome), 0))
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


def bound_families(
    families: Iterable[Metric], limits: Mapping[str, int], more: int = 0
) -> Iterator[Family]:
    """Return how many series each kind has among these families, and how many it may have.

    more: series that a group may have beside those of every configuration.
    """
    each = {**EACH, "group": EACH["group"] + more}
    series = dict.fromkeys(limits, 0)
    for family in families:
        kind = family.name.removeprefix("netatop_").partition("_")[0]
        kind = "group" if kind in {"exited", "lifecycle"} else kind
        if kind in series:
            series[kind] += len(family.samples)
    yield _gauge(
        "series",
        "Series of a kind in this scrape.",
        ("kind",),
        (((kind,), count) for kind, count in series.items()),
    )
    yield _gauge(
        "series_limit",
        "Series that a kind may have at most, with so many members as the configuration permits.",
        ("kind",),
        (
            ((kind,), limit * each[kind] + OF_OTHER.get(kind, each[kind]))
            for kind, limit in limits.items()
        ),
    )


EACH: Final = {
    "group": 2 * (len(ZERO) + len(NO_TCP))
    + sum(len(bounds) + 3 for bounds in (ROUND_TRIP_BOUNDS_US, LIFETIME_BOUNDS, SIZE_BOUNDS)),
    "process": len(NO_TRAFFIC) + 1,
    "thread": len(ZERO),
    "socket": WIDTH + len(NO_TCP),
    "host": len(ZERO) + len(PROTOCOLS),
}
"""Series of one member, at most: what finished processes of a group had used counts with it."""
OF_OTHER: Final = {"process": len(NO_TRAFFIC), "socket": len(NO_TRAFFIC)}
"""Series of `other`, where they are not as many as those of a member."""


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
    name: str, text: str, bounds: Iterable[float], found: Mapping[Group, Distribution]
) -> HistogramMetricFamily:
    """Return a histogram by group; groups without a value have no series."""
    family = HistogramMetricFamily(f"netatop_{name}", text, labels=GROUP)
    edges = [*map(str, map(float, bounds)), "+Inf"]
    for group, (counts, total) in found.items():
        if any(counts):
            buckets = zip(edges, itertools.accumulate(counts), strict=True)
            family.add_metric(group, list(buckets), total)
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
