# SPDX-License-Identifier: Apache-2.0
"""Sockets end while packets are under way to them: nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter import model
from exporter.kernel.core_loader import Options
from tests import workload
from tests.kernel.lab import open_lab, readable
from tests.workload import CLOSED_PORT

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(("sockets", "groups"), [(20_011, 0), (2003, 7)], ids=["fast", "slow"])
def test_udp_close_under_flood(lab: Lab, family: int, sockets: int, groups: int) -> None:
    """Sockets are bound and closed while datagrams for their port arrive on the other processor.

    A slow release is one during which the first packet of a socket arrives, and more after it.
    """
    address = lab.right.address(family)
    start = lab.read()
    sender = lab.start(workload.flood_udp, address, at=lab.left)
    assert sender.hear() == "flooding"
    closer = lab.start(
        *(workload.open_and_close_udp, address, lab.right.device, sockets, groups), at=lab.right
    )
    closer.wait()
    sender.tell("stop")
    sent = sender.hear()
    sender.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    received = passed.processes[closer.pid]
    assert model.pick(received, "udp", "receive", "packets") > 0
    both = model.add(received, passed.nobodys)
    assert model.pick(both, "udp", "receive", "packets") == sent
    assert readable(passed.unidentified["no_owner"]) == {}


@pytest.mark.needs("netfilter")
def test_tcp_close_in_flight(lab: Lab, family: int) -> None:
    """Connections are closed and reset by both sides while data is under way."""
    address = lab.right.address(family)
    start = lab.read()
    server = lab.start(workload.serve_tcp_rudely, address, at=lab.right)
    server.hear()
    client = lab.start(workload.send_tcp_bravely, address, 2003, at=lab.left)
    client.wait()
    server.tell("stop")
    server.wait()

    passed = lab.since(start)
    passed.assert_law("tcp")
    assert readable(passed.unidentified["no_owner"]) == {}


def test_tcp_never_accepted(lab: Lab, family: int) -> None:
    """Connections that nobody accepts end with their listener, whose process owns them."""
    connections, size = 101, 4099
    address = lab.right.address(family)
    start = lab.read()
    listener = lab.start(workload.listen_only, address, at=lab.right)
    listener.hear()
    client = lab.start(workload.connect_and_wait, address, connections, size, at=lab.left)
    client.hear()
    listener.tell("close")
    listener.wait()
    client.wait()

    passed = lab.since(start)
    passed.assert_law("tcp")
    passed.assert_carried(client, lab.left, "tcp")
    passed.assert_carried(listener, lab.right, "tcp")
    assert readable(passed.nobodys, "tcp") == {}


@pytest.mark.parametrize("walk_files", [False, True], ids=["walk-sockets", "walk-files"])
@pytest.mark.parametrize("listed", [False, True], ids=["settled", "listed"])
def test_settle_while_sockets_come_and_go(family: int, listed: bool, walk_files: bool) -> None:
    """The walk over all sockets runs again and again while 20,000 of them live and die."""
    sockets = 20_000
    with open_lab(Options(list_sockets=listed, walk_files=walk_files)) as lab:
        address = lab.right.address(family)
        start = lab.read()
        user = lab.start(workload.use_udp_sockets, address, CLOSED_PORT, sockets, at=lab.left)
        settles = 0
        while not user.ended:
            lab.tracer.settle()
            settles += 1
        user.wait()
        passed = lab.since(start)
    passed.assert_law("udp")
    assert settles > 1
    expected = (sockets, sockets * ((28 if family == 4 else 48) + len(b"once")))
    assert readable(passed.processes[user.pid]) == {"udp transmit": expected}


def test_owner_changes_under_load(lab: Lab, family: int) -> None:
    """Two processes send through one socket at once: what one gets is what the other does not."""
    datagrams = 10_007
    address = lab.right.address(family)
    start = lab.read()
    mother = lab.start(workload.share_udp_socket, address, CLOSED_PORT, datagrams, at=lab.left)
    while not mother.ended:
        lab.tracer.settle()
    child = mother.hear()
    mother.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    sent = [passed.processes[pid] for pid in (mother.pid, child)]
    assert sum(model.pick(c, "udp", "transmit", "packets") for c in sent) == 2 * datagrams


@pytest.mark.needs("netfilter")
def test_everything_at_once(lab: Lab, family: int) -> None:
    """Connections, floods, sockets and processes that come and go, all settled all the time."""
    address, back = lab.right.address(family), lab.left.address(family)
    start = lab.read()
    server = lab.start(workload.serve_tcp, address, 307, at=lab.right)
    assert server.hear() == "listening"
    work = [
        server,
        lab.start(workload.send_tcp, address, 307, 20_011, at=lab.left),
        lab.start(workload.send_udp, address, CLOSED_PORT, 5003, 101, at=lab.left),
        lab.start(workload.use_udp_sockets, address, CLOSED_PORT, 3001, at=lab.left),
        lab.start(workload.knock_tcp, back, 211, at=lab.right),
        lab.start(workload.breed, back, CLOSED_PORT, 127, 4099, at=lab.right),
    ]
    while not all(process.ended for process in work):
        lab.tracer.settle()
        lab.tracer.read()
    assert server.hear() == 307 * 20_011
    for process in work:
        process.wait()

    passed = lab.since(start)
    passed.assert_law("tcp", "udp")
    assert passed.lost == {}
    assert readable(passed.unidentified["no_owner"]) == {}
