# SPDX-License-Identifier: Apache-2.0
"""Tracers come and go: nothing stays behind in the kernel, and two do not disturb each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.kernel.choice import open_tracer
from exporter.kernel.core_object import Options
from tests import needs, workload
from tests.e2e import attachments
from tests.kernel.lab import cgroup_root, readable
from tests.network import run_json
from tests.workload import CLOSED_PORT, Process, wait_until

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel

KINDS = {"prog_id": "prog", "link_id": "link", "map_id": "map"}


def _held(pid: int | str = "self") -> set[tuple[str, int]]:
    """Return the kernel objects that a process holds: kind and id, from its descriptors."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in path.read_text().splitlines() if path.exists() else ():
            name, _, value = line.partition(":")
            if name in KINDS:
                found.add((KINDS[name], int(value)))
    return found


def _loaded() -> set[tuple[str, int]]:
    """Return all objects that the kernel has."""
    return {
        (kind, entry["id"])
        for kind in KINDS.values()
        for entry in run_json("bpftool", "-j", kind, "list")
    }


def _attached() -> set[tuple[str, int]]:
    """Return the programs attached to the root cgroup.

    bpftool asks for all places that it knows, and fails where the kernel does not know one of them
    (Debian's on Linux 5.10). There it lists the links.
    """
    try:
        found = run_json("bpftool", "-j", "cgroup", "show", str(cgroup_root()))
    except RuntimeError:
        links = run_json("bpftool", "-j", "link", "show")
        return {("prog", link["prog_id"]) for link in links if link["type"] == "cgroup"}
    return {("prog", entry["id"]) for entry in found}


def _assert_gone(objects: set[tuple[str, int]]) -> None:
    """Wait until the kernel has freed them, which it does after a grace period."""
    assert {kind for kind, _ in objects} == set(KINDS.values())
    assert not objects & _attached()
    wait_until(lambda: not objects & _loaded(), "objects freed")


def test_close_leaves_nothing() -> None:
    """After close() nothing is attached and nothing is loaded; closing again does no harm."""
    before = _held()
    tracer = open_tracer(needs.chosen(Options()))
    mine = _held() - before
    assert mine <= _loaded()
    assert mine & _attached()
    tracer.close()
    tracer.close()
    assert _held() == before
    _assert_gone(mine)


def test_exception_leaves_nothing() -> None:
    """The same after an error inside the block."""
    before = _held()

    def fail() -> None:
        with open_tracer(needs.chosen(Options())):
            mine.update(_held() - before)
            message = "on purpose"
            raise ZeroDivisionError(message)

    mine: set[tuple[str, int]] = set()
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        fail()
    _assert_gone(mine)


def _hold_tracer(talk: Connection) -> None:
    """Be a process with a tracer that will never close it."""
    with open_tracer(needs.chosen(Options())):
        talk.send("attached")
        talk.recv()


def test_kill_leaves_nothing() -> None:
    """The same after SIGKILL: the kernel takes the programs down with their process."""
    before = _held()
    with Process(_hold_tracer) as holder:
        holder.hear()
        mine = _held(holder.pid) - before
        assert mine & _attached()
        holder.kill()
        holder.wait()
    _assert_gone(mine)


def test_two_tracers(lab: Lab) -> None:
    """Two tracers at the same time count the same."""
    connections, size = 31, 4099
    with open_tracer(needs.chosen(Options())) as second:
        twin = lab.twin(second)
        start, twin_start = lab.read(), twin.read()
        server = lab.start(workload.serve_tcp, lab.right.ipv4, connections, at=lab.right)
        server.hear()
        client = lab.start(workload.send_tcp, lab.right.ipv4, connections, size, at=lab.left)
        client.wait()
        server.wait()
        passed, twin_passed = lab.since(start), twin.since(twin_start)
    for seen in (passed, twin_passed):
        seen.assert_law("tcp")
        seen.assert_carried(client, lab.left, "tcp")
        seen.assert_carried(server, lab.right, "tcp")
    assert passed.processes == twin_passed.processes


@pytest.mark.parametrize("program", ["count_receive", "count_transmit"])
def test_severed(lab: Lab, caplog: pytest.LogCaptureFixture, program: str) -> None:
    """A program that an administrator detaches is told as such, once in the log; no other is."""
    before = {status.name for status in lab.tracer.programs() if status.attached}
    sender = lab.start(workload.send_udp, lab.right.ipv4, CLOSED_PORT, 23, 101, at=lab.left)
    sender.wait()
    attachments.sever(os.getpid(), program)
    for _ in range(3):
        lab.tracer.tend()
        now = {status.name for status in lab.tracer.programs() if status.attached}
        assert before - now == {program}
    (said,) = (record.message for record in caplog.records if record.levelname == "ERROR")
    assert said == f"program {program}: detached by somebody; attached again by a restart"
    counted = [task.counters for task in lab.tracer.read().tasks if task.pid == sender.pid]
    assert readable(counted[0]) == {"udp transmit": (23, 23 * 129)}
