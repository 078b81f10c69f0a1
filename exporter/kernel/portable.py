# SPDX-License-Identifier: Apache-2.0
"""The portable object: its tables and programs, as a loader must make them.

For kernels on which the main object can't work. One source, bpf/portable.bpf.c, in two dialects
(bpf/dialect.h): compiled beforehand for libbpf, or by bcc at start. A loader is a function that
takes a Blueprint and returns Descriptors: all of its tables, made with these sizes, and its
programs, loaded; it attaches nothing. PortableTracer does the rest with system calls.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from exporter.kernel import layouts
from exporter.kernel.kinds import MapType, ProgramType

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.kernel.holding import Descriptors


NO_PREALLOC: Final = 1
"""BPF_F_NO_PREALLOC: a trie must have it, and tables that tracing programs write must not:
from Linux 5.7 to 6.0 the kernel warns of those."""


class MapShape(NamedTuple):
    """A table."""

    kind: MapType
    key_size: int
    value_size: int
    entries: int
    flags: int = 0


class Hook(enum.Enum):
    """How a program is attached."""

    CGROUP = "cgroup"
    RAW_TRACEPOINT = "raw_tracepoint"
    KPROBE = "kprobe"
    KRETPROBE = "kretprobe"
    ITERATOR = "iterator"
    """Over the files of all tasks (Linux 5.8); libbpf only."""
    RUN = "run"
    """Not attached: run by BPF_PROG_TEST_RUN."""


class Program(NamedTuple):
    """A program of the object, by the name of its function in bpf/portable.bpf.c."""

    name: str
    kind: ProgramType
    hook: Hook
    targets: tuple[str, ...] = ()
    """Tracepoint or functions: the same program is attached to each that the kernel has."""
    attach_type: int = 0
    """enum bpf_attach_type: expected when it is loaded, and attached as."""
    without: str = ""
    """What is lost if it can't be loaded or attached; empty: nothing works."""
    in_pairs: bool = False
    """One of two at the same place: when one is skipped, the other runs."""
    whole_host: bool = False
    """What it sees belongs to no cgroup: left out where only a part of the host is counted."""

    @property
    def place(self) -> str:
        """Return where it is attached, as its section in bpf/portable.bpf.c has it."""
        match self.hook:
            case Hook.CGROUP:
                return PLACES[self.attach_type]
            case Hook.RAW_TRACEPOINT:
                return f"raw_tp/{self.targets[0]}"
            case Hook.ITERATOR:
                return "iter/task_file"
            case Hook.RUN:
                return "tc"
        return f"{self.hook.value}/{self.targets[0]}"


PLACES: Final = {
    0: "cgroup_skb/ingress",
    1: "cgroup_skb/egress",
    2: "cgroup/sock_create",
    3: "sockops",
    10: "cgroup/connect4",
    11: "cgroup/connect6",
    12: "cgroup/post_bind4",
    13: "cgroup/post_bind6",
    14: "cgroup/sendmsg4",
    15: "cgroup/sendmsg6",
    19: "cgroup/recvmsg4",
    20: "cgroup/recvmsg6",
    34: "cgroup/sock_release",
}
"""By enum bpf_attach_type."""


class Blueprint(NamedTuple):
    """What a loader is to make."""

    owners: str
    """The set of hooks: one of OWNERS."""
    settings: layouts.PortableSettings
    """libbpf: read-only data; bcc: -DSETTING_<name>=<value> for each, without the fingerprint."""
    maps: dict[str, MapShape]
    programs: tuple[Program, ...]
    """In the order in which they are attached. One that can't be loaded and whose loss is told
    (`without`) is left out of the Descriptors; if another can't be, the loader raises LoadError."""


Load: TypeAlias = "Callable[[Blueprint], Descriptors]"
"""Makes and loads. Raises KernelError, with nothing left behind."""

OWNERS: Final = ("tracepoint", "kprobe", "cgroup")
"""Sets of hooks by which a socket's user is known, best first."""

METERS: Final = 65536
"""Sockets at a time, those that have ended within the last seconds included."""
TASKS: Final = 16384
"""If nothing else is asked for: the table is preallocated, and this is 14 MB."""
LISTENERS: Final = 16384
CALLS: Final = 8192
"""Threads that look at data, or receive through a raw or a packet socket, at a time."""
MOVES: Final = 1024
"""Sockets whose packets are being moved at this instant."""


def maps(max_tasks: int, prefixes: int) -> dict[str, MapShape]:
    """Return all tables, with room for so many tasks and prefixes of remote addresses."""
    task, counters = layouts.TASK.size, layouts.COUNTERS.size
    meter, key, listener = (
        layouts.SOCKET_METER.size,
        layouts.LISTENING.size,
        layouts.LISTENER_OF.size,
    )
    return {
        "meters": MapShape(MapType.HASH, 8, meter, METERS),
        "moves": MapShape(MapType.HASH, 8, 8, MOVES),
        "listeners": MapShape(MapType.HASH, key, listener, LISTENERS),
        "calls": MapShape(MapType.HASH, 8, layouts.CALL.size, CALLS),
        "tasks": MapShape(MapType.HASH, 8, task, max_tasks),
        "blank": MapShape(MapType.ARRAY, 4, task, 1),
        "unidentified": MapShape(MapType.PERCPU_ARRAY, 4, counters, len(layouts.REASONS)),
        "lost": MapShape(MapType.PERCPU_ARRAY, 4, 8, len(layouts.LOSSES)),
        "last_stray": MapShape(MapType.PERCPU_ARRAY, 4, 8, 1),
        "remote_prefixes": MapShape(
            MapType.LPM_TRIE, layouts.REMOTE_PREFIX.size, 4, prefixes + 1, NO_PREALLOC
        ),
    }


UNSEEN_STRAYS: Final = "packets that no socket wanted are not counted (Linux 5.17 has it)"
NOT_SETTLED: Final = "what a closed socket still receives may be counted as nobody's"
NOT_INHERITED: Final = "a connection is nobody's until its process uses it"
NO_NAMES: Final = "a process keeps the name of its first packet"
NOT_CREATED: Final = "a socket is nobody's until its process uses it"
NOT_OPENED: Final = (
    "sockets opened before are nobody's until they are used (Linux 5.8 has it, loader core)"
)
NO_SENDERS: Final = "a socket that is handed on keeps its former sender"
NO_RECEIVERS: Final = "a socket that is handed on keeps its former receiver"
NO_RAW_RECEIVERS: Final = "a raw socket that is handed on keeps its former receiver"
PEEKS: Final = "who only looks at data (MSG_PEEK) is taken for its receiver"
NO_PACKET_SOCKETS: Final = "packet sockets are not counted"
NO_USE: Final = "a UDP socket that is connected or handed on keeps its former owner"
ONLY_CGROUPS: Final = (
    "a socket that is accepted or handed on stays with who listened, connected or bound it "
    "(the kernel has neither kprobes nor the tracepoint sock_send_length of Linux 6.3)"
)
FIRST_DATAGRAM: Final = (
    "with classes of remote addresses, the first datagram of a new sender goes to the former one"
)
FIRST_SEND: Final = "what a TCP socket sends in a new user's first call goes to the former one"

LIVES: Final = (
    Program(
        "follow_exit", ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT, ("sched_process_exit",)
    ),
    Program(
        *("follow_name", ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT, ("task_rename",)),
        without=NO_NAMES,
    ),
    *(
        Program(
            *(name, ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT, ("inet_sock_set_state",)),
            in_pairs=True,
        )
        for name in ("follow_state", "follow_state_spare")
    ),
)
CREATION: Final = (
    Program("own_accepted", ProgramType.SOCK_OPS, Hook.CGROUP, (), 3, NOT_INHERITED),
    Program("own_created", ProgramType.CGROUP_SOCK, Hook.CGROUP, (), 2, NOT_CREATED),
    Program("settle_released", ProgramType.CGROUP_SOCK, Hook.CGROUP, (), 34, NOT_SETTLED),
)
SETTLES: Final = (Program("settle_meters", ProgramType.SCHED_CLS, Hook.RUN),)
OPENED: Final = (Program("walk_files", ProgramType.TRACING, Hook.ITERATOR, (), 28, NOT_OPENED),)
STRAYS: Final = tuple(
    Program(
        *(name, ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT, ("kfree_skb",)),
        without=UNSEEN_STRAYS,
        in_pairs=True,
        whole_host=True,
    )
    for name in ("drop_stray", "drop_stray_spare")
)
PACKETS: Final = (
    Program("count_receive", ProgramType.CGROUP_SKB, Hook.CGROUP, (), 0),
    Program("count_transmit", ProgramType.CGROUP_SKB, Hook.CGROUP, (), 1),
)
"""Attached last: owners are known before the first packet is counted."""

USES: Final = {
    "tracepoint": (
        Program(
            *("own_tcp_sender", ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT),
            *(("tcp_sendmsg_locked",), 0, FIRST_SEND),
        ),
        Program(
            *("own_sender", ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT),
            *(("sock_send_length",), 0, NO_SENDERS),
        ),
        Program(
            *("own_receiver", ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT),
            *(("sock_recv_length",), 0, NO_RECEIVERS),
        ),
    ),
    "kprobe": (
        Program(
            *("enter_send", ProgramType.KPROBE, Hook.KPROBE),
            *(("inet_sendmsg", "inet6_sendmsg", "inet_sendpage"), 0, NO_SENDERS),
        ),
        Program(
            *("enter_receive", ProgramType.KPROBE, Hook.KPROBE),
            *(("inet_recvmsg", "inet6_recvmsg"), 0, PEEKS),
        ),
        Program(
            *("take_tcp", ProgramType.KPROBE, Hook.KPROBE),
            *(("tcp_cleanup_rbuf",), 0, NO_RECEIVERS),
        ),
        Program(
            *("take_udp", ProgramType.KPROBE, Hook.KPROBE),
            *(("skb_consume_udp",), 0, NO_RECEIVERS),
        ),
        Program(
            *("enter_raw", ProgramType.KPROBE, Hook.KPROBE),
            *(("raw_recvmsg", "rawv6_recvmsg", "ping_recvmsg"), 0, NO_RAW_RECEIVERS),
        ),
        Program(
            *("leave_raw", ProgramType.KPROBE, Hook.KRETPROBE),
            *(("raw_recvmsg", "rawv6_recvmsg", "ping_recvmsg"), 0, NO_RAW_RECEIVERS),
        ),
        Program(
            *("enter_packet", ProgramType.KPROBE, Hook.KPROBE),
            *(("packet_sendmsg", "packet_recvmsg"), 0, NO_PACKET_SOCKETS),
        ),
        Program(
            *("leave_packet_send", ProgramType.KPROBE, Hook.KRETPROBE),
            *(("packet_sendmsg",), 0, NO_PACKET_SOCKETS),
        ),
        Program(
            *("leave_packet_receive", ProgramType.KPROBE, Hook.KRETPROBE),
            *(("packet_recvmsg",), 0, NO_PACKET_SOCKETS),
        ),
    ),
    "cgroup": tuple(
        Program(name, kind, Hook.CGROUP, (), attach_type, NO_USE)
        for name, kind, attach_type in (
            ("use_connect4", ProgramType.CGROUP_SOCK_ADDR, 10),
            ("use_connect6", ProgramType.CGROUP_SOCK_ADDR, 11),
            ("use_bind4", ProgramType.CGROUP_SOCK, 12),
            ("use_bind6", ProgramType.CGROUP_SOCK, 13),
            ("use_sendmsg4", ProgramType.CGROUP_SOCK_ADDR, 14),
            ("use_sendmsg6", ProgramType.CGROUP_SOCK_ADDR, 15),
            ("use_recvmsg4", ProgramType.CGROUP_SOCK_ADDR, 19),
            ("use_recvmsg6", ProgramType.CGROUP_SOCK_ADDR, 20),
        )
    ),
}
"""What each set of OWNERS has beside what all have."""


def programs(owners: str) -> tuple[Program, ...]:
    """Return the programs of a set of hooks, in the order in which they are attached."""
    return (*LIVES, *CREATION, *USES[owners], *OPENED, *SETTLES, *STRAYS, *PACKETS)
