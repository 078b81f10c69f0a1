# SPDX-License-Identifier: Apache-2.0
"""Sockets that were open before the programs were attached are found at start, anywhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.kernel.core_loader import Options
from tests import needs, workload
from tests.kernel.lab import open_lab, readable
from tests.kernel.scenarios import CLONE_NEWNS, CLONE_NEWPID
from tests.network import LIBC, checked
from tests.traffic import passing, servers, tcp, udp, uring
from tests.workload import CLOSED_PORT, PORT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from tests.kernel.lab import Difference, Lab

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


@pytest.mark.needs("opened")
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


@pytest.mark.needs("opened")
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


def _hidden(talk: Connection, address: str) -> None:
    """Hold a socket as the first process of new mount and pid namespaces."""
    checked(LIBC.unshare(CLONE_NEWNS | CLONE_NEWPID))
    child = os.fork()
    if not child:
        workload.open_and_send_udp(talk, address, PORT, SENT, SIZE)
        os._exit(0)
    talk.send(child)
    os.waitpid(child, 0)


def _assert_sent(
    passed: Difference, family: int, pid: int, *, size: int = SIZE, missing: int = 0
) -> None:
    """Hold that a process has sent all, but for the first few, which are nobody's."""
    passed.assert_law("udp")
    if needs.is_portable():
        missing = 0  # what nobody is known of waits
    each = HEADERS[family] + size
    sent = {"udp transmit": (SENT - missing, (SENT - missing) * each)}
    assert readable(passed.processes[pid]) == sent
    nobodys = {"udp transmit": (missing, missing * each)} if missing else {}
    assert readable(passed.unidentified["no_owner"]) == nobodys


def test_other_namespaces(dark_lab: tuple[Lab, Options], family: int) -> None:
    """In pid, mount and network namespaces of its own."""
    lab, options = dark_lab
    parent = lab.start(_hidden, lab.right.address(family), at=lab.left)
    said = {parent.hear(), parent.hear()}
    (child,) = said - {"open"}
    lab.trace(options)
    start = lab.read()
    parent.tell("send")
    parent.wait()
    _assert_sent(lab.since(start), family, child)


def test_in_flight(dark_lab: tuple[Lab, Options], family: int) -> None:
    """In no process's hands but in a message: whoever takes it out and uses it has it."""
    lab, options = dark_lab
    address = lab.right.address(family)
    parent = lab.start(passing.leave_in_flight, address, CLOSED_PORT, SENT, at=lab.left)
    child = parent.hear()
    lab.trace(options)
    start = lab.read()
    parent.tell("take it out")
    parent.wait()
    # Where the walk goes by files, nothing may wait in a socket that no process has.
    _assert_sent(
        lab.since(start), family, child, size=passing.SIZE, missing=int(options.walk_files)
    )


def test_registered(dark_lab: tuple[Lab, Options], family: int) -> None:
    """Known to an io_uring only, with no descriptor.

    A walk over files does not find it: what waits there is settled when the ring closes it.
    """
    lab, options = dark_lab
    address = lab.right.address(family)
    receiver = lab.start(udp.receive, address, SENT, SIZE, at=lab.right)
    assert receiver.hear() == "ready"
    process = lab.start(uring.send_registered, address, PORT, SENT, SIZE, at=lab.left)
    assert process.hear() == "open"
    lab.trace(options)
    start = lab.read()
    process.tell("send")
    assert process.wait() == receiver.wait() == 0
    wait_until(lambda: not _ours(lab), "the ring has closed the socket")
    _assert_sent(lab.since(start), family, process.pid, missing=int(options.walk_files))


def _ours(lab: Lab) -> list[str]:
    """Return the UDP sockets at the left end, as the kernel lists them."""
    lines = lab.left.namespace.run("cat", "/proc/net/udp", "/proc/net/udp6").splitlines()
    return [line for line in lines if line.lstrip()[0].isdecimal()]


def test_waiting_to_be_accepted(dark_lab: tuple[Lab, Options], family: int) -> None:
    """A connection that no process has yet: it is its server's from the first byte sent on."""
    lab, options = dark_lab
    address, size = lab.right.address(family), 1_000_003
    server = lab.start(passing.accept_late, address, size, at=lab.right)
    assert server.hear() == "ready"

    def call(talk: Connection) -> None:
        with tcp.connect(address) as connection:
            talk.send("connected")
            servers.greeted(connection, size)

    client = lab.start(call, at=lab.left)
    assert client.hear() == "connected"
    lab.trace(options)
    start = lab.read()
    server.tell("accept")
    client.wait()
    server.wait()
    passed = lab.since(start)
    passed.assert_law("tcp")
    passed.assert_carried(client, lab.left, "tcp")
    passed.assert_carried(server, lab.right, "tcp")
