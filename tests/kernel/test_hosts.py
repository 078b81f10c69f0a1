# SPDX-License-Identifier: Apache-2.0
"""What an IP address of this host has used: all that nftables sees of it, and nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter import model
from exporter.attribution.hosts import Hosts
from exporter.kernel.core_loader import Options
from tests import workload
from tests.kernel.lab import open_lab, readable, total
from tests.network import run
from tests.traffic import tcp, udp
from tests.witness import Rule, witness
from tests.workload import CLOSED_PORT, PORT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from exporter.kernel.tracer import Tracer
    from exporter.model import Counters, HostRecord
    from tests.kernel.lab import Lab
    from tests.network import End

pytestmark = [pytest.mark.kernel, pytest.mark.needs("hosts")]

ROOM: Final = 4099
SECOND: Final = {4: "198.51.100.3", 6: "2001:db8::3"}
"""Another address of the left end."""
LENGTHS: Final = {4: 24, 6: 64}
HEADERS: Final = {4: 28, 6: 48}
"""IP and UDP."""
IP_PKTINFO: Final = 8
"""ip(7); Python has no name for it."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Return a lab where addresses are counted."""
    with open_lab(Options(max_hosts=ROOM)) as opened:
        yield opened


def hosts(tracer: Tracer) -> dict[str, HostRecord]:
    """Return this host's own, by address."""
    tracer.settle()
    return {host.address: host for host in tracer.read().hosts}


def used(tracer: Tracer, address: str) -> Counters:
    """Return what an address has used."""
    found = hosts(tracer)
    return found[address].counters if address in found else model.ZERO


def _assert_same(lab: Lab, seen: dict[Any, Counters], *addresses: str) -> None:
    """Hold that these addresses, all of a namespace's, have used what was seen there."""
    found = hosts(lab.tracer)
    counted = total(found[address].counters for address in addresses if address in found)
    end = lab.left if lab.left.address(4) in addresses else lab.right
    assert readable(counted) == readable(seen[end.namespace])


def _both(end: End) -> tuple[str, str]:
    return end.ipv4, end.ipv6


def test_udp_and_tcp(lab: Lab, family: int) -> None:
    """Both ends of an exchange: what the one transmits the other receives."""
    start = lab.read()
    to = lab.right.address(family)
    lab.start(udp.echo, to, 23, at=lab.right).hear()
    lab.start(udp.ask, to, 23, 101, at=lab.left).wait()
    server = lab.start(tcp.serve, to, tcp.exchange, 50_021, at=lab.right)
    server.hear()
    lab.start(tcp.call, to, tcp.exchange, 50_021, at=lab.left).wait()
    server.wait()
    passed = lab.since(start)
    passed.assert_law("tcp", "udp")
    for end in (lab.left, lab.right):
        _assert_same(lab, dict(passed.seen), *_both(end))
    size = 101 + HEADERS[family]
    assert readable(used(lab.tracer, lab.left.address(family)), "udp") == {
        "udp receive": (23, 23 * size),
        "udp transmit": (23, 23 * size),
    }


@pytest.mark.needs("netfilter")
def test_nobodys(lab: Lab, family: int) -> None:
    """What no socket wants, what the kernel answers, and echoes: the address has used it all."""
    start = lab.read()
    to = lab.right.address(family)
    lab.start(workload.knock_tcp, to, 23, at=lab.left).wait()
    lab.start(udp.send, to, 29, 101, CLOSED_PORT, at=lab.left).wait()
    lab.start(workload.echo, to, socket.SOCK_RAW, 31, 7, at=lab.left).wait()
    passed = lab.since(start)
    assert passed.seen[lab.right.namespace][0] == 23
    for end in (lab.left, lab.right):
        _assert_same(lab, dict(passed.seen), *_both(end))


def _add_address(end: End, address: str, family: int, *more: str) -> None:
    """Give an end another address."""
    where = (f"{address}/{LENGTHS[family]}", "dev", end.device, *more, *("nodad",) * (family == 6))
    run("ip", "-n", end.namespace.name, "address", "add", *where)


def _send_from(talk: Connection, sources: list[str], to: str, number: int) -> None:
    """Send through one socket that is bound to no address, from one address after the other."""
    family = tcp.family_of(to)
    with socket.socket(family, socket.SOCK_DGRAM) as own:
        talk.send("ready")
        for _ in range(number):
            for source in sources:
                raw = socket.inet_pton(family, source)
                if family == socket.AF_INET:
                    info = (socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + raw + bytes(4))
                else:
                    info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, raw + bytes(4))
                own.sendmsg([bytes(101)], [info], 0, (to, PORT))


def test_one_socket_of_two_addresses(lab: Lab, family: int) -> None:
    """Each packet belongs to the address that it carries, whatever the socket is bound to."""
    own, other, to = lab.left.address(family), SECOND[family], lab.right.address(family)
    _add_address(lab.left, other, family)
    field = "ip saddr" if family == 4 else "ip6 saddr"
    rules = {
        address: (Rule(True, "udp", "transmit", f"{field} {address} meta l4proto udp"),)
        for address in (own, other)
    }
    lab.start(udp.receive, to, 3 * 23, 101, at=lab.right).hear()
    with (
        witness(lab.left.namespace, rules[own]) as first,
        witness(lab.left.namespace, rules[other]) as second,
    ):
        lab.start(_send_from, [own, other, other], to, 23, at=lab.left).wait()
        lab.read()
        size = 101 + HEADERS[family]
        assert readable(first.read()) == {"udp transmit": (23, 23 * size)}
        assert readable(second.read()) == {"udp transmit": (46, 46 * size)}
        assert used(lab.tracer, own) == first.read()
        assert used(lab.tracer, other) == second.read()


def test_segments() -> None:
    """Of large buffers each segment counts, with its headers, as for the process."""
    with open_lab(Options(max_hosts=ROOM), single_packets=False) as lab:
        start = lab.read()
        to = lab.right.ipv4
        server = lab.start(tcp.serve, to, tcp.drain, 5_000_011, at=lab.right)
        server.hear()
        client = lab.start(tcp.call, to, tcp.pour, 5_000_011, at=lab.left)
        client.wait()
        server.wait()
        passed = lab.since(start)
        assert passed.processes[client.pid][3] > 5_000_011
        for end, process in ((lab.left, client), (lab.right, server)):
            counted = used(lab.tracer, end.ipv4)
            assert readable(counted) == readable(passed.processes[process.pid])


def _hold(talk: Connection, address: str, connections: int, datagrams: int) -> None:
    """Hold connections of TCP and connected sockets of UDP until told."""
    held = [tcp.connect(address) for _ in range(connections)]
    for _ in range(datagrams):
        held.append(socket.socket(tcp.family_of(address), socket.SOCK_DGRAM))
        held[-1].connect((address, CLOSED_PORT))
    talk.send("held")
    talk.recv()
    for one in held:
        one.close()
    talk.send("closed")


def _accept(talk: Connection, address: str, connections: int) -> None:
    with tcp.listen(address) as listener:
        talk.send("ready")
        held = [listener.accept()[0] for _ in range(connections)]
        for one in held:
            tcp.drain(one, 0)
            one.close()


@pytest.mark.parametrize("walk_files", [False, True], ids=["walk-sockets", "walk-files"])
def test_connections(family: int, walk_files: bool) -> None:
    """Each end has as many as there are sockets that are connected, in every walk anew."""
    with open_lab(Options(max_hosts=ROOM, walk_files=walk_files)) as lab:
        own, to = lab.left.address(family), lab.right.address(family)
        server = lab.start(_accept, to, 7, at=lab.right)
        server.hear()
        client = lab.start(_hold, to, 7, 3, at=lab.left)
        client.hear()
        for _ in range(2):
            found = hosts(lab.tracer)
            assert found[own].connections == (7, 3, 0, 0)
            assert found[to].connections == (7, 0, 0, 0)
        client.tell()
        client.hear()
        server.wait()

        def are_over() -> bool:
            found = hosts(lab.tracer)
            return found[own].connections == found[to].connections == (0, 0, 0, 0)

        wait_until(are_over, "the last acknowledgement of the last one")


def _send_to_self(talk: Connection, sources: list[str], to: str) -> None:
    """Send from one address after the other, and receive it all."""
    with udp.bound(to) as receiver:
        for source in sources:
            with socket.socket(tcp.family_of(source), socket.SOCK_DGRAM) as own:
                own.bind((source, 0))
                for _ in range(23):
                    own.sendto(bytes(101), (to, PORT))
        for _ in range(23 * len(sources)):
            receiver.recv(1 << 16)
    talk.send("done")


def test_no_room() -> None:
    """Addresses that find no room are counted together, and the packets that found none."""
    with open_lab(traced=False) as lab:
        lab.trace(Options(max_hosts=1, cgroup_path=str(lab.cgroup)))
        start = lab.read()
        sources = [f"127.0.0.{number}" for number in range(11, 16)]
        lab.start(_send_to_self, sources, "127.0.0.16", at=lab.left).wait()
        passed = lab.since(start)
        bytes_each = 23 * (HEADERS[4] + 101)
        sent = 5 * 23, 5 * bytes_each
        assert readable(passed.seen[lab.left.namespace]) == {
            "udp receive": sent,
            "udp transmit": sent,
        }
        found = hosts(lab.tracer)
        assert found.keys() == {"", sources[0]}
        assert readable(found[sources[0]].counters) == {"udp transmit": (23, bytes_each)}
        assert readable(found[""].counters) == {
            "udp receive": sent,
            "udp transmit": (4 * 23, 4 * bytes_each),
        }
        assert passed.lost == {("host", "full"): 9 * 23}


def test_idle(lab: Lab) -> None:
    """One that leaves takes nothing from the whole, and begins anew when it comes back."""
    ledger = Hosts()
    to = lab.right.ipv4
    lab.start(udp.receive, to, 23 + 29, 101, at=lab.right).hear()
    lab.start(udp.send, to, 23, 101, at=lab.left).wait()
    lab.tracer.settle()
    snapshot = lab.tracer.read()
    first = ledger.report(snapshot.hosts, snapshot.now_ns)
    mine = next(host for host in first.hosts if host.address == lab.left.ipv4)
    assert 0 <= snapshot.now_ns - mine.last_ns < 10 * 10**9
    assert mine not in first.idle
    late = ledger.report(snapshot.hosts, mine.last_ns + ledger.idle_ns + 1)
    assert mine in late.idle
    gone = lab.tracer.forget_host(mine.address, "")
    assert gone == mine.counters
    assert lab.tracer.forget_host(mine.address, "") == model.ZERO
    ledger.leave(gone)
    lab.start(udp.send, to, 29, 101, at=lab.left).wait()
    lab.tracer.settle()
    snapshot = lab.tracer.read()
    again = ledger.report(snapshot.hosts, snapshot.now_ns)
    (back,) = (host for host in again.hosts if host.address == lab.left.ipv4)
    assert readable(back.counters) == {"udp transmit": (29, 29 * 129)}
    assert all(now >= then for now, then in zip(again.whole, first.whole, strict=True))


def test_off() -> None:
    """Unless it is asked for nothing is counted by address."""
    with open_lab() as lab:
        lab.start(udp.send, lab.right.ipv4, 23, 101, at=lab.left).wait()
        lab.tracer.settle()
        assert lab.tracer.read().hosts == ()


def _hold_from(talk: Connection, sources: list[str], to: str) -> None:
    """Hold a connected socket of UDP from each address, which sends nothing more."""
    with contextlib.ExitStack() as held:
        for source in sources:
            own = held.enter_context(socket.socket(tcp.family_of(to), socket.SOCK_DGRAM))
            own.bind((source, 0))
            own.connect((to, CLOSED_PORT))
        talk.send("held")
        talk.recv()


def test_connections_without_room() -> None:
    """To count connections of addresses that found no room loses no packet, however often."""
    with open_lab(traced=False) as lab:
        lab.trace(Options(max_hosts=1, cgroup_path=str(lab.cgroup)))
        sources = [f"127.0.0.{number}" for number in range(11, 16)]
        lab.start(_hold_from, sources, "127.0.0.16", at=lab.left).hear()
        for _ in range(3):
            lab.tracer.settle()
            found = lab.tracer.read()
            assert len(found.hosts) == 2
            assert not any(found.lost.values())


TRANSLATE: Final = """
table inet translated {{
    chain out {{
        type nat hook postrouting priority srcnat;
        ip saddr {own} snat ip to {other}
        ip6 saddr {own6} snat ip6 to {other6}
    }}
}}
"""


def test_translated(lab: Lab, family: int) -> None:
    """A connection is of its socket's address, whatever the firewall makes of it outside."""
    for at, address in SECOND.items():
        _add_address(lab.left, address, at, "preferred_lft", "0")  # none is chosen unasked
    text = TRANSLATE.format(
        own=lab.left.ipv4, own6=lab.left.ipv6, other=SECOND[4], other6=SECOND[6]
    )
    lab.left.namespace.run("nft", "-f", "-", stdin=text)
    start = lab.read()
    to = lab.right.address(family)
    server = lab.start(tcp.serve, to, tcp.exchange, 50_021, at=lab.right)
    server.hear()
    lab.start(tcp.call, to, tcp.exchange, 50_021, at=lab.left).wait()
    server.wait()
    passed = lab.since(start)
    own = used(lab.tracer, lab.left.address(family))
    assert readable(own, "tcp") == readable(passed.seen[lab.left.namespace], "tcp")


def _connect_again(_talk: Connection, sources: list[str], to: str) -> None:
    """Connect one socket from one address after the other; it is disconnected by a RST."""
    with socket.socket(tcp.family_of(to)) as own:
        for source in sources:
            own.bind((source, 0))
            own.connect((to, PORT))
            own.send(bytes(1009))
            own.recv(1)
            # AF_UNSPEC, connect(2): Python has no address of that family.
            ctypes.CDLL(None).connect(own.fileno(), bytes(16), 16)


def _answer_until_reset(connection: socket.socket, size: int) -> None:
    """Receive all, answer, and wait for the end."""
    received = 0
    while received < size:
        received += len(connection.recv(4096))
    connection.send(b"!")
    with contextlib.suppress(ConnectionResetError):
        connection.recv(1)


def _accept_each(talk: Connection, address: str, connections: int) -> None:
    with tcp.listen(address) as listener:
        talk.send("ready")
        for _ in range(connections):
            with listener.accept()[0] as one:
                _answer_until_reset(one, 1009)


def test_connected_again(lab: Lab, family: int) -> None:
    """A socket that is disconnected and connected again is of the address that it has then."""
    own, other, to = lab.left.address(family), SECOND[family], lab.right.address(family)
    _add_address(lab.left, other, family)
    version = "ip" if family == 4 else "ip6"
    server = lab.start(_accept_each, to, 3, at=lab.right)
    server.hear()
    with contextlib.ExitStack() as stack:
        seen = {
            address: stack.enter_context(
                witness(
                    lab.left.namespace,
                    [
                        Rule(
                            True, "tcp", direction, f"{version} {field} {address} meta l4proto tcp"
                        )
                        for direction, field in (("transmit", "saddr"), ("receive", "daddr"))
                    ],
                )
            )
            for address in (own, other)
        }
        lab.start(_connect_again, [own, other, own], to, at=lab.left).wait()
        server.wait()
        lab.read()
        for address, connections in ((own, 2), (other, 1)):
            counted = readable(used(lab.tracer, address), "tcp")
            assert counted == readable(seen[address].read())
            # SYN, ACK, data, ACK and RST.
            assert counted["tcp transmit"][0] == 5 * connections
