# SPDX-License-Identifier: Apache-2.0
"""The nouns: what the kernel said at one instant (Snapshot) and what it means (Report).

All frozen. Counters are plain tuples, because a scrape adds thousands of them.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Mapping

PROTOCOLS: Final = ("tcp", "udp", "icmp", "other")
DIRECTIONS: Final = ("receive", "transmit")
UNITS: Final = ("packets", "bytes")
TRAFFIC: Final = tuple(f"{d}_{unit}" for d in DIRECTIONS for unit in UNITS)
"""Names of the numbers of one protocol, in their order."""
REASONS: Final = ("no_socket", "kernel", "no_owner", "overflow")
OUTCOMES: Final = ("exit", "error", "signal")

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Counters: TypeAlias = tuple[int, ...]
"""16 numbers: for each protocol, each direction, packets and bytes; the last varies fastest."""

Remotes: TypeAlias = tuple[int, ...]
"""64 numbers: for each class of remote addresses, each direction, packets and bytes, likewise."""

REMOTE_CLASSES: Final = 16
"""As bpf/netatop.h has it."""
ZERO: Final[Counters] = (0,) * (len(PROTOCOLS) * len(DIRECTIONS) * len(UNITS))
WIDTH: Final = len(DIRECTIONS) * len(UNITS)
"""Numbers of one protocol, or of one class of remote addresses."""
NO_REMOTES: Final[Remotes] = (0,) * (REMOTE_CLASSES * WIDTH)


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


def printable(text: str) -> str:
    """Return it without what a terminal, a parser or a reader could be fooled by."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class Group(NamedTuple):
    """What traffic is summed by: a name, and the container in which it is."""

    name: str
    container: str = ""
    """Empty outside of containers."""
    pod: str = ""
    """Empty outside of pods, as `namespace`."""
    namespace: str = ""


OTHER: Final = Group("other")
"""The rest, where the number of series is limited; no process has this group by its name."""


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


KINDS: Final = ("process", "thread", "socket", "host")
"""What is bounded: only the busiest have series."""
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
    """The command name; what is not UTF-8 or can't be printed is replaced."""
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
    """Counts up; never used again. Below 0: it has left the exit list."""
    task: TaskRecord
    group: Group
    container: Group
    """Where it was, whatever its group; without a name."""
    cgroup: str
    """Its path; empty if it was gone before anybody asked."""
    final: bool = False
    """Nothing can join it any more."""


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


class LifeEvent(NamedTuple):
    """Something in the life of a process or thread."""

    event: str
    """One of fork, exec, exit, abort (killed by a signal), thread_create, thread_exit."""
    time_ns: int
    """Since boot, as `start_ns`."""
    start_ns: int
    """Of the thread; of a fork, the child's."""
    pid: int
    """Of a fork, the child's."""
    tid: int
    parent: int
    """Pid."""
    name: str
    uid: int
    cgroup_id: int
    wait_status: int
    """Of what ends, as wait(2) gives it; else 0."""


class LifeKey(NamedTuple):
    """By what events are counted: all that the kernel knows of a process's group."""

    name: str
    uid: int
    cgroup_id: int
    """0: the rest, for whom there was no room; then all is empty."""


LIFE_EVENTS: Final = ("fork", "exec", "exit", "abort", "thread_create", "thread_exit")


class SocketWalk(NamedTuple):
    """What a settle found."""

    counts: Mapping[str, int]
    """Sockets that have an owner, by protocol."""
    sockets: tuple[SocketRecord, ...]
    """Those that have carried packets, or all, if the tracer was asked to list them."""


class HostRecord(NamedTuple):
    """An IP address: this host's own, or one behind it."""

    address: str
    """Empty: all those that found no room."""
    device: str
    """The one that leads to it; empty: it is this host's own."""
    counters: Counters
    """Received and transmitted as the address itself sees it."""
    last_ns: int
    """Of use, since boot."""
    connections: tuple[int, ...] = (0, 0, 0, 0)
    """Now, by PROTOCOLS."""


class Connection(NamedTuple):
    """One of an address behind this host; of ICMP, an echo: its identifier is the port."""

    address: str
    port: int
    peer_address: str
    peer_port: int
    protocol: str
    device: str
    traffic: tuple[int, ...]
    """Of the address: packets and bytes received, and transmitted."""
    is_open: bool
    opened_by_peer: bool
    """By whoever sent the first packet that was seen."""
    first_ns: int
    """Since boot, as the next."""
    last_ns: int


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
    lives: Mapping[LifeKey, tuple[int, ...]] = field(default_factory=dict)
    """Events by LIFE_EVENTS, where they are counted."""
    hosts: tuple[HostRecord, ...] = ()
    """IP addresses, where they are counted."""


Traffic: TypeAlias = tuple[int, ...]
"""Counters, and then what TCP says: all numbers that have series of processes and sockets."""
NO_TRAFFIC: Final[Traffic] = (*ZERO, *NO_TCP)


class Member(NamedTuple):
    """A process, thread, socket or IP address that may have series of its own."""

    labels: tuple[str, ...]
    """Values of those that its families have, without the protocol."""
    traffic: Traffic
    is_alive: bool = True
    is_counted: bool = True
    """It is part of what all of its kind have used; else it is nobody's."""


class ProcessTraffic(NamedTuple):
    """A process and what is known of it."""

    task: TaskRecord
    group: Group
    container: Group
    """Where it is, whatever its group; without a name."""
    unit: str
    cgroup: str


class ThreadTraffic(NamedTuple):
    """A thread and its process."""

    task: TaskRecord
    process: ProcessTraffic


class SocketTraffic(NamedTuple):
    """A socket and its user; None if nobody is known to use it."""

    socket: SocketRecord
    user: TaskRecord | None
    """A thread where threads are counted, else a process."""
    process: ProcessTraffic | None


@dataclass(frozen=True, slots=True)
class Report:
    """Facts with meaning."""

    now_ns: int
    """When, since boot."""

    total: Counters
    unidentified: Mapping[str, Counters]
    groups: Mapping[Group, Counters]
    """All processes of a group, ended ones included: never falls."""
    group_tcp: Mapping[Group, TcpTraffic]
    round_trips: Mapping[Group, RoundTrips]
    remotes: Mapping[Group, Mapping[str, tuple[int, ...]]]
    """By group and class of remote address, all protocols together: never falls."""
    exited: Mapping[Group, Counters]
    """What finished processes had used: never falls."""
    exits: Mapping[tuple[Group, str], int]
    """Finished processes by group and outcome."""
    lifetimes: Mapping[Group, Distribution]
    """Of finished processes, by group, in seconds; each when nothing can join it any more."""
    sizes: Mapping[Group, Distribution]
    """What each had received and transmitted, in bytes."""
    processes: Mapping[int, ProcessTraffic]
    """By pid; of those that have had one pid, the last."""
    threads: tuple[ThreadTraffic, ...]
    """Those that are shown, as the sockets below."""
    sockets: tuple[SocketTraffic, ...]
    counted: frozenset[str]
    """The kinds of which any are shown."""
    members: Mapping[str, tuple[Member, ...]]
    """By kind: those that may have series."""
    whole: Mapping[str, Traffic]
    """What all members of a kind have used, those that are gone included: never falls."""
    lives: Mapping[Group, tuple[int, ...]]
    """Events by LIFE_EVENTS, if they are counted: never falls."""
    hosts: tuple[HostRecord, ...]
    """IP addresses, each once for each device that leads to it."""
    idle_hosts: tuple[HostRecord, ...]
    """Those of them that have not been used for so long that they go."""
    final: tuple[ExitedProcess, ...]
    """Finished processes that nothing can join any more, each once."""
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
