# SPDX-License-Identifier: Apache-2.0
"""Sockets that were open before the programs were attached are found at start, anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.kernel.core_loader import Options
from tests import workload
from tests.kernel.lab import open_lab, readable
from tests.workload import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel

SENT, SIZE = 23, 4099
HEADERS = {4: 28, 6: 48}


@pytest.fixture(params=[False, True], ids=["walk-sockets", "walk-files"])
def dark_lab(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Options]]:
    """Where nothing is traced yet."""
    with open_lab(traced=False) as lab:
        yield lab, Options(walk_files=request.param)


def expected(family: int, datagrams: int = SENT) -> tuple[int, int]:
    """Return packets and bytes of so many datagrams."""
    return datagrams, datagrams * (HEADERS[family] + SIZE)


def test_udp(dark_lab: tuple[Lab, Options], family: int) -> None:
    """One is bound and only receives, the other is not even bound: both are known by name."""
    lab, options = dark_lab
    address = lab.right.address(family)
    receiver = lab.start(workload.receive_udp, address, SENT, at=lab.right)
    assert receiver.hear() == "bound"
    sender = lab.start(workload.open_and_send_udp, address, PORT, SENT, SIZE, at=lab.left)
    assert sender.hear() == "open"
    lab.trace(options)
    start = lab.read()
    sender.tell("send")
    sender.wait()
    receiver.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    assert readable(passed.processes[sender.pid]) == {"udp transmit": expected(family)}
    assert readable(passed.processes[receiver.pid]) == {"udp receive": expected(family)}
    assert readable(passed.nobodys, "udp") == {}


def test_tcp_connected(dark_lab: tuple[Lab, Options], family: int) -> None:
    """A connection in the middle of its life."""
    lab, options = dark_lab
    address = lab.right.address(family)
    server = lab.start(workload.serve_tcp, address, 1, at=lab.right)
    assert server.hear() == "listening"
    client = lab.start(workload.connect_and_send_tcp, address, 20_011, at=lab.left)
    assert client.hear() == "open"
    lab.trace(options)
    start = lab.read()
    client.tell("send")
    assert server.hear() == 20_011
    client.wait()
    server.wait()

    passed = lab.since(start)
    passed.assert_law("tcp")
    passed.assert_carried(client, lab.left, "tcp")
    passed.assert_carried(server, lab.right, "tcp")
    assert readable(passed.nobodys, "tcp") == {}


def test_tcp_listening(dark_lab: tuple[Lab, Options], family: int) -> None:
    """Connections that come later belong to the process that listens."""
    lab, options = dark_lab
    address = lab.right.address(family)
    server = lab.start(workload.serve_tcp, address, 31, at=lab.right)
    assert server.hear() == "listening"
    lab.trace(options)
    start = lab.read()
    client = lab.start(workload.send_tcp, address, 31, SIZE, at=lab.left)
    assert server.hear() == 31 * SIZE
    client.wait()
    server.wait()

    passed = lab.since(start)
    passed.assert_law("tcp")
    passed.assert_carried(client, lab.left, "tcp")
    passed.assert_carried(server, lab.right, "tcp")
    assert readable(passed.nobodys, "tcp") == {}


def test_process_without_its_main_thread(dark_lab: tuple[Lab, Options], family: int) -> None:
    """The main thread has ended and its files with it; another thread holds the socket."""
    lab, options = dark_lab
    address = lab.right.address(family)
    receiver = lab.start(workload.receive_udp_without_main, address, SENT, at=lab.right)
    assert receiver.hear() == "bound"
    lab.trace(options)
    start = lab.read()
    sender = lab.start(workload.send_udp, address, PORT, SENT, SIZE, at=lab.left)
    sender.wait()
    assert receiver.hear() == SENT * SIZE
    receiver.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    assert readable(passed.processes[receiver.pid]) == {"udp receive": expected(family)}
    assert readable(passed.nobodys, "udp") == {}


def test_held_by_two(dark_lab: tuple[Lab, Options], family: int) -> None:
    """Until one of them uses it, a shared socket is the one's with the lower pid."""
    lab, options = dark_lab
    address = lab.right.address(family)
    mother = lab.start(workload.hold_udp, address, SENT, at=lab.right)
    child = mother.hear()
    lab.trace(options)
    start = lab.read()
    sender = lab.start(workload.send_udp, address, PORT, SENT, SIZE, at=lab.left)
    sender.wait()
    assert readable(lab.since(start).processes[min(mother.pid, child)]) == {
        "udp receive": expected(family)
    }
    mother.tell("receive")
    assert mother.hear() == SENT * SIZE
    sender = lab.start(workload.send_udp, address, PORT, 13, SIZE, at=lab.left)
    sender.wait()
    passed = lab.since(start)
    mother.tell("end")
    mother.wait()

    passed.assert_law("udp")
    shares = {min(mother.pid, child): SENT}
    shares[child] = shares.get(child, 0) + 13
    for pid, datagrams in shares.items():
        assert readable(passed.processes[pid]) == {"udp receive": expected(family, datagrams)}
