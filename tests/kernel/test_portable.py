# SPDX-License-Identifier: Apache-2.0
"""The portable kernel object, on whatever kernel: what is moved, what goes, what is left.

With NETATOP_LAYOUT=portable all other tests of this directory run with it too.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import model, self_test
from exporter.errors import UnsupportedKernelError
from exporter.kernel import attaching, cgroups, choice, core_object, portable, portable_object
from exporter.kernel.core_object import Options
from exporter.kernel.hooks import TRACEPOINTS
from exporter.kernel.portable_tracer import PortableTracer, candidates
from exporter.kernel.types import KernelTypes
from tests import workload
from tests.kernel.lab import alone, open_lab, readable
from tests.kernel.scenarios import counters
from tests.workload import CLOSED_PORT, PORT, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from exporter.kernel.tracer import Tracer
    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel

PORTABLE = Options(layout="portable")
ATTACH_TYPES = {
    program.attach_type
    for program in portable.programs("cgroup")
    if program.hook is portable.Hook.CGROUP
}
NEEDED = {hook.tracepoint for hook in TRACEPOINTS if not hook.without}
HEADERS = {4: 28, 6: 48}


@pytest.fixture
def portable_lab() -> Iterator[Lab]:
    """Where the portable object counts."""
    with open_lab(traced=False) as lab:
        tracer = lab._stack.enter_context(PortableTracer(PORTABLE, portable_object.load))
        yield lab.twin(tracer)


def _meters(tracer: Tracer) -> int:
    """Return how many sockets the kernel remembers."""
    assert isinstance(tracer, PortableTracer)
    return len(tracer._read_meters())


@pytest.mark.needs("kprobes", owners="kprobe")
@pytest.mark.parametrize("owners", portable.OWNERS)
def test_owners(owners: str) -> None:
    """Each set of hooks that the kernel has counts what this process sends itself, exactly."""
    if owners not in candidates():
        pytest.skip(f"this kernel has no {owners}")
    with alone(), choice.open_tracer(PORTABLE._replace(owners=owners)) as tracer:
        assert tracer.owners == owners
        verdict = self_test.run(tracer)
        assert verdict.passed, verdict.said


def test_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken where the main object can't work because of the kernel, and only there."""

    def refuse(_: Options) -> None:
        message = "no atomics"
        raise UnsupportedKernelError(message)

    monkeypatch.setattr(choice, "CoreTracer", refuse)
    with alone(), choice.open_tracer(Options(pin_path="/nowhere", max_hosts=1)) as tracer:
        assert tracer.layout == "portable"
        assert any(loss.startswith("--pin-path: ") for loss in tracer.losses)
        assert any(loss.startswith("hosts: ") for loss in tracer.losses)
    with pytest.raises(UnsupportedKernelError, match="no atomics"):
        choice.open_tracer(Options(layout="main"), choice.CORE)


@pytest.mark.needs("kprobes")
def test_only_kprobes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken where only kprobes tell users of sockets, unless more was asked for."""
    monkeypatch.setattr(KernelTypes, "has_tracepoint", lambda _, name: name in NEEDED)
    monkeypatch.setattr(core_object, "try_trampoline", lambda _: -errno.EPERM)
    with alone(), choice.open_tracer(Options()) as tracer:
        assert (tracer.layout, tracer.owners) == ("portable", "kprobe")
        assert self_test.run(tracer).passed
    with alone(), choice.open_tracer(Options(max_hosts=23)) as tracer:
        assert (tracer.layout, tracer.owners) == ("main", "creation")


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_moved_under_load(portable_lab: Lab, family: int) -> None:
    """Two processes send through one socket at once, and what waits is moved all the time.

    By both ends of their calls and by settles: each packet is given once.
    """
    datagrams, lab = 10_007, portable_lab
    address = lab.right.address(family)
    start = lab.read()
    mothers = [
        lab.start(workload.share_udp_socket, address, CLOSED_PORT, datagrams, at=lab.left)
        for _ in range(2)
    ]
    while not all(mother.ended for mother in mothers):
        lab.tracer.settle()
        lab.tracer.read()
    pids = {mother.pid for mother in mothers} | {mother.hear() for mother in mothers}
    for mother in mothers:
        mother.wait()
    passed = lab.since(start)
    carried = model.ZERO
    for pid in pids:
        carried = model.add(carried, passed.processes[pid])
    every = 4 * datagrams
    assert readable(carried, "udp") == {
        "udp transmit": (every, every * (HEADERS[family] + len(b"shared")))
    }
    assert model.pick(passed.seen[lab.left.namespace], "udp", "transmit", "packets") == every
    assert passed.lost == {}


def test_moved_once(portable_lab: Lab) -> None:
    """Whoever sends in turn moves what waits, and so does a settle on the other processor."""
    datagrams, lab = 40_009, portable_lab
    start = lab.read()
    mother = lab.start(*(workload.take_turns, lab.right.ipv4, CLOSED_PORT, datagrams), at=lab.left)
    assert mother.hear() == "ready"
    tracer = lab.tracer
    assert isinstance(tracer, PortableTracer)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        while not mother.ended:
            cookies = [meter.cookie for meter in tracer._read_meters() if meter.user[1]]
            for _ in range(997):
                tracer._attached.settle(cookies)
    finally:
        os.sched_setaffinity(0, before)
    child = mother.hear()
    mother.wait()
    passed = lab.since(start)
    carried = [readable(passed.processes[pid], "udp") for pid in (mother.pid, child)]
    each = datagrams, datagrams * (HEADERS[4] + len(b"turns"))
    assert model.add(passed.processes[mother.pid], passed.processes[child]) == counters(
        udp_transmit=(2 * each[0], 2 * each[1])
    ), carried
    assert passed.lost == {}


@pytest.mark.needs("users")
def test_many_wait(family: int) -> None:
    """However many wait to receive, a new receiver is known."""
    waiters, datagrams, size = 31, 23, 101
    with open_lab(PORTABLE) as lab:
        address = lab.right.address(family)
        crowd = [
            lab.start(workload.wait_for_udp, address, PORT + 1 + number, at=lab.right)
            for number in range(waiters)
        ]
        for waiter in crowd:
            assert waiter.hear() == "waits"
        start = lab.read()
        mother = lab.start(workload.receive_in_child, address, datagrams, at=lab.right)
        child = mother.hear()
        for number in (1, datagrams):
            sender = lab.start(workload.send_udp, address, PORT, number, size, at=lab.left)
            sender.wait()
            if number == 1:
                assert mother.hear() == "took one"
        mother.wait()
        passed = lab.since(start)
        for waiter in crowd:
            waiter.kill()
            waiter.wait()
    # The first came before anybody knew who would receive it: it is the creator's.
    each = HEADERS[family] + size
    assert readable(passed.processes[mother.pid], "udp") == {"udp receive": (1, each)}
    assert readable(passed.processes[child], "udp") == {
        "udp receive": (datagrams, datagrams * each)
    }


def test_meters_go(portable_lab: Lab) -> None:
    """What is remembered of sockets goes with them; what they carried stays."""
    sockets, lab = 1009, portable_lab
    start = lab.read()
    before = _meters(lab.tracer)
    user = lab.start(*(workload.use_udp_sockets, lab.right.ipv4, CLOSED_PORT, sockets), at=lab.left)
    user.wait()
    server = lab.start(workload.serve_tcp, lab.right.ipv4, 101, at=lab.right)
    assert server.hear() == "listening"
    client = lab.start(workload.send_tcp, lab.right.ipv4, 101, 4099, at=lab.left)
    client.wait()
    server.wait()
    passed = lab.since(start)
    assert model.pick(passed.processes[user.pid], "udp", "transmit", "packets") == sockets
    passed.assert_carried(client, lab.left, "tcp")
    passed.assert_carried(server, lab.right, "tcp")

    def settled() -> bool:
        lab.tracer.settle()
        return _meters(lab.tracer) < before + 101  # others open some meanwhile

    wait_until(settled, "meters of closed sockets gone")
    assert readable(lab.since(start).processes[user.pid]) == readable(passed.processes[user.pid])


def test_nobodys(portable_lab: Lab) -> None:
    """What arrives for a socket between its release and its end is in the books."""
    datagrams, lab = 2003, portable_lab
    start = lab.read()
    receiver = lab.start(workload.receive_udp, lab.right.ipv4, datagrams, at=lab.right)
    assert receiver.hear() == "bound"
    sender = lab.start(workload.send_udp, lab.right.ipv4, PORT, datagrams, 101, at=lab.left)
    sender.wait()
    receiver.wait()
    passed = lab.since(start)
    passed.assert_law("udp")
    assert readable(passed.unidentified["overflow"]) == {}


def _without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a kernel before 5.7."""

    def attach(programs: attaching.CgroupPrograms, program: int, attach_type: int) -> None:
        programs.attach_without_link(program, attach_type)

    monkeypatch.setattr(attaching.CgroupPrograms, "attach", attach)


def _hold(talk: Connection) -> None:
    with choice.open_tracer(PORTABLE):
        talk.send(os.getpid())
        talk.recv()


def _programs(pid: int | str) -> set[int]:
    """Return the ids of the programs that a process has open."""
    return {
        int(line.split()[1])
        for path in Path(f"/proc/{pid}/fdinfo").iterdir()
        for line in (path.read_text().splitlines() if path.exists() else ())
        if line.startswith("prog_id:")
    }


def _at_root() -> set[int]:
    """Return the ids of all programs at the root cgroup, where we attach any."""
    root = cgroups.open_cgroup(None)
    try:
        at_root = attaching.CgroupPrograms(root.fd)
        return {number for kind in ATTACH_TYPES for number in at_root.ids(kind)}
    finally:
        root.close()


def test_without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs at a cgroup without links: what a killed exporter has left the next one detaches."""
    _without_links(monkeypatch)
    with alone():
        with Process(_hold) as holder:
            left = _programs(holder.hear())
            holder.kill()
            holder.wait()
        assert len(left & _at_root()) == 5
        with choice.open_tracer(PORTABLE) as tracer:
            assert not left & _at_root()
            mine = _programs("self")
            assert len(mine & _at_root()) == 5
            assert self_test.run(tracer).passed
        assert not mine & _at_root()
