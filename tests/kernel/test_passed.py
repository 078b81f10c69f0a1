# SPDX-License-Identifier: Apache-2.0
"""A socket that goes from one process to another: the split is exact, to the packet."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from exporter import model
from tests import workload
from tests.kernel.lab import open_lab, readable, total
from tests.traffic import passing, tcp
from tests.traffic.passing import Calls
from tests.workload import CLOSED_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from typing import TypeAlias

    from exporter.model import Counters
    from tests.kernel.lab import Lab, Reading
    from tests.network import End, Namespace
    from tests.traffic.passing import Way
    from tests.workload import Process

    Readable: TypeAlias = dict[str, tuple[int, int]]

pytestmark = [pytest.mark.kernel, pytest.mark.needs("users")]

DELAYED_ACK = 0.25
"""Seconds after which nothing more comes of itself (include/net/tcp.h, TCP_DELACK_MAX: 200 ms)."""
TCP_HEADER, DSS = 32, 28
"""With a time stamp; the option that maps data (RFC 8684, section 3.3)."""


@pytest.fixture
def room() -> Iterator[Lab]:
    """Return the lab, once: the ways to settle all sockets make no difference here."""
    with open_lab() as opened:
        yield opened


class Phases(NamedTuple):
    """What a witness had seen before the hand-over, after the first use, and at the end."""

    start: Counters
    before: Counters
    once: Counters
    end: Counters


def _passed(protocol: str, **phases: tuple[Counters, Counters]) -> dict[str, tuple[int, ...]]:
    """Return what has passed between two phases, by direction, as `readable` has it."""
    return {
        f"{protocol} {direction}": tuple(
            model.pick(to, protocol, direction, unit) - model.pick(since, protocol, direction, unit)
            for unit in model.UNITS
        )
        for direction, (since, to) in phases.items()
    }


def _seen(lab: Lab, namespace: Namespace) -> Counters:
    """Return what nftables has seen there, when all is quiet."""
    time.sleep(DELAYED_ACK)
    return lab.read().seen[namespace]


def _watch(lab: Lab, first: Process, end: End, start: Reading) -> tuple[int, Phases]:
    """Follow a hand-over; return who has it then, and what passed meanwhile."""
    assert first.hear() == "used"
    before = _seen(lab, end.namespace)
    first.tell("pass it on")
    second = first.hear()
    assert first.hear() == "once"
    once = _seen(lab, end.namespace)
    first.tell("go on")
    assert first.hear() == "done"
    seen = _seen(lab, end.namespace)
    return second, Phases(start.seen[end.namespace], before, once, seen)


def _assert_split(lab: Lab, first: Process, end: End, protocol: str, start: Reading) -> None:
    """Hold the split, while both live.

    Transmitted is by who sends; received by who had received when it arrived, so the first answer
    is still the former owner's.
    """
    second, seen = _watch(lab, first, end, start)
    passed = lab.since(start)
    passed.assert_law(protocol)
    assert readable(passed.processes[first.pid], protocol) == _passed(
        protocol, receive=(seen.start, seen.once), transmit=(seen.start, seen.before)
    )
    assert readable(passed.processes[second], protocol) == _passed(
        protocol, receive=(seen.once, seen.end), transmit=(seen.before, seen.end)
    )
    assert passed.lost == {}
    first.tell("end")


@pytest.mark.parametrize("way", passing.WAYS, ids=lambda way: way.__name__)
def test_udp(room: Lab, family: int, way: Way) -> None:
    """Datagrams, each answered."""
    address = room.right.address(family)
    start = room.read()
    room.start(passing.echo_datagrams, address, at=room.right).hear()
    arguments = (passing.open_and_pass, address, socket.SOCK_DGRAM, way)
    first = room.start(*arguments, at=room.left)
    _assert_split(room, first, room.left, "udp", start)


@pytest.mark.parametrize("way", passing.WAYS, ids=lambda way: way.__name__)
def test_tcp(room: Lab, family: int, way: Way) -> None:
    """A connection in the middle of its life."""
    address = room.right.address(family)
    start = room.read()
    room.start(tcp.serve, address, passing.echo_stream, at=room.right).hear()
    arguments = (passing.open_and_pass, address, socket.SOCK_STREAM, way)
    first = room.start(*arguments, at=room.left)
    _assert_split(room, first, room.left, "tcp", start)


@pytest.mark.parametrize("way", [passing.by_message, passing.by_exec], ids=lambda w: w.__name__)
def test_tcp_accepted(room: Lab, family: int, way: Way) -> None:
    """A connection that one process accepts and another one serves."""
    address = room.right.address(family)
    start = room.read()
    first = room.start(passing.accept_and_pass, address, way, at=room.right)
    assert first.hear() == "ready"
    room.start(passing.connect_and_echo, address, at=room.left)
    _assert_split(room, first, room.right, "tcp", start)


@pytest.mark.needs("mptcp")
def test_mptcp(room: Lab, family: int) -> None:
    """Subflows go with the socket above them; its new sender is known after the first call."""
    address = room.right.address(family)
    for end in (room.left, room.right):
        end.namespace.set("net.mptcp.enabled", 1)
    start = room.read()

    def serve(talk: Connection) -> None:
        tcp.serve(talk, address, passing.echo_stream, protocol=tcp.IPPROTO_MPTCP)

    room.start(serve, at=room.right).hear()
    kind = (socket.SOCK_STREAM, passing.by_message, tcp.IPPROTO_MPTCP)
    first = room.start(passing.open_and_pass, address, *kind, at=room.left)
    second, seen = _watch(room, first, room.left, start)
    passed = room.since(start)
    passed.assert_law("tcp")
    packets, size = _passed("tcp", transmit=(seen.start, seen.before))["tcp transmit"]
    headers = {4: 20, 6: 40}[family] + TCP_HEADER + DSS
    assert readable(passed.processes[first.pid], "tcp") == {
        **_passed("tcp", receive=(seen.start, seen.once)),
        "tcp transmit": (packets + 1, size + headers + passing.SIZE),
    }
    carried = total(passed.processes[pid] for pid in (first.pid, second))
    assert readable(carried, "tcp") == readable(passed.seen[room.left.namespace], "tcp")
    first.tell("end")


def test_unconnected(room: Lab, family: int) -> None:
    """Each call names the receiver, which does not exist: no packet but those that were sent."""
    before, after = 23, 13
    address = room.right.address(family)
    start = room.read()
    first = room.start(workload.hand_over, address, CLOSED_PORT, before, after, at=room.left)
    second = first.hear()
    first.wait()

    passed = room.since(start)
    passed.assert_law("udp")
    size = (28 if family == 4 else 48) + len(b"first")
    assert readable(passed.processes[first.pid]) == {"udp transmit": (before, before * size)}
    assert readable(passed.processes[second]) == {"udp transmit": (after, after * size)}


def _sent(family: int, datagrams: int, size: int) -> dict[str, tuple[int, int]]:
    return {"udp transmit": (datagrams, datagrams * ({4: 28, 6: 48}[family] + size))}


def _hand_over(lab: Lab, family: int, first: Calls, second: Calls) -> tuple[Readable, Readable]:
    """Have both send, and return what each has sent."""
    address = lab.right.address(family)
    start = lab.read()
    one = lab.start(passing.hand_over, address, CLOSED_PORT, first, second, at=lab.left)
    other = one.hear()
    one.wait()
    passed = lab.since(start)
    passed.assert_law("udp")
    return readable(passed.processes[one.pid]), readable(passed.processes[other])


def test_longer_header(room: Lab, family: int) -> None:
    """Options of the socket: the first packet is not known by its size, and stays the first's."""
    before, after = 23, 13
    longer = passing.SIZE + {4: 4, 6: 8}[family]
    shares = _hand_over(room, family, Calls(before, options=True), Calls(after))
    assert shares == (_sent(family, before + 1, longer), _sent(family, after - 1, longer))


def test_call_that_fills(room: Lab, family: int) -> None:
    """The second's first call sends nothing: the first's last datagram, as large, stays his."""
    before, after = 23, 13
    shares = _hand_over(room, family, Calls(before), Calls(after, fill=True))
    assert shares == (
        _sent(family, before, passing.SIZE),
        _sent(family, after, 2 * passing.SIZE),
    )


def test_call_that_completes(room: Lab, family: int) -> None:
    """One begins a datagram and the other one sends it, with what he adds: it stays the first's."""
    after = 13
    shares = _hand_over(room, family, Calls(1, fill=True, complete=False), Calls(after))
    assert shares == (
        _sent(family, 1, 2 * passing.SIZE),
        _sent(family, after - 1, passing.SIZE),
    )


def test_cat(room: Lab, family: int) -> None:
    """As inetd has it: a program reads its standard input and writes its standard output."""
    before, after = passing.BEFORE, passing.AFTER
    address = room.right.address(family)
    start = room.read()
    first = room.start(passing.pass_to_cat, address, at=room.right)
    assert first.hear() == "ready"
    room.start(passing.ask, address, before + after, at=room.left).wait()
    cat = first.hear()
    passed = room.since(start)
    first.tell("end")
    first.wait()
    passed.assert_law("udp")
    one, rest = _sent(family, 1, passing.SIZE)["udp transmit"], after - 1
    assert readable(passed.processes[first.pid]) == {
        "udp receive": tuple((before + 1) * n for n in one),
        "udp transmit": tuple(before * n for n in one),
    }
    assert readable(passed.processes[cat]) == {
        "udp receive": tuple(rest * n for n in one),
        "udp transmit": tuple(after * n for n in one),
    }
    assert passed.records[cat].name == "cat"


def test_reader_and_writer(room: Lab, family: int) -> None:
    """Two processes use one connection, one direction each."""
    exchanges = 31
    address = room.right.address(family)
    start = room.read()
    room.start(tcp.serve, address, passing.echo_stream, at=room.right).hear()
    reader = room.start(passing.share, address, exchanges, at=room.left)
    assert reader.hear() == "connected"
    here = room.left.namespace
    connected = _seen(room, here)
    reader.tell("share")
    writer = reader.hear()
    assert reader.hear() == "once"
    once = _seen(room, here)
    reader.tell("go on")
    assert reader.hear() == "done"
    end = _seen(room, here)

    passed = room.since(start)
    passed.assert_law("tcp")
    zero = start.seen[here]
    # Nobody had received when the first answer came, so it is the sender's.
    first_answer = _passed("tcp", receive=(connected, once))["tcp receive"]
    assert readable(passed.processes[writer]) == {
        "tcp receive": first_answer,
        **_passed("tcp", transmit=(connected, end)),
    }
    received = _passed("tcp", receive=(zero, end))["tcp receive"]
    assert readable(passed.processes[reader.pid]) == {
        "tcp receive": tuple(a - b for a, b in zip(received, first_answer, strict=True)),
        **_passed("tcp", transmit=(zero, connected)),
    }
    reader.tell("end")
