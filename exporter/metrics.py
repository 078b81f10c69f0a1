# SPDX-License-Identifier: Apache-2.0
"""Every metric: name, type, labels and help, in one place. Pure: facts in, tables out."""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from exporter.exposition.family import Family
from exporter.exposition.table import Histogram, Table
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
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from exporter.exposition.labels import Labels
    from exporter.exposition.table import Families, Row
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

Rows: TypeAlias = "Iterable[tuple[Labels, float]]"

GROUP: Final = ("group", "container", "pod", "namespace")
PAST: Final = {"receive": "Received", "transmit": "Transmitted"}
LAYER: Final = "at the IP layer (IP header, transport header and payload; one per segment)"
COLLECTORS: Final = (
    "total",
    "unidentified",
    "groups",
    "remotes",
    "processes",
    "threads",
    "sockets",
    "hosts",
    "exits",
    "lifecycle",
    "tables",
    "programs",
    "exporter",
)
"""Parts of a scrape that can be asked for one by one: named as the flags that switch them on."""
MEMBERS: Final = {"processes": "process", "threads": "thread", "sockets": "socket", "hosts": "host"}
"""Of which kind the members are that a collector shows."""


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


class Facts(NamedTuple):
    """What a scrape knows; None where a stage has failed."""

    report: Report | None = None
    snapshot: Snapshot | None = None
    walk: SocketWalk | None = None
    programs: Sequence[ProgramStatus] = ()
    shown: Mapping[str, Sequence[Member]] = MappingProxyType({})
    """By kind: who has series of his own, for this client; the last of each is `other`."""
    information: Sequence[Labels] = ()
    """The wide labels of processes."""


def families(facts: Facts, wanted: Container[str] = COLLECTORS) -> Iterator[Families]:
    """Return all families of these collectors that the facts permit."""
    for name, collect in _OF_FACTS.items():
        if name in wanted:
            yield from collect(facts)


def build_families(build: Build) -> Iterator[Families]:
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


def reload_families(reload: Reload | None) -> Iterator[Families]:
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


def log_families(log: Log | None) -> Iterator[Families]:
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


def stage_families(stages: Iterable[Stage]) -> Iterator[Families]:
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


def own_families(found: Iterable[Metric]) -> Iterator[Families]:
    """Return what prometheus_client tells of the exporter's own process."""
    for metric in found:
        family = Family(metric.name, metric.type, metric.documentation)
        yield Table((family,), (), [((), (sample.value,)) for sample in metric.samples])


def _total(facts: Facts) -> Iterator[Families]:
    if facts.report:
        yield _traffic("", "of this host", (), [((), facts.report.total)])


def _unidentified(facts: Facts) -> Iterator[Families]:
    if facts.report:
        yield _traffic(
            "unidentified_",
            "that belong to no task, by reason",
            ("reason",),
            (((reason,), counters) for reason, counters in facts.report.unidentified.items()),
        )


def _groups(facts: Facts) -> Iterator[Families]:
    if not facts.report:
        return
    yield _traffic(
        "group_",
        "of all processes of a group, ended ones included",
        GROUP,
        facts.report.groups.items(),
    )
    yield _tcp("group", "of all processes of a group", GROUP, facts.report.group_tcp.items())
    yield _histogram(
        "group_tcp_round_trip_seconds",
        "Smoothed round-trip time of TCP connections of a group, one value each, when it ends.",
        tuple(bound / 1e6 for bound in ROUND_TRIP_BOUNDS_US),
        {
            group: Distribution(trips.counts, trips.sum_us / 1e6)
            for group, trips in facts.report.round_trips.items()
        },
    )


def _remotes(facts: Facts) -> Iterator[Families]:
    if facts.report and facts.report.remotes:
        yield Table(
            _ways("group_remote_", "of a group, by class of the remote address", LAYER),
            (*GROUP, "remote"),
            [
                ((*group, name), numbers)
                for group, classes in facts.report.remotes.items()
                for name, numbers in classes.items()
            ],
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


def _processes(facts: Facts) -> Iterator[Families]:
    """Return what processes have used, and what is known of them."""
    if "process" in facts.shown:
        members = facts.shown["process"]
        meaning = f"of one process; a pid that is used again starts anew; {REST}"
        yield _traffic("process_", meaning, PROCESS, _counters(members), sparse=True)
        yield _tcp("process", f"of one process; {REST}", PROCESS, _payload(members))
    if facts.report:
        yield _gauge(
            "process_info",
            "What is known of a process that has series of its own; empty: nothing.",
            INFORMATION,
            ((values, 1) for values in facts.information),
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


def _threads(facts: Facts) -> Iterator[Families]:
    if "thread" in facts.shown:
        members = facts.shown["thread"]
        yield _traffic("thread_", f"of one thread; {REST}", THREAD, _counters(members), sparse=True)


def _sockets(facts: Facts) -> Iterator[Families]:
    """Return seven families: a socket has one protocol, which is among its labels."""
    if "socket" not in facts.shown:
        return
    members = facts.shown["socket"]
    yield Table(
        _ways("socket_", "of one socket", f"{LAYER}; {REST}"),
        SOCKET,
        [
            (_with_protocol(member.labels, protocol), part)
            for member in members
            for protocol, part in _parts(member.traffic)
            if any(part) or member.labels[0] == OTHER.name
        ],
    )
    rows = ((_with_protocol(labels, "tcp"), tcp) for labels, tcp in _payload(members))
    yield _tcp("socket", f"of one socket; {REST}", SOCKET, rows)


def _with_protocol(labels: Labels, protocol: str) -> Labels:
    """Return the labels of a socket, or of those that are `other`, with this protocol."""
    place = SOCKET.index("protocol")
    return (*labels[:place], protocol, *labels[place + 1 :])


def _hosts(facts: Facts) -> Iterator[Families]:
    if facts.report and "host" in facts.shown:
        members = facts.shown["host"]
        meaning = (
            "of one IP address, as itself sees it: this host's own, or behind the device that "
            f"is named; {REST}"
        )
        yield _traffic("host_", meaning, HOST, _counters(members), sparse=True)
        yield _connections(facts.report, members)


def _connections(report: Report, shown: Sequence[Member]) -> Table:
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


def _exits(facts: Facts) -> Iterator[Families]:
    report = facts.report
    if not report:
        return
    yield _traffic(
        "exited_",
        "that finished processes of a group had used",
        GROUP,
        report.exited.items(),
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


def _lifecycle(facts: Facts) -> Iterator[Families]:
    if facts.report and facts.report.lives:
        yield _counter(
            "lifecycle_events",
            "Events in the lives of processes and threads; an abort is an exit by a signal.",
            (*GROUP, "event"),
            (
                ((*group, event), count)
                for group, counts in facts.report.lives.items()
                for event, count in zip(LIFE_EVENTS, counts, strict=True)
            ),
        )


def _tables(facts: Facts) -> Iterator[Families]:
    if facts.report:
        yield _gauge(
            "tasks",
            "Records of tasks that have used the network, finished ones included.",
            ("kind",),
            (((kind,), count) for kind, count in facts.report.tasks.items()),
        )
    if facts.walk:
        yield _gauge(
            "sockets",
            "Sockets of processes.",
            ("protocol",),
            (((protocol,), count) for protocol, count in facts.walk.counts.items()),
        )
    if facts.snapshot:
        yield _counter(
            "lost",
            "What could not be stored, or a kernel program that could not run.",
            ("object", "reason"),
            facts.snapshot.lost.items(),
        )
        yield _gauge(
            "map_entries",
            "Entries of a kernel table.",
            ("map",),
            (((table.name,), table.entries) for table in facts.snapshot.tables),
        )
        yield _gauge(
            "map_capacity",
            "Entries that a kernel table can hold.",
            ("map",),
            (((table.name,), table.capacity) for table in facts.snapshot.tables),
        )


def _programs(facts: Facts) -> Iterator[Families]:
    programs, labels = facts.programs, ("program", "hook")
    yield _gauge(
        "program_attached",
        "Whether a kernel program is attached, as the kernel says.",
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


_OF_FACTS: Final[Mapping[str, Callable[[Facts], Iterator[Families]]]] = MappingProxyType(
    {
        "total": _total,
        "unidentified": _unidentified,
        "groups": _groups,
        "remotes": _remotes,
        "processes": _processes,
        "threads": _threads,
        "sockets": _sockets,
        "hosts": _hosts,
        "exits": _exits,
        "lifecycle": _lifecycle,
        "tables": _tables,
        "programs": _programs,
    }
)
"""By collector: all but `exporter`, which tells of itself."""


def bound_families(
    tables: Iterable[Families], limits: Mapping[str, int], more: int = 0
) -> Iterator[Families]:
    """Return how many series each kind has in these tables, and how many it may have.

    more: series that a group may have beside those of every configuration.
    """
    each = {**EACH, "group": EACH["group"] + more}
    series = dict.fromkeys(limits, 0)
    for table in tables:
        kind = table.families[0].name.removeprefix("netatop_").partition("_")[0]
        kind = "group" if kind in {"exited", "lifecycle"} else kind
        if kind in series:
            series[kind] += table.series
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


def _ways(subject: str, meaning: str, layer: str = LAYER) -> tuple[Family, ...]:
    """Return four families: packets and bytes, received and transmitted."""
    return tuple(
        Family(
            f"netatop_{subject}{direction}_{unit}",
            "counter",
            f"{PAST[direction]} {unit} {meaning}, {layer}.",
        )
        for direction in DIRECTIONS
        for unit in UNITS
    )


def _traffic(
    subject: str,
    meaning: str,
    labels: Labels,
    rows: Iterable[tuple[Labels, Counters]],
    *,
    sparse: bool = False,
) -> Table:
    """Return four families with `labels` and `protocol`; sparse: only protocols that were used.

    All of them for `other`: what is added to a series that was not there before is not seen.
    """
    return Table(
        _ways(subject, meaning),
        (*labels, "protocol"),
        [
            ((*values, protocol), part)
            for values, counters in rows
            for protocol, part in _parts(counters)
            if any(part) or not sparse or values[0] == OTHER.name
        ],
    )


def _parts(counters: Counters) -> Iterator[tuple[str, Counters]]:
    """Yield the numbers of each protocol."""
    for protocol, place in _PLACES:
        yield protocol, counters[place]


_PLACES: Final = tuple(
    (protocol, slice(number * WIDTH, (number + 1) * WIDTH))
    for number, protocol in enumerate(PROTOCOLS)
)
PAYLOAD: Final = (
    "as TCP delivers it: another layer than the counters of packets and bytes, never to be added "
    "to them"
)


def _tcp(subject: str, meaning: str, labels: Labels, rows: Iterable[Row]) -> Table:
    """Return three families, without series for those that have not used TCP."""
    return Table(
        tuple(
            Family(f"netatop_{subject}_tcp_{name}", "counter", text)
            for name, text in (
                ("payload_receive_bytes", f"Payload that was received {meaning}, {PAYLOAD}."),
                (
                    "payload_transmit_bytes",
                    f"Payload that the other side has acknowledged {meaning}, {PAYLOAD}.",
                ),
                ("retransmitted_packets", f"Segments sent again {meaning}."),
            )
        ),
        labels,
        [(values, tcp) for values, tcp in rows if any(tcp) or values[:1] == (OTHER.name,)],
    )


def _counters(members: Iterable[Member]) -> Iterator[tuple[Labels, Counters]]:
    return ((member.labels, member.traffic) for member in members)


def _payload(members: Iterable[Member]) -> Iterator[tuple[Labels, Traffic]]:
    return ((member.labels, member.traffic[len(ZERO) :]) for member in members)


def _counter(name: str, text: str, labels: Labels, rows: Rows) -> Table:
    return _single(Family(f"netatop_{name}", "counter", text), labels, rows)


def _gauge(name: str, text: str, labels: Labels, rows: Rows) -> Table:
    return _single(Family(f"netatop_{name}", "gauge", text), labels, rows)


def _single(family: Family, labels: Labels, rows: Rows) -> Table:
    return Table((family,), labels, [(values, (value,)) for values, value in rows])


def _histogram(
    name: str, text: str, bounds: tuple[float, ...], found: Mapping[Group, Distribution]
) -> Histogram:
    """Return a histogram by group; groups without a value have no series."""
    return Histogram(
        Family(f"netatop_{name}", "histogram", text),
        GROUP,
        bounds,
        [
            (group, (*itertools.accumulate(counts), sum(counts), total))
            for group, (counts, total) in found.items()
            if any(counts)
        ],
    )
