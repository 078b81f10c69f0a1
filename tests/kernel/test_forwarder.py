# SPDX-License-Identifier: Apache-2.0
"""Addresses behind this host: what nftables sees a router forward for each, and its connections."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter import model
from exporter.kernel import tc
from exporter.kernel.core_loader import CoreTracer, Options
from tests import workload
from tests.kernel.lab import readable
from tests.kernel.router import INSIDE, OUTSIDE, forward, forward_witness, open_router
from tests.network import run, run_json
from tests.traffic import tcp, tunnel, udp
from tests.workload import CLOSED_PORT, PORT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection as Talk

    from exporter.model import Connection
    from tests.kernel.router import Router
    from tests.workload import Process

pytestmark = [pytest.mark.kernel, pytest.mark.needs("devices")]

HEADERS: Final = {4: 28, 6: 48}
"""IP and UDP."""

SILENT: Final = """
table inet silent {{
    chain drops {{
        type filter hook input priority 0
        tcp dport {port} drop
    }}
}}
"""


@pytest.fixture
def router() -> Iterator[Router]:
    """Return a router that forwards single packets."""
    with open_router() as opened:
        yield opened


def exchange(router: Router, family: int) -> None:
    """Let the left side talk to the right one, over UDP, TCP and ICMP."""
    to = router.right.address(family)
    router.start(udp.echo, to, 23, at=router.right).hear()
    router.start(udp.ask, to, 23, 101, at=router.left).wait()
    server = router.start(tcp.serve, to, tcp.exchange, 50_021, at=router.right)
    server.hear()
    router.start(tcp.call, to, tcp.exchange, 50_021, at=router.left).wait()
    server.wait()
    router.start(workload.echo, to, socket.SOCK_RAW, 31, 7, at=router.left).wait()


def test_forwarded(router: Router, family: int) -> None:
    """The inside's address, both ways, to the packet and byte; the outside's is not asked for."""
    own = router.left.address(family)
    counting = router.count(INSIDE)
    assert router.read(counting).room.entries == 0
    with forward_witness(router.namespace, own) as read:
        exchange(router, family)
        found = router.read(counting)
        assert readable(found.hosts[own, INSIDE].counters) == readable(read())
        assert found.hosts.keys() == {(own, INSIDE), ("", "")}
        assert found.room.entries == len(found.connections) == 3
    size = HEADERS[family] + 101
    assert readable(found.hosts[own, INSIDE].counters, "udp") == {
        "udp receive": (23, 23 * size),
        "udp transmit": (23, 23 * size),
    }
    assert found.lost == {}


def test_two_devices(router: Router, family: int) -> None:
    """Each address is relative to its own device: what the one transmits the other receives."""
    left, right = router.left.address(family), router.right.address(family)
    counting = router.count(INSIDE, OUTSIDE)
    exchange(router, family)
    found = router.read(counting).hosts
    here, there = found[left, INSIDE].counters, found[right, OUTSIDE].counters
    assert any(here)
    for protocol in model.PROTOCOLS:
        for unit in model.UNITS:
            sent = model.pick(here, protocol, "transmit", unit)
            assert sent == model.pick(there, protocol, "receive", unit)
            assert model.pick(here, protocol, "receive", unit) == model.pick(
                there, protocol, "transmit", unit
            )


def test_with_the_router_itself(router: Router, family: int) -> None:
    """What the address exchanges with the router is its traffic, too."""
    own, to = router.left.address(family), router.left.router(family)
    counting = router.count(INSIDE)
    with forward_witness(router.namespace, own, "input", "output") as read:
        router.start(workload.echo, to, socket.SOCK_RAW, 31, 7, at=router.left).wait()
        router.start(udp.send, to, 23, 101, at=router.left).wait()
        assert readable(router.read(counting).hosts[own, INSIDE].counters) == readable(read())


def test_fragments(router: Router, family: int) -> None:
    """Each fragment is a packet of the address; those without ports are in no connection."""
    own, to, size = router.left.address(family), router.right.address(family), 5_003
    counting = router.count(INSIDE)
    with forward_witness(router.namespace, own) as read:
        receiver = router.start(udp.receive, to, 23, size, at=router.right)
        receiver.hear()
        router.start(udp.send, to, 23, size, at=router.left).wait()
        receiver.wait()
        found = router.read(counting)
        counters = found.hosts[own, INSIDE].counters
        assert readable(counters) == readable(read())
    assert model.pick(counters, "udp", "transmit", "packets") == 23 * 4
    (connection,) = found.connections
    assert connection.traffic[2] == 23
    assert (connection.peer_address, connection.peer_port) == (to, PORT)


def test_segments() -> None:
    """A large buffer counts as its segments: as the same connection without such buffers does."""
    size, seen = 5_000_011, []
    for single in (True, False):
        with open_router(single_packets=single) as router:
            own, to = router.left.ipv4, router.right.ipv4
            counting = router.count(INSIDE)
            with forward_witness(router.namespace, own) as read:
                server = router.start(tcp.serve, to, tcp.drain, size, at=router.right)
                server.hear()
                client = router.start(_pour, to, size, at=router.left)
                segments, payload = client.hear()
                server.wait()
                buffers = model.pick(read(), "tcp", "transmit", "packets")
            (connection,) = router.read(counting).connections
            packets, octets = connection.traffic[2:]
            assert packets == segments
            # A SYN has 8 bytes of options more than others (RFC 7323, RFC 2018).
            assert octets == payload + 52 * packets + 8
            seen.append((buffers, packets))
    (single_buffers, single_packets), (buffers, packets) = seen
    assert single_buffers == single_packets
    assert buffers < packets / 2


def _pour(talk: Talk, to: str, size: int) -> None:
    """Send, and say what TCP itself has counted: segments, and payload with what was sent again."""
    with tcp.connect(to) as own:
        tcp.pour(own, size)
        info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
        # Members of struct tcp_info: segments out, bytes sent (include/uapi/linux/tcp.h)
        talk.send(struct.unpack_from("=I60xQ", info, 136))


def _state(connection: Connection) -> tuple[Any, ...]:
    return (
        connection.address,
        connection.peer_address,
        connection.peer_port,
        connection.protocol,
        connection.device,
        connection.is_open,
        connection.opened_by_peer,
    )


def _hold(talk: Talk, address: str) -> None:
    with tcp.connect(address) as held:
        held.sendall(bytes(101))
        assert held.recv(64)
        talk.send("open")
        talk.recv()
        tcp.finish(held)


def _accept(talk: Talk, address: str) -> None:
    with tcp.listen(address) as listener:
        talk.send("ready")
        held, _ = listener.accept()
        held.send(b"welcome")
        tcp.drain(held, 101)
        held.close()


def test_connections(router: Router, family: int) -> None:
    """A connection from the inside and one to it; open, then ended; each with what it has used."""
    left, right = router.left.address(family), router.right.address(family)
    counting = router.count(INSIDE)
    for server, client, opened_by_peer in (
        (router.right, router.left, False),
        (router.left, router.right, True),
    ):
        to = server.address(family)
        accepting = router.start(_accept, to, at=server)
        accepting.hear()
        calling = router.start(_hold, to, at=client)
        calling.hear()
        found = router.read(counting)
        assert found.hosts[left, INSIDE].connections == (1, 0, 0, 0)
        (mine,) = (c for c in found.connections if c.is_open)
        peer_port = PORT if not opened_by_peer else mine.peer_port
        expected = (left, right, peer_port, "tcp", INSIDE, True, opened_by_peer)
        assert _state(mine) == expected
        assert mine.port == (PORT if opened_by_peer else mine.port)
        calling.tell()
        calling.wait()
        accepting.wait()
        found = router.read(counting)
        assert found.hosts[left, INSIDE].connections == (0, 0, 0, 0)
    assert [c.is_open for c in found.connections] == [False, False]
    both = [sum(c.traffic[number] for c in found.connections) for number in range(4)]
    assert found.hosts[left, INSIDE].counters[:4] == tuple(both)


def test_reset(router: Router) -> None:
    """A RST ends it, and the same ports begin another."""
    left, right = router.left, router.right
    counting = router.count(INSIDE)
    for _ in range(2):
        server = router.start(tcp.serve, right.ipv4, _receive_until_reset, 101, at=right)
        server.hear()
        router.start(_reset, right.ipv4, left.ipv4, at=left).wait()
        server.wait()
        (found,) = router.read(counting).connections
        assert not found.is_open
        # SYN, ACK, data and RST of the last one alone.
        assert found.traffic[2:] == (4, 60 + 52 + 153 + 52)


def _receive_until_reset(connection: socket.socket, size: int) -> None:
    """Read it all, and send nothing more: the peer would answer with another RST."""
    tcp.receive(connection, size)
    with pytest.raises(ConnectionResetError):
        connection.recv(1)


def _reset(_talk: Talk, to: str, source: str) -> None:
    """Connect from a port that is always the same, and reset when all has arrived."""
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp.LINGER_0)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.settimeout(workload.PATIENCE)
        own.bind((source, 4093))
        own.connect((to, PORT))
        own.send(bytes(101))
        workload.wait_until(lambda: not _unacknowledged(own), "an acknowledgement")


def _unacknowledged(own: socket.socket) -> int:
    """Return tcpi_unacked (include/uapi/linux/tcp.h, struct tcp_info)."""
    info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[24:28], "little")


def _knock(_talk: Talk, to: str, attempts: int) -> None:
    """Send SYNs and wait for no answer."""
    for _ in range(attempts):
        with socket.socket(tcp.family_of(to)) as own:
            own.setblocking(False)
            own.connect_ex((to, CLOSED_PORT))


def test_silent_connections(router: Router, family: int) -> None:
    """What nobody answered is forgotten in minutes, so that a scan leaves room; others stay."""
    to = router.right.address(family)
    router.right.namespace.run("nft", "-f", "-", stdin=SILENT.format(port=CLOSED_PORT))
    counting = router.count(INSIDE, max_connections=18)
    router.start(_accept, to, at=router.right).hear()
    calling = router.start(_hold, to, at=router.left)
    calling.hear()
    router.start(_knock, to, 17, at=router.left).wait()
    expected = {239: 18, 2: 1, 7198: 1, 3: 0}
    for seconds, connections in expected.items():
        counting.tell(("age", seconds))
        counting.hear()
        found = router.read(counting)
        assert found.hosts[router.left.address(family), INSIDE].connections[0] == connections
        assert len(found.connections) == connections
        assert found.lost == {}


def test_no_room(router: Router) -> None:
    """Who finds none is counted with the rest, and said to be lost; connections likewise."""
    counting = router.count(INSIDE, max_hosts=1, max_connections=3)
    run("ip", "-n", router.left.namespace.name, "address", "add", "192.0.2.3/24", "dev", "eth0")
    receiver = router.start(udp.receive, router.right.ipv4, 7 * 11 + 13, 101, at=router.right)
    receiver.hear()
    for _ in range(7):
        router.start(_send_from, "192.0.2.2", router.right.ipv4, 11, at=router.left).wait()
    router.start(_send_from, "192.0.2.3", router.right.ipv4, 13, at=router.left).wait()
    receiver.wait()
    found = router.read(counting)
    size = 101 + HEADERS[4]
    assert found.hosts.keys() >= {("192.0.2.2", INSIDE), ("", "")}
    assert readable(found.hosts["192.0.2.2", INSIDE].counters, "udp") == {
        "udp transmit": (77, 77 * size)
    }
    assert readable(found.hosts["", ""].counters, "udp") == {"udp transmit": (13, 13 * size)}
    assert found.lost["host", "full"] == 13
    assert found.lost["connection", "full"] == 4 * 11 + 13
    assert found.room == ("connections_behind", 3, 3)


def _send_from(_talk: Talk, source: str, to: str, number: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((source, 0))
        for _ in range(number):
            own.sendto(bytes(101), (to, PORT))


def _devices(counting: Process) -> tuple[str, ...]:
    counting.tell("tend")
    found: tuple[str, ...] = counting.hear()
    return found


def test_device_comes_and_goes(router: Router) -> None:
    """Counting begins when the device is there, and goes on when it is there again."""
    counting = router.count("later", INSIDE)
    assert _devices(counting) == (INSIDE,)
    inside = ("-n", router.namespace.name)
    sent = 0
    for number in (23, 29):
        run("ip", *inside, "link", "add", "later", "type", "veth", "peer", "name", "far")
        run("ip", *inside, "address", "add", "192.0.5.1/24", "dev", "later")
        for device in ("later", "far"):
            run("ip", *inside, "link", "set", device, "up")
        run(
            *("ip", *inside, "neighbour", "replace", "192.0.5.2", "dev", "later"),
            *("lladdr", "02:00:00:00:00:09", "nud", "permanent"),
        )
        assert set(_devices(counting)) == {INSIDE, "later"}
        router.start(udp.send, "192.0.5.2", number, 101).wait()
        sent += number
        hosts = router.read(counting).hosts
        # Two entries of the kernel, by the device's number; both are this address.
        assert readable(hosts["192.0.5.2", "later"].counters, "udp") == {
            "udp receive": (sent, sent * 129)
        }
        run("ip", *inside, "link", "delete", "later")
        assert _devices(counting) == (INSIDE,)
    counting.tell(("forget", "192.0.5.2", "later"))
    assert sum(model.by_direction(part)[0] for part in counting.hear()) == sent


def _without_tcx(talk: Talk, *arguments: Any) -> None:
    """Be a kernel before 6.6: it does not know the link (kernel/bpf/syscall.c, link_create)."""

    def refuse(*_: Any) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    tc.bpf = refuse  # in this process alone
    forward(talk, *arguments)


def _add_device(router: Router, name: str, index: int) -> None:
    """Make a device with this index that leads to 192.0.5.2."""
    inside = ("ip", "-n", router.namespace.name)
    number = ("index", str(index))
    run(*inside, "link", "add", name, *number, "type", "veth", "peer", "name", "far")
    run(*inside, "address", "add", "192.0.5.1/24", "dev", name)
    for device in (name, "far"):
        run(*inside, "link", "set", device, "up")
    run(
        *(*inside, "neighbour", "replace", "192.0.5.2", "dev", name),
        *("lladdr", "02:00:00:00:00:09", "nud", "permanent"),
    )


def _received(router: Router, counting: Process, device: str) -> int:
    """Return how many datagrams 192.0.5.2 has received."""
    found = router.read(counting).hosts[("192.0.5.2", device)]
    return model.pick(found.counters, "udp", "receive", "packets")


@pytest.mark.parametrize("start", [forward, _without_tcx], ids=["tcx", "clsact"])
def test_device_with_the_same_index(router: Router, start: Callable[..., None]) -> None:
    """A device that took the name and the index of another since the last look is attached to."""
    _add_device(router, "later", 4099)
    counting = router.start(start, ("later",), 4099, 4099)
    counting.hear()
    for total, number in ((23, 23), (52, 29)):
        router.start(udp.send, "192.0.5.2", number, 101).wait()
        assert _received(router, counting, "later") == total
        run("ip", "-n", router.namespace.name, "link", "delete", "later")
        _add_device(router, "later", 4099)
        assert _devices(counting) == ("later",)


def test_device_with_another_name(router: Router) -> None:
    """A device that is renamed is told by its new name, if that is one of those wanted."""
    _add_device(router, "later", 4099)
    counting = router.count("later", "latest")
    router.start(udp.send, "192.0.5.2", 23, 101).wait()
    run("ip", "-n", router.namespace.name, "link", "set", "later", "name", "latest")
    assert _devices(counting) == ("latest",)
    router.start(udp.send, "192.0.5.2", 29, 101).wait()
    assert _received(router, counting, "latest") == 52


def test_refused_device(router: Router) -> None:
    """One that can't be attached to when it comes costs the others nothing."""
    # A TCX link asks for no capability once the program is loaded.
    counting = router.start(_without_tcx, (INSIDE, "later"), 4099, 4099)
    counting.hear()
    counting.tell(("become", 65534))
    counting.hear()
    _add_device(router, "later", 4099)
    assert _devices(counting) == (INSIDE,)
    counting.tell(("become", 0))
    counting.hear()
    assert set(_devices(counting)) == {INSIDE, "later"}
    router.start(udp.send, "192.0.5.2", 23, 101).wait()
    assert _received(router, counting, "later") == 23


def test_forget(router: Router) -> None:
    """An address that is removed gives what it had, and begins anew."""
    counting = router.count(INSIDE)
    for number in (23, 29):
        router.start(udp.send, router.right.ipv4, number, 101, at=router.left).wait()
        counting.tell(("forget", router.left.ipv4, INSIDE))
        (gone,) = counting.hear()
        assert readable(gone, "udp") == {"udp transmit": (number, number * 129)}
        assert (router.left.ipv4, INSIDE) not in router.read(counting).hosts


def _filters(router: Router) -> list[Any]:
    return [
        one
        for way in ("ingress", "egress")
        for one in run_json(
            *("tc", "-n", router.namespace.name, "-j", "filter", "show", "dev", INSIDE, way)
        )
        if "options" in one
    ]


def test_clsact(router: Router, family: int) -> None:
    """The same by filters, where there are no TCX links; what is left is replaced."""
    own = router.left.address(family)
    arguments = ((INSIDE,), 4099, 4099)
    with forward_witness(router.namespace, own) as read:
        killed = router.start(_without_tcx, *arguments)
        killed.hear()
        killed.kill()
        killed.wait()
        assert len(_filters(router)) == 2
        counting = router.start(_without_tcx, *arguments)
        counting.hear()
        assert len(_filters(router)) == 2
        exchange(router, family)
        assert readable(router.read(counting).hosts[own, INSIDE].counters) == readable(read())
        counting.tell("end")
        counting.wait()
        assert _filters(router) == []


def test_tracer(router: Router) -> None:
    """The whole tracer tells both: own addresses, and those behind a device."""
    counting = router.start(_trace)
    counting.hear()
    router.start(udp.send, router.right.ipv4, 23, 101, at=router.left).wait()
    router.start(udp.send, router.left.ipv4, 29, 101).wait()
    counting.tell()
    hosts = counting.hear()
    assert readable(hosts[router.left.ipv4, INSIDE].counters, "udp") == {
        "udp transmit": (23, 23 * 129),
        "udp receive": (29, 29 * 129),
    }
    assert readable(hosts[router.left.router4, ""].counters, "udp")["udp transmit"] == (
        29,
        29 * 129,
    )
    # In another network namespace of this host, so that it is an address of its own, too.
    assert hosts[router.left.ipv4, ""].counters == hosts[router.left.ipv4, INSIDE].counters


def _trace(talk: Talk) -> None:
    options = Options(max_hosts=4099, devices=(INSIDE,), max_connections=4099)
    with CoreTracer(options) as tracer:
        talk.send("ready")
        talk.recv()
        tracer.settle()
        talk.send({(host.address, host.device): host for host in tracer.read().hosts})


def test_tunnel(router: Router) -> None:
    """A device without link headers; and one buffer that does not say how many segments it is."""
    far, own, to = "192.0.7.2", "192.0.7.1", router.right.ipv4
    tunnel_end = router.start(tunnel.far_end, "tun0", own)
    tunnel_end.hear()
    counting = router.count("tun0")
    with forward_witness(router.right.namespace, far, "input") as read:
        tunnel_end.tell([tunnel.udp(far, to, PORT, 101)] * 23)
        tunnel_end.hear()
        tunnel_end.tell([tunnel.segments(far, to, PORT, 10_007, 1000)] * 3)
        tunnel_end.hear()
        wait_until(lambda: read()[2] == 3 * 11, "all segments have arrived")
        found = router.read(counting).hosts[far, "tun0"].counters
        sent = {"tcp transmit": (33, 3 * (10_007 + 11 * 40)), "udp transmit": (23, 23 * 129)}
        assert {k: v for k, v in readable(found).items() if "transmit" in k} == sent
        assert {k: v for k, v in readable(read()).items() if "transmit" in k} == sent
    before = router.read(counting).hosts[far, "tun0"].counters
    router.start(udp.send, far, 29, 101).wait()
    after = router.read(counting).hosts[far, "tun0"].counters
    assert readable(model.subtract(after, before), "udp") == {"udp receive": (29, 29 * 129)}
    tunnel_end.tell(None)
    assert tunnel_end.hear() >= 29 * 129
