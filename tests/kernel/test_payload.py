# SPDX-License-Identifier: Apache-2.0
"""The layer above: what TCP itself says of payload, retransmissions and round trips."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

from exporter.model import ROUND_TRIP_BOUNDS_US, TcpTraffic
from tests.kernel.lab import open_lab, readable
from tests.traffic import tcp
from tests.workload import FAMILIES

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.kernel.lab import Difference, Lab
    from tests.network import End
    from tests.workload import Process

pytestmark = [pytest.mark.kernel, pytest.mark.needs("payload")]

SIZE = 5_000_011
LOSSY = """table inet lossy {
    chain in {
        type filter hook input priority 0
        meta l4proto tcp meta length > 1000 numgen inc mod 97 == 7 drop
    }
}"""


def _run(lab: Lab, family: int, *calls: object, serves: tuple[object, ...]) -> tuple[Process, ...]:
    """Run one connection to its end; return the client and the server."""
    address = lab.right.address(family)

    def serve(talk: Connection) -> None:
        tcp.serve(talk, address, *serves)

    def call(talk: Connection) -> None:
        tcp.call(talk, address, *calls)

    server = lab.start(serve, at=lab.right)
    assert server.hear() == "ready"
    client = lab.start(call, at=lab.left)
    assert client.wait() == server.wait() == 0
    return client, server


def _payload(passed: Difference, process: Process) -> TcpTraffic:
    return passed.records[process.pid].tcp


def _retransmitted(end: End) -> int:
    """Return the kernel's own count of a namespace (RFC 4022, tcpRetransSegs)."""
    return end.namespace.counters("snmp")["Tcp.RetransSegs"]


def test_payload(lab: Lab, family: int) -> None:
    """It is what the application sent, to the byte: no SYN, no FIN, no header."""
    asked, answered = 4099, SIZE
    start = lab.read()
    client, server = _run(
        *(lab, family, tcp.ask, asked, answered), serves=(tcp.answer, asked, answered)
    )
    passed = lab.since(start)
    again = [_retransmitted(end) for end in (lab.left, lab.right)]
    assert _payload(passed, client) == TcpTraffic(answered, asked, again[0])
    assert _payload(passed, server) == TcpTraffic(asked, answered, again[1])


def test_payload_of_living(lab: Lab, family: int) -> None:
    """While the connection lives, each settle finds what has been acknowledged until then."""

    def call(talk: Connection) -> None:
        with tcp.connect(lab.right.address(family)) as connection:
            while size := talk.recv():
                connection.sendall(bytes(size))
                assert connection.recv(1) == b"!"
                talk.send("acknowledged")

    def answer(connection: socket.socket, parts: list[int]) -> None:
        for part in parts:
            tcp.receive(connection, part)
            connection.sendall(b"!")
        tcp.drain(connection, 0)

    for end in (lab.left, lab.right):
        end.keep_order()
    parts = [23, 4099, 100_003]

    def serve(talk: Connection) -> None:
        tcp.serve(talk, lab.right.address(family), answer, parts)

    start = lab.read()
    server = lab.start(serve, at=lab.right)
    assert server.hear() == "ready"
    client = lab.start(call, at=lab.left)
    for number, part in enumerate(parts, 1):
        client.tell(part)
        assert client.hear() == "acknowledged"
        passed = lab.since(start)
        assert _payload(passed, client) == TcpTraffic(number, sum(parts[:number]), 0)
        assert _payload(passed, server).received_bytes == sum(parts[:number])
    client.tell(0)
    assert client.wait() == server.wait() == 0
    passed = lab.since(start)
    assert _payload(passed, server) == TcpTraffic(sum(parts), len(parts), 0)


def test_retransmissions(lab: Lab, family: int) -> None:
    """Lost segments are sent again: packets of the layer below, and no payload."""
    lab.right.namespace.run("nft", "-f", "-", stdin=LOSSY)
    lab.left.send_again_after(200)
    start = lab.read()
    client, server = _run(lab, family, tcp.pour, SIZE, serves=(tcp.drain, SIZE))
    passed = lab.since(start)
    passed.assert_law("tcp")
    retransmitted = _retransmitted(lab.left)
    assert retransmitted > 0
    assert _payload(passed, client) == TcpTraffic(0, SIZE, retransmitted)
    assert _payload(passed, server) == TcpTraffic(SIZE, 0, 0)


def test_round_trip(family: int) -> None:
    """A connection counts once, when it ends, in the bucket where TCP_INFO says that it is."""

    def finish_and_tell(connection: socket.socket, talk: Connection) -> None:
        connection.sendall(bytes(4099))
        tcp.finish(connection)
        # struct tcp_info: tcpi_rtt (include/uapi/linux/tcp.h)
        talk.send(struct.unpack_from("=I", _info(connection), 68)[0])

    with open_lab() as lab:
        start = lab.read()
        address = lab.right.address(family)

        def call(talk: Connection) -> None:
            tcp.call(talk, address, finish_and_tell, talk)

        def serve(talk: Connection) -> None:
            tcp.serve(talk, address, tcp.drain, 4099)

        server = lab.start(serve, at=lab.right)
        assert server.hear() == "ready"
        client = lab.start(call, at=lab.left)
        round_trip_us = client.hear()
        client.wait()
        server.wait()
        passed = lab.since(start)
    found = passed.records[client.pid].round_trips
    assert found.sum_us == round_trip_us > 0
    bucket = sum(bound < round_trip_us for bound in ROUND_TRIP_BOUNDS_US)
    assert found.counts == tuple(int(index == bucket) for index in range(len(found.counts)))


def _info(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)


def test_raw_socket(lab: Lab, family: int) -> None:
    """A raw socket of the protocol TCP is no TCP socket: it has no payload."""

    def send(_talk: Connection) -> None:
        kind = (socket.SOCK_RAW, socket.IPPROTO_TCP)
        with socket.socket(FAMILIES[family], *kind) as own:
            for _ in range(23):
                own.sendto(bytes(101), (lab.right.address(family), 0))

    start = lab.read()
    sender = lab.start(send, at=lab.left)
    sender.wait()
    passed = lab.since(start)
    size = {4: 20, 6: 40}[family] + 101
    assert readable(passed.processes[sender.pid]) == {"tcp transmit": (23, 23 * size)}
    assert _payload(passed, sender) == TcpTraffic(0, 0, 0)
