# SPDX-License-Identifier: Apache-2.0
"""The law of conservation: what is counted is what nftables saw, to the packet and the byte."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from exporter import model
from tests import workload
from tests.kernel.lab import readable, total
from tests.network import HOST
from tests.witness import Rule, witness
from tests.workload import CLOSED_PORT, PORT, Process

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel

IP_HEADER = {4: 20, 6: 40}
SYN = {4: 60, 6: 80}
RST = {4: 40, 6: 60}


@pytest.mark.needs("strays")
@pytest.mark.needs("netfilter", family=6)
def test_tcp_closed_port(lab: Lab, family: int) -> None:
    """A SYN that nobody wants has no socket; the kernel answers it."""
    knocks = 50
    start = lab.read()
    client = lab.start(workload.knock_tcp, lab.right.address(family), knocks, at=lab.left)
    client.wait()

    passed = lab.since(start)
    passed.assert_law("tcp")
    passed.assert_carried(client, lab.left, "tcp")
    syns, rsts = (knocks, knocks * SYN[family]), (knocks, knocks * RST[family])
    assert readable(passed.nobodys, "tcp") == {"tcp receive": syns, "tcp transmit": rsts}


def test_udp_in_fragments(lab: Lab, family: int) -> None:
    """A datagram in three fragments is one packet where it is sent and where it is received."""
    datagrams, size = 23, 4099
    address = lab.right.address(family)
    start = lab.read()
    receiver = lab.start(workload.receive_udp, address, datagrams, at=lab.right)
    assert receiver.hear() == "bound"
    sender = lab.start(workload.send_udp, address, PORT, datagrams, size, at=lab.left)
    sender.wait()
    receiver.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    expected = (datagrams, datagrams * (IP_HEADER[family] + 8 + size))
    assert readable(passed.processes[sender.pid]) == {"udp transmit": expected}
    assert readable(passed.processes[receiver.pid]) == {"udp receive": expected}
    assert readable(passed.nobodys, "udp") == {}


@pytest.mark.needs("netfilter")
def test_udp_closed_port(lab: Lab, family: int) -> None:
    """A flood that nobody wants has no socket; the few ICMP errors are the kernel's."""
    datagrams, size = 5003, 101
    start = lab.read()
    address = lab.right.address(family)
    sender = lab.start(workload.send_udp, address, CLOSED_PORT, datagrams, size, at=lab.left)
    sender.wait()

    passed = lab.since(start)
    passed.assert_law("udp", "icmp")
    expected = (datagrams, datagrams * (IP_HEADER[family] + 8 + size))
    assert readable(passed.processes[sender.pid]) == {"udp transmit": expected}
    assert readable(passed.nobodys, "udp") == {"udp receive": expected}
    # The kernel reports its groups too, whenever it likes.
    reported = total(passed.seen.values())
    assert readable(passed.nobodys, "icmp") == readable(reported, "icmp") != {}


@pytest.mark.needs("netfilter")
@pytest.mark.parametrize("kind", [socket.SOCK_RAW, socket.SOCK_DGRAM], ids=["raw", "ping"])
def test_icmp_echo(lab: Lab, family: int, kind: int) -> None:
    """The asker carries requests and replies; the answering side is the kernel's."""
    requests, size = 13, 101
    lab.left.namespace.set("net.ipv4.ping_group_range", "0 2147483647")
    start = lab.read()
    asker = lab.start(workload.echo, lab.right.address(family), kind, requests, size, at=lab.left)
    asker.wait()

    passed = lab.since(start)
    passed.assert_law("icmp")
    expected = (requests, requests * (IP_HEADER[family] + 8 + size))
    assert readable(passed.processes[asker.pid]) == {
        "icmp receive": expected,
        "icmp transmit": expected,
    }
    assert readable(passed.unidentified["kernel"], "icmp") == {
        "icmp receive": expected,
        "icmp transmit": expected,
    }


def test_host(lab: Lab, family: int) -> None:
    """In the initial namespace, over its loopback device, the same holds.

    Others may be at work there, so the witness looks at one port.
    """
    datagrams, size = 1009, 211
    address = "127.0.0.1" if family == 4 else "::1"
    ours = [Rule(True, "udp", d, f"udp dport {PORT}") for d in model.DIRECTIONS]
    with witness(HOST, ours) as host:
        start = lab.read()
        with Process(workload.receive_udp, address, datagrams, cgroup=lab.cgroup) as receiver:
            receiver.hear()
            with Process(
                workload.send_udp, address, PORT, datagrams, size, cgroup=lab.cgroup
            ) as sender:
                sender.wait()
                receiver.wait()
        passed = lab.since(start)
        seen = host.read()
    expected = (datagrams, datagrams * (IP_HEADER[family] + 8 + size))
    assert readable(seen) == {"udp receive": expected, "udp transmit": expected}
    assert readable(passed.processes[sender.pid]) == {"udp transmit": expected}
    assert readable(passed.processes[receiver.pid]) == {"udp receive": expected}
