# SPDX-License-Identifier: Apache-2.0
"""The table of workloads that are held against nftables, each end to the packet and the byte.

`python -m tests.kernel.scenarios` writes it into docs/accuracy.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter import model
from tests import workload
from tests.network import LIBC, checked
from tests.traffic import flood, raw, tcp, udp, uring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from exporter.model import Counters
    from tests.kernel.lab import Lab
    from tests.network import End, Namespace
    from tests.workload import Process

PAGE: Final = Path(__file__).parents[2] / "docs" / "accuracy.md"
BEGIN, END = "<!-- scenarios: begin -->\n", "<!-- scenarios: end -->\n"

NFTABLES: Final = "nftables, both ends"
IP: Final = {4: 20, 6: 40}
BULK: Final = 5_000_011
PROCESSES: Final = 31


class Cast(NamedTuple):
    """Who did it, once all is over."""

    left: tuple[int, ...]
    """Process ids at each end."""
    right: tuple[int, ...]
    nobodys: Mapping[Namespace, Counters] = {}
    """What is unidentified there: the kernel's own."""
    undelivered: Mapping[Namespace, Counters] = {}
    """What nftables saw and no socket received: in no counter."""
    each: Mapping[int, Mapping[str, tuple[int, int]]] = {}
    """What is known beforehand of single processes: packets and bytes, as `readable` has it."""


class Scenario(NamedTuple):
    """One row."""

    title: str
    play: Callable[[Lab, int], Cast]
    protocol: str = "tcp"
    families: tuple[int, ...] = (4, 6)
    copies: int = 1
    """So many sockets at the right end receive each packet."""
    remainder: str = ""
    """What is no process's, for people."""

    @property
    def witness(self) -> str:
        """Return what it is held against."""
        return NFTABLES

    @property
    def name(self) -> str:
        """Return it as a test's id."""
        return self.title.replace(" ", "-").replace("`", "")


class Elsewhere(NamedTuple):
    """A row that a test of its own holds."""

    title: str
    test: str
    """Its module and function."""
    remainder: str = ""
    witness: str = NFTABLES
    families: tuple[int, ...] = (4, 6)


def _play(right: Process, left: Callable[[], Process]) -> Cast:
    """Let the right end be ready before the left one begins; both end by themselves."""
    assert right.hear() == "ready"
    started = left()
    assert started.wait() == 0
    assert right.wait() == 0
    return Cast((started.pid,), (right.pid,))


def _tcp(
    calls: tuple[Any, ...], serves: tuple[Any, ...], connections: int = 1
) -> Callable[[Lab, int], Cast]:
    """One process at each end, with these roles: function and arguments."""

    def play(lab: Lab, family: int) -> Cast:
        address = lab.right.address(family)

        def serve(talk: Connection) -> None:
            tcp.serve(talk, address, *serves, connections=connections)

        def call(talk: Connection) -> None:
            tcp.call(talk, address, *calls, connections=connections)

        return _play(lab.start(serve, at=lab.right), lambda: lab.start(call, at=lab.left))

    return play


def _udp(
    sends: Callable[..., None], receives: Callable[..., None], datagrams: int, *arguments: Any
) -> Callable[[Lab, int], Cast]:
    """One sender, one receiver."""

    def play(lab: Lab, family: int) -> Cast:
        address = lab.right.address(family)
        right = lab.start(receives, address, datagrams, arguments[0], at=lab.right)
        return _play(right, lambda: lab.start(sends, address, datagrams, *arguments, at=lab.left))

    return play


def _udp_echo(lab: Lab, family: int) -> Cast:
    address, datagrams, size = lab.right.address(family), 1009, 211
    right = lab.start(udp.echo, address, datagrams, at=lab.right)
    cast = _play(right, lambda: lab.start(udp.ask, address, datagrams, size, at=lab.left))
    both = datagrams, datagrams * (IP[family] + 8 + size)
    each = {"udp receive": both, "udp transmit": both}
    return cast._replace(each={cast.left[0]: each, cast.right[0]: each})


# Several at a time


def _everybody(left: list[Process], right: list[Process]) -> Cast:
    for process in (*left, *right):
        assert process.wait() == 0
    return Cast(tuple(p.pid for p in left), tuple(p.pid for p in right))


def _thirty(lab: Lab, family: int) -> Cast:
    """Pairs of processes, each with a port and a number of datagrams of its own."""
    address = lab.right.address(family)
    datagrams = [101 + 2 * number for number in range(PROCESSES)]
    right = [
        lab.start(udp.receive, address, n, n, workload.PORT + n, at=lab.right) for n in datagrams
    ]
    for process in right:
        assert process.hear() == "ready"
    left = [lab.start(udp.send, address, n, n, workload.PORT + n, at=lab.left) for n in datagrams]
    cast = _everybody(left, right)
    each = {}
    for sender, receiver, n in zip(left, right, datagrams, strict=True):
        carried = n, n * (IP[family] + 8 + n)
        each[sender.pid] = {"udp transmit": carried}
        each[receiver.pid] = {"udp receive": carried}
    return cast._replace(each=each)


def _thirty_tcp(lab: Lab, family: int) -> Cast:
    """All at the same time, with one server."""
    address = lab.right.address(family)
    right = []
    for number in range(PROCESSES):

        def serve(talk: Connection, port: int = workload.PORT + number) -> None:
            tcp.serve(talk, address, tcp.exchange, 100_003, port=port)

        right.append(lab.start(serve, at=lab.right))
    for process in right:
        assert process.hear() == "ready"
    left = []
    for number in range(PROCESSES):

        def call(talk: Connection, port: int = workload.PORT + number) -> None:
            tcp.call(talk, address, tcp.exchange, 100_003, port=port)

        left.append(lab.start(call, at=lab.left))
    return _everybody(left, right)


def _short_lived(lab: Lab, family: int) -> Cast:
    address, processes, size = lab.right.address(family), 101, 4099

    def serve(talk: Connection) -> None:
        tcp.serve(talk, address, tcp.drain, size, connections=processes)

    right = lab.start(serve, at=lab.right)
    assert right.hear() == "ready"
    parent = lab.start(tcp.short_lived, address, processes, size, at=lab.left)
    children = parent.hear()
    assert parent.wait() == right.wait() == 0
    return Cast(tuple(children), (right.pid,))


def _many_receive(lab: Lab, family: int, *, broadcast: bool) -> Cast:
    datagrams, size, six = 101, 211, family == 6
    if broadcast:
        address = "198.51.100.255"
        right = [lab.start(udp.receive, address, datagrams, size, at=lab.right) for _ in range(3)]
    else:
        where = lab.right.device
        right = [lab.start(udp.join, where, six, datagrams, size, at=lab.right) for _ in range(3)]
    for process in right:
        assert process.hear() == "ready"
    if broadcast:
        left = lab.start(udp.send, address, datagrams, size, at=lab.left)
    else:
        left = lab.start(udp.send_to_group, lab.left.device, six, datagrams, size, at=lab.left)
    carried = datagrams, datagrams * (IP[family] + 8 + size)
    cast = _everybody([left], right)
    if broadcast:  # the sender's host gets it too, where nobody wants it
        cast = cast._replace(undelivered={lab.left.namespace: counters(udp_receive=carried)})
    return cast._replace(each={pid: {"udp receive": carried} for pid in cast.right})


def _multicast(lab: Lab, family: int) -> Cast:
    return _many_receive(lab, family, broadcast=False)


def _broadcast(lab: Lab, family: int) -> Cast:
    return _many_receive(lab, family, broadcast=True)


# Elsewhere than between two ends


def _loopback(lab: Lab, family: int) -> Cast:
    address = "127.0.0.1" if family == 4 else "::1"

    def serve(talk: Connection) -> None:
        tcp.serve(talk, address, tcp.exchange, BULK)

    def call(talk: Connection) -> None:
        tcp.call(talk, address, tcp.exchange, BULK)

    lab.left.namespace.run("ip", "link", "set", "dev", "lo", "gso_max_segs", "1")
    for feature in ("tso", "gso", "gro"):
        lab.left.namespace.run("ethtool", "-K", "lo", feature, "off")
    right = lab.start(serve, at=lab.left)
    cast = _play(right, lambda: lab.start(call, at=lab.left))
    return Cast(cast.left + cast.right, ())


CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000


def _contained(talk: Connection, address: str, size: int) -> None:
    """Be the first process of new mount and pid namespaces; says the id that it has outside."""
    checked(LIBC.unshare(CLONE_NEWNS | CLONE_NEWPID))
    child = os.fork()
    if not child:
        status = 70
        try:
            assert os.getpid() == 1
            tcp.call(talk, address, tcp.pour, size)
            status = 0
        finally:
            os._exit(status)
    talk.send(child)
    assert os.waitpid(child, 0)[1] == 0


def _namespaces(lab: Lab, family: int) -> Cast:
    address = lab.right.address(family)

    def serve(talk: Connection) -> None:
        tcp.serve(talk, address, tcp.drain, BULK)

    right = lab.start(serve, at=lab.right)
    assert right.hear() == "ready"
    parent = lab.start(_contained, address, BULK, at=lab.left)
    child = parent.hear()
    assert parent.wait() == right.wait() == 0
    return Cast((child,), (right.pid,))


# MPTCP


def _add_address(end: End, family: int) -> None:
    """Add one that the kernel will open a subflow from, and that nobody chooses for another."""
    address, *how = {
        4: ("198.51.100.11/24",),
        6: ("2001:db8::11/64", "nodad", "preferred_lft", "0"),
    }[family]
    run = end.namespace.run
    run("ip", "address", "add", address, "dev", end.device, *how)
    run("ip", "mptcp", "endpoint", "add", address.split("/", maxsplit=1)[0], "subflow")


def _mptcp(calls: int, serves: int, subflows: int = 1) -> Callable[[Lab, int], Cast]:
    """Speak MPTCP, or TCP, at each end."""

    def play(lab: Lab, family: int) -> Cast:
        address = lab.right.address(family)
        for end in (lab.left, lab.right):
            end.namespace.set("net.mptcp.enabled", 1)
            limits = ("subflow", "2", "add_addr_accepted", "2")
            end.namespace.run("ip", "mptcp", "limits", "set", *limits)
        if subflows > 1:
            _add_address(lab.left, family)

        def serve(talk: Connection) -> None:
            tcp.serve(talk, address, tcp.answer_each, BULK, protocol=serves)

        def call(talk: Connection) -> None:
            tcp.call(talk, address, tcp.ask_twice, BULK, subflows, protocol=calls)

        return _play(lab.start(serve, at=lab.right), lambda: lab.start(call, at=lab.left))

    return play


# Raw


def _raw(lab: Lab, family: int) -> Cast:
    address, packets, size = lab.right.address(family), 101, 211
    right = lab.start(raw.receive, address, packets, size, at=lab.right)
    cast = _play(right, lambda: lab.start(raw.send, address, packets, size, at=lab.left))
    carried = packets, packets * (IP[family] + size)
    return cast._replace(
        each={
            cast.left[0]: {"other transmit": carried},
            cast.right[0]: {"other receive": carried},
        }
    )


SYNS: Final = 100_000


def _wait_for_stop(talk: Connection, address: str) -> None:
    with tcp.listen(address):
        talk.send("ready")
        talk.recv()


def _syn_flood(lab: Lab, family: int) -> Cast:
    address = lab.right.address(family)
    lab.right.namespace.set("net.ipv4.tcp_syncookies", 1)
    lab.right.namespace.set("net.ipv4.tcp_synack_retries", 0)
    route = ("route", "add", flood.STRANGERS[family], "via", lab.left.address(family))
    lab.right.namespace.run("ip", f"-{family}", *route)
    left = lab.start(flood.syns, address, SYNS, at=lab.left)
    assert left.hear() == "ready"
    right = lab.start(_wait_for_stop, address, at=lab.right)
    assert right.hear() == "ready"
    sockets, tasks = _size(lab)
    left.tell("go")
    assert left.wait() == 0
    assert _size(lab) == (sockets, tasks + 1), "the sender, and no more"
    right.tell("stop")
    cast = _everybody([left], [right])
    syns = SYNS, SYNS * (IP[family] + 20)
    cookies = lab.right.namespace.counters("netstat")["TcpExt.SyncookiesSent"]
    answers = counters(tcp_transmit=(cookies, cookies * (IP[family] + 24)))  # with MSS
    return cast._replace(
        each={left.pid: {"tcp transmit": syns}, right.pid: {"tcp receive": syns}},
        nobodys={lab.right.namespace: answers},
    )


def _size(lab: Lab) -> tuple[int, int]:
    """Return how many TCP sockets of the lab are remembered, and how many tasks."""
    mine, places = lab.cgroup.stat().st_ino, {lab.left.namespace.inode, lab.right.namespace.inode}
    walk = lab.tracer.settle(list_sockets=True)
    sockets = sum(one.protocol == "tcp" and one.network_namespace in places for one in walk.sockets)
    return sockets, sum(task.cgroup_id == mine for task in lab.tracer.read().tasks)


# Ends of connections


def _time_wait(lab: Lab, family: int) -> Cast:
    connections, address = 31, lab.right.address(family)
    right = lab.start(workload.serve_tcp_late, address, connections, at=lab.right)
    assert right.hear() == "listening"
    left = lab.start(workload.send_tcp_and_leave, address, connections, 4099, at=lab.left)
    assert left.hear() == "gone"
    left.wait()
    right.tell("close")
    cast = _everybody([left], [right])
    # FIN and ACK, each with a time stamp
    both = connections, connections * (IP[family] + 32)
    return cast._replace(
        nobodys={lab.left.namespace: counters(tcp_receive=both, tcp_transmit=both)}
    )


def counters(**pairs: tuple[int, int]) -> Counters:
    """Return counters from packets and bytes, by protocol_direction."""
    return tuple(
        number
        for protocol in model.PROTOCOLS
        for direction in model.DIRECTIONS
        for number in pairs.get(f"{protocol}_{direction}", (0, 0))
    )


SCENARIOS: Final = (
    Scenario("TCP, 20,000,003 bytes", _tcp((tcp.pour, 20_000_003), (tcp.drain, 20_000_003))),
    Scenario("TCP, 1,009 connections of 101 bytes", _tcp((tcp.pour, 101), (tcp.drain, 101), 1009)),
    Scenario("TCP, full duplex", _tcp((tcp.exchange, BULK), (tcp.exchange, BULK))),
    Scenario("TCP, a slow drip of single bytes", _tcp((tcp.drip, 101, 0.005), (tcp.drain, 101))),
    Scenario(
        "TCP, half closed for most of its life",
        _tcp((tcp.ask, 4099, BULK), (tcp.answer, 4099, BULK), 3),
    ),
    Scenario("TCP, ended by RST", _tcp((tcp.pour_until_reset, 4099), (tcp.reset, 4099), 31)),
    Scenario(
        "TCP, ended in TIME_WAIT",
        _time_wait,
        remainder="`kernel`: what arrives for TIME_WAIT, and its answers",
    ),
    Scenario("TCP, both ends on the loopback device", _loopback),
    Scenario("TCP of a process in another mount, pid and network namespace", _namespaces),
    Scenario("TCP, 31 pairs of processes at once", _thirty_tcp),
    Scenario("TCP, 101 processes that live for one connection", _short_lived),
    Scenario("`sendfile`", _tcp((tcp.send_file, BULK), (tcp.drain, BULK))),
    Scenario("`splice` to and from sockets", _tcp((tcp.splice_out, BULK), (tcp.splice_in, BULK))),
    Scenario("`MSG_ZEROCOPY`", _tcp((tcp.zero_copy, BULK), (tcp.drain, BULK))),
    Scenario(
        "`MSG_PEEK` and `MSG_WAITALL`", _tcp((tcp.pour, BULK), (tcp.peek_and_wait, BULK, 40_009))
    ),
    Scenario(
        "TCP, a storm of `EAGAIN` at both ends",
        _tcp((tcp.insist_on_sending, 1_000_003), (tcp.insist, 1_000_003)),
    ),
    Scenario("io_uring, a request at a time", _tcp((uring.pour, BULK), (uring.drain, BULK))),
    Scenario(
        "io_uring, by its polling thread",
        _tcp((uring.pour, BULK, uring.SQPOLL), (uring.drain, BULK, uring.SQPOLL)),
    ),
    Scenario("MPTCP", _mptcp(tcp.IPPROTO_MPTCP, tcp.IPPROTO_MPTCP)),
    Scenario("MPTCP, two subflows", _mptcp(tcp.IPPROTO_MPTCP, tcp.IPPROTO_MPTCP, 2)),
    Scenario("MPTCP, to a client without", _mptcp(0, tcp.IPPROTO_MPTCP)),
    Scenario("MPTCP, to a server without", _mptcp(tcp.IPPROTO_MPTCP, 0)),
    Scenario(
        "SYN flood: 100,000 from 200 addresses; no task and no socket more",
        _syn_flood,
        remainder="`kernel`: SYN cookies",
    ),
    Scenario("UDP, 100,000 small datagrams", _udp(udp.send, udp.receive, 100_000, 23), "udp"),
    Scenario("UDP connected, each datagram answered", _udp_echo, "udp"),
    Scenario("UDP, a server that never answers", _udp(udp.send, udp.receive, 23, 101), "udp"),
    Scenario(
        "`sendmmsg` and `recvmmsg`, 100,000 datagrams",
        _udp(udp.send_many, udp.receive_many, 100_000, 101),
        "udp",
    ),
    Scenario("UDP, a storm of `EAGAIN`", _udp(udp.drip, udp.insist, 101, 211, 0.002), "udp"),
    Scenario("UDP, 31 pairs of processes at once", _thirty, "udp"),
    Scenario("multicast to three receivers", _multicast, "udp", copies=3),
    Scenario(
        "broadcast to three receivers",
        _broadcast,
        *("udp", (4,)),
        copies=3,
        remainder="not counted: the copy to the sender's own host, where no socket takes it",
    ),
    Scenario("raw sockets, protocol 253", _raw, "other"),
)

CAPTURE: Final = "a capture at the far side; the other end"
ELSEWHERE: Final = (
    Elsewhere(
        "connects to a closed port",
        "test_conservation.test_tcp_closed_port",
        "`kernel`: its RSTs; `no_socket`: the SYNs",
    ),
    Elsewhere("UDP in fragments", "test_conservation.test_udp_in_fragments"),
    Elsewhere("UDP to a closed port", "test_conservation.test_udp_closed_port", "`no_socket`"),
    Elsewhere(
        "ICMP echo by raw and by ping socket",
        "test_conservation.test_icmp_echo",
        "`kernel`: the answering side",
    ),
    Elsewhere(
        "TCP in large buffers, cut or merged by the kernel",
        "test_segments.test_tcp_as_on_the_wire",
        witness=CAPTURE,
    ),
    Elsewhere(
        "UDP in large buffers (UDP_SEGMENT, UDP_GRO)",
        "test_segments.test_udp_as_on_the_wire",
        witness=CAPTURE,
    ),
    Elsewhere(
        "packet sockets",
        "test_packet_sockets.test_packet_sockets",
        witness="the calls of both ends",
        families=(),
    ),
    Elsewhere("UDP sockets closed under a flood", "test_races.test_udp_close_under_flood"),
    Elsewhere("TCP connections reset in flight", "test_races.test_tcp_close_in_flight"),
    Elsewhere("TCP connections never accepted", "test_races.test_tcp_never_accepted"),
    Elsewhere(
        "20,000 sockets that come and go while all are settled again and again",
        "test_races.test_settle_while_sockets_come_and_go",
    ),
)


def table() -> str:
    """Return it in Markdown."""
    lines = ["| workload | IP | witness | unidentified |", "| --- | --- | --- | --- |"]
    for row in (*SCENARIOS, *ELSEWHERE):
        families = ", ".join(map(str, row.families)) or "-"
        lines.append(f"| {row.title} | {families} | {row.witness} | {row.remainder or '-'} |")
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Write it into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}")


if __name__ == "__main__":
    main()
