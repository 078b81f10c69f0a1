# SPDX-License-Identifier: Apache-2.0
"""The nouns: what the kernel said at one instant (Snapshot) and what it means (Report).

All frozen. Counters are plain tuples, because a scrape adds thousands of them.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOLS: Final = ("tcp", "udp", "icmp", "other")
DIRECTIONS: Final = ("receive", "transmit")
UNITS: Final = ("packets", "bytes")
REASONS: Final = ("no_socket", "kernel", "no_owner", "overflow")
OUTCOMES: Final = ("exit", "error", "signal")

Counters: TypeAlias = tuple[int, ...]
"""16 numbers: for each protocol, each direction, packets and bytes; the last varies fastest."""

Remotes: TypeAlias = tuple[int, ...]
"""64 numbers: for each class of remote addresses, each direction, packets and bytes, likewise."""

ZERO: Final[Counters] = (0,) * (len(PROTOCOLS) * len(DIRECTIONS) * len(UNITS))


def add(a: Counters, b: Counters) -> Counters:
    """Return a + b, element by element."""
    return tuple(map(operator.add, a, b))


def subtract(a: Counters, b: Counters) -> Counters:
    """Return a - b, element by element."""
    return tuple(map(operator.sub, a, b))


def by_direction(numbers: Counters | Remotes) -> tuple[int, ...]:
    """Return the sums of packets and bytes for each direction, whatever else they are told by."""
    return tuple(sum(numbers[place::4]) for place in range(4))


def pick(counters: Counters, protocol: str, direction: str, unit: str) -> int:
    """Return one number of sixteen."""
    return counters[
        (PROTOCOLS.index(protocol) * len(DIRECTIONS) + DIRECTIONS.index(direction)) * len(UNITS)
        + UNITS.index(unit)
    ]


def outcome(wait_status: int) -> str:
    """Return one of OUTCOMES for a status as wait(2) gives it."""
    if wait_status & 0x7F:
        return "signal"
    return "error" if wait_status else "exit"


class TcpTraffic(NamedTuple):
    """What TCP says of its own sockets: a layer above the counters, never added to them."""

    received_bytes: int
    """Payload, in order."""
    acknowledged_bytes: int
    """Payload that the other side has confirmed."""
    retransmitted_packets: int


class RoundTrips(NamedTuple):
    """Smoothed round-trip times of connections that have ended."""

    counts: tuple[int, ...]
    """By the buckets of ROUND_TRIP_BOUNDS_US, and one for the rest; not cumulative."""
    sum_us: int


ROUND_TRIP_BOUNDS_US: Final = tuple(64 << 2 * i for i in range(9))
"""Upper bounds, inclusive, as bpf/netatop.h has them."""
NO_TCP: Final = TcpTraffic(0, 0, 0)
NO_ROUND_TRIPS: Final = RoundTrips((0,) * (len(ROUND_TRIP_BOUNDS_US) + 1), 0)


class TaskRecord(NamedTuple):
    """A process or thread that has used the network, as the kernel keeps it."""

    identity: int
    """Unique over all processes and threads that are in the table together."""
    process: int
    """The identity of its process; its own if it is one."""
    pid: int
    tid: int
    """The thread's id; of a process, its pid."""
    name: str
    """The command name; bytes that are not UTF-8 are replaced."""
    uid: int
    cgroup_id: int
    start_ns: int
    """Since boot, suspended time included (CLOCK_BOOTTIME)."""
    end_ns: int
    """0 while it lives."""
    wait_status: int
    """As wait(2) gives it."""
    counters: Counters
    threads: int = 0
    """Of a process: those that have ended since the record began; when it has ended, all."""
    sockets: int = 0
    """Of a process: those that it has used."""
    tcp: TcpTraffic = NO_TCP
    round_trips: RoundTrips = NO_ROUND_TRIPS
    remotes: Remotes = ()
    """Of a process: its counters by class of remote address; empty if that is switched off."""

    @property
    def is_process(self) -> bool:
        """Tell a process from a thread."""
        return self.identity == self.process

    @property
    def outcome(self) -> str:
        """Return how a finished task ended: one of OUTCOMES."""
        return outcome(self.wait_status)


class ExitedProcess(NamedTuple):
    """A finished process that had used the network."""

    number: int
    """Counts up; never used again."""
    pid: int
    name: str
    group: str
    uid: int
    cgroup_id: int
    start_ns: int
    end_ns: int
    """Both since boot, as in TaskRecord."""
    wait_status: int
    threads: int
    sockets: int
    counters: Counters
    tcp: TcpTraffic
    final: bool
    """Nothing can join it any more."""
    cgroup: str = ""
    """Path in the version 2 hierarchy; empty if it was gone before anybody asked."""

    @property
    def outcome(self) -> str:
        """Return how it ended: one of OUTCOMES."""
        return outcome(self.wait_status)


class Distribution(NamedTuple):
    """A histogram."""

    counts: tuple[int, ...]
    """By bucket, and one for the rest; not cumulative."""
    sum: float


LIFETIME_BOUNDS: Final = (1, 10, 60, 600, 3600, 86400)
"""Seconds."""
SIZE_BOUNDS: Final = tuple(1000 * 32**i for i in range(5))
"""Bytes: 1 kB, 32 kB, 1 MB, 33 MB, 1 GB."""


class SocketRecord(NamedTuple):
    """A socket that has carried packets."""

    cookie: int
    owner: int
    """Identity of the task that its transmitted packets belong to; 0: nobody."""
    protocol: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    network_namespace: int
    receive_packets: int
    receive_bytes: int
    transmit_packets: int
    transmit_bytes: int
    tcp: TcpTraffic = NO_TCP


class SocketWalk(NamedTuple):
    """What a settle found."""

    counts: Mapping[str, int]
    """Sockets that have an owner, by protocol."""
    sockets: tuple[SocketRecord, ...]
    """Those that have carried packets, if the tracer was asked to list them."""


class ProgramStatus(NamedTuple):
    """One kernel program."""

    name: str
    hook: str
    attached: bool
    runs: int
    run_time_ns: int
    """0, as `runs`, unless the kernel's statistics are on (kernel.bpf_stats_enabled)."""


class TableStatus(NamedTuple):
    """How full a table of the kernel is."""

    name: str
    entries: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All facts at one instant."""

    now_ns: int
    """Since boot, as TaskRecord.start_ns."""
    tasks: tuple[TaskRecord, ...]
    unidentified: Mapping[str, Counters]
    lost: Mapping[tuple[str, str], int]
    """By (object, reason)."""
    tables: tuple[TableStatus, ...]


class ProcessTraffic(NamedTuple):
    """A process that is shown."""

    pid: int
    name: str
    group: str
    counters: Counters
    tcp: TcpTraffic


class ThreadTraffic(NamedTuple):
    """A thread that is shown."""

    pid: int
    tid: int
    name: str
    counters: Counters


class SocketTraffic(NamedTuple):
    """A socket that is shown, with its user."""

    pid: int
    """0: nobody's."""
    name: str
    socket: SocketRecord


@dataclass(frozen=True, slots=True)
class Report:
    """Facts with meaning."""

    total: Counters
    unidentified: Mapping[str, Counters]
    groups: Mapping[str, Counters]
    """All processes of a group, ended ones included: never falls."""
    group_tcp: Mapping[str, TcpTraffic]
    round_trips: Mapping[str, RoundTrips]
    """By group."""
    exited: Mapping[str, Counters]
    """What finished processes had used, by group: never falls."""
    exits: Mapping[tuple[str, str], int]
    """Finished processes by (group, outcome)."""
    lifetimes: Mapping[str, Distribution]
    """Of finished processes, by group, in seconds; each when nothing can join it any more."""
    sizes: Mapping[str, Distribution]
    """What each had received and transmitted, in bytes."""
    processes: tuple[ProcessTraffic, ...]
    threads: tuple[ThreadTraffic, ...]
    sockets: tuple[SocketTraffic, ...]
    exit_list: tuple[ExitedProcess, ...]
    """The last finished processes."""
    exit_list_evicted: int
    """Those that have made room for others."""
    next_exit: int
    """The number of the next one."""
    tasks: Mapping[str, int]
    """Records by kind: process, thread."""
    forgettable: tuple[int, ...]
    """Identities that nothing can be added to any more and that are accounted for."""
