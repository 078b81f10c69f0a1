# SPDX-License-Identifier: Apache-2.0
"""Traffic by thread: each has its own, and the process has it all, for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from exporter import model
from exporter.kernel.core_loader import Options
from tests.kernel.lab import open_lab, readable, total
from tests.traffic import passing, tcp, threads, udp
from tests.traffic.passing import SIZE
from tests.workload import CLOSED_PORT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model import TaskRecord
    from tests.kernel.lab import Lab
    from tests.workload import Process

pytestmark = pytest.mark.kernel

DELAYED_ACK = 0.25
HEADERS = {4: 28, 6: 48}


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Return the lab, where threads are counted too."""
    with open_lab(Options(count_threads=True)) as opened:
        yield opened


def _tasks(lab: Lab, process: Process) -> dict[int, TaskRecord]:
    """Return the records of a process's threads by tid, and its own by 0."""
    lab.tracer.settle()
    found = [task for task in lab.tracer.read().tasks if task.pid == process.pid]
    assert len([task for task in found if task.is_process]) == 1
    return {0 if task.is_process else task.tid: task for task in found}


def _sent(family: int, datagrams: int) -> dict[str, tuple[int, int]]:
    return {"udp transmit": (datagrams, datagrams * (HEADERS[family] + SIZE))}


def _received(family: int, datagrams: int) -> dict[str, tuple[int, int]]:
    return {"udp receive": _sent(family, datagrams)["udp transmit"]}


def _quiet(lab: Lab) -> tuple[int, ...]:
    time.sleep(DELAYED_ACK)
    return tuple(lab.read().seen[lab.left.namespace])


def test_reader_and_writer(lab: Lab, family: int) -> None:
    """Each gets its direction, the main thread the handshake, the process the sum."""
    exchanges = 31
    address = lab.right.address(family)
    lab.start(tcp.serve, address, passing.echo_stream, at=lab.right).hear()
    zero = _quiet(lab)
    process = lab.start(threads.reader_and_writer, address, exchanges, at=lab.left)
    assert process.hear() == "connected"
    connected = _quiet(lab)
    process.tell("start")
    reader = process.hear()
    process.tell("the other")
    writer = process.hear()
    assert process.hear() == "once"
    once = _quiet(lab)
    process.tell("go on")
    assert process.hear() == "done"
    end = _quiet(lab)

    found = _tasks(lab, process)
    whole = model.subtract(end, zero)
    assert readable(found[0].counters) == readable(whole, "tcp")
    receive = {
        name: n for name, n in readable(model.subtract(end, once), "tcp").items() if "rec" in name
    }
    assert readable(found[reader].counters) == receive
    first_answer = readable(model.subtract(once, connected))["tcp receive"]
    assert readable(found[writer].counters) == {
        "tcp receive": first_answer,  # nobody had received yet
        "tcp transmit": readable(model.subtract(end, connected))["tcp transmit"],
    }
    assert readable(found[process.pid].counters) == readable(model.subtract(connected, zero), "tcp")
    parts = [task.counters for tid, task in found.items() if tid]
    assert readable(total(parts)) == readable(found[0].counters)
    process.tell("end")


def test_ended_thread(lab: Lab, family: int) -> None:
    """Its record says that it has ended; its socket goes on for the process."""
    first, later = 23, 13
    address = lab.right.address(family)
    process = lab.start(threads.leave_receiving, address, first, later, at=lab.right)
    assert process.hear() == "ready"
    lab.start(udp.send, address, 1, SIZE, at=lab.left).wait()
    tid = process.hear()
    lab.start(udp.send, address, first, SIZE, at=lab.left).wait()
    assert process.hear() == "thread ended"
    # Python goes on before the thread has ended in the kernel.
    wait_until(lambda: _tasks(lab, process)[tid].end_ns, "the end of the thread")
    found = _tasks(lab, process)
    # The one that arrived before anybody received is the creator's.
    assert readable(found[process.pid].counters) == _received(family, 1)
    assert readable(found[tid].counters) == _received(family, first)
    assert readable(found[0].counters) == _received(family, 1 + first)
    assert not found[0].end_ns
    process.tell("go on")
    lab.start(udp.send, address, later, SIZE, at=lab.left).wait()
    assert process.hear() == "done"
    found = _tasks(lab, process)
    assert readable(found[tid].counters) == _received(family, first)
    assert readable(found[0].counters) == _received(family, 1 + first + later)
    process.tell("end")


def test_exec_from_thread(lab: Lab, family: int) -> None:
    """The thread becomes the process: one record, one identity, all that went before."""
    shares = 23, 13, 31
    address = lab.right.address(family)
    process = lab.start(threads.exec_from_thread, address, CLOSED_PORT, shares, at=lab.left)
    tid = process.hear()
    assert tid != process.pid
    before = _tasks(lab, process)
    assert readable(before[0].counters) == _sent(family, sum(shares[:2]))
    assert readable(before[process.pid].counters) == _sent(family, shares[0])
    assert readable(before[tid].counters) == _sent(family, shares[1])
    process.tell("exec")
    assert process.hear() == "sent"
    after = _tasks(lab, process)
    assert after[0].identity == before[0].identity
    assert not after[0].end_ns
    assert readable(after[0].counters) == _sent(family, sum(shares))
    assert after[0].name != before[0].name or before[0].name.startswith("python")
    process.tell("end")
    assert process.wait() == 0
    ended = _tasks(lab, process)[0]
    assert ended.end_ns
    assert ended.wait_status == 0
    assert readable(ended.counters) == _sent(family, sum(shares))


def test_threads_after_exec(lab: Lab, family: int) -> None:
    """The main thread that was ends and another one takes its place: it lives until the end."""
    process = lab.start(
        *(threads.exec_from_thread, lab.right.address(family), CLOSED_PORT, (23, 13, 31)),
        at=lab.left,
    )
    tid = process.hear()
    process.tell("exec")
    assert process.hear() == "sent"
    alive = {number: not task.end_ns for number, task in _tasks(lab, process).items()}
    process.tell("end")
    assert process.wait() == 0
    ended = {number: bool(task.end_ns) for number, task in _tasks(lab, process).items()}
    assert alive == {0: True, process.pid: True, tid: False}
    assert ended == dict.fromkeys(alive, True)


def test_long_after_exec(lab: Lab, family: int) -> None:
    """What seemed to have ended is removed after a while, and the process goes on all the same."""
    share = 31
    arguments = lab.right.address(family), CLOSED_PORT, (23, 13, share)
    start = lab.read()
    process = lab.start(threads.exec_from_thread, *arguments, at=lab.left)
    process.hear()
    process.tell("exec")
    assert process.hear() == "sent"
    # As a scrape does it 16 seconds later; meanwhile the process is not idle.
    ended = [task.identity for task in _tasks(lab, process).values() if task.end_ns]
    process.tell("go on")
    assert process.hear() == "sent"
    lab.tracer.forget(ended)
    process.tell("go on")
    assert process.hear() == "sent"
    passed = lab.since(start)
    process.tell("end")
    assert readable(passed.unidentified["no_owner"]) == {}
    assert readable(passed.processes[process.pid]) == _sent(family, 23 + 13 + 3 * share)


def test_many(lab: Lab, family: int) -> None:
    """211 threads at once, each with a number of datagrams of its own."""
    count = 211
    start = lab.read()
    process = lab.start(threads.many, lab.right.address(family), CLOSED_PORT, count, at=lab.left)
    tids = process.hear()
    assert process.wait() == 0
    passed = lab.since(start)
    passed.assert_law("udp")
    found = _tasks(lab, process)
    shares = {number: readable(found[tid].counters) for number, tid in enumerate(tids)}
    assert shares == {number: _sent(family, number + 1) for number in range(count)}
    assert readable(found[0].counters) == _sent(family, count * (count + 1) // 2)
    assert all(found[tid].end_ns for tid in tids)


def test_renamed(lab: Lab, family: int) -> None:
    """Whatever it is called, it is the same thread; the process keeps its own name."""
    names, share = ("first", "second", "third"), 23
    address = lab.right.address(family)
    process = lab.start(threads.renamed, address, CLOSED_PORT, names, share, at=lab.left)
    own_name = None
    for number, name in enumerate(names, 1):
        tid = process.hear()
        found = _tasks(lab, process)
        assert found[tid].name == name
        assert readable(found[tid].counters) == _sent(family, number * share)
        assert readable(found[0].counters) == _sent(family, number * share)
        own_name = own_name or found[0].name
        assert found[0].name == own_name != name
        process.tell("go on")
    assert process.wait() == 0
