# SPDX-License-Identifier: Apache-2.0
"""What the tracer leaves out: tasks that find no room, and all that is outside its cgroup."""

from __future__ import annotations

import pytest

from exporter.kernel.core_loader import CoreTracer, Options
from tests import workload
from tests.kernel.lab import cgroup, open_lab, readable, total
from tests.workload import CLOSED_PORT, Process

pytestmark = pytest.mark.kernel

DATAGRAMS, SIZE = 23, 101
EXPECTED = {"udp transmit": (DATAGRAMS, DATAGRAMS * (20 + 8 + SIZE))}


def test_full_table() -> None:
    """With room for one task, the next one's traffic is `overflow`, and the loss is counted.

    In a cgroup of its own: on the host the room would go to whoever comes first.
    """
    with open_lab() as lab:
        start = lab.read()
        with CoreTracer(Options(max_tasks=1, cgroup_path=str(lab.cgroup))) as tracer:
            pids = []
            for _ in range(2):
                sender = lab.start(
                    *(workload.send_udp, lab.right.ipv4, CLOSED_PORT, DATAGRAMS, SIZE), at=lab.left
                )
                sender.wait()
                pids.append(sender.pid)
            tracer.settle()
            snapshot = tracer.read()
        passed = lab.since(start)
    counted = {record.pid: readable(record.counters) for record in snapshot.tasks}
    assert counted == {pids[0]: EXPECTED}
    assert readable(snapshot.unidentified["overflow"]) == EXPECTED
    assert snapshot.lost["task", "full"] > 0
    # Nothing is missing: both together are what the witness saw.
    packets, size = EXPECTED["udp transmit"]
    seen = passed.seen[lab.left.namespace]
    assert readable(seen, "udp") == {"udp transmit": (2 * packets, 2 * size)}


def test_subtree() -> None:
    """Attached to a cgroup, the tracer counts the processes in it and below, and nobody else's."""
    with open_lab() as lab:
        below = lab.cgroup / "below"
        below.mkdir()
        try:
            with CoreTracer(Options(cgroup_path=str(lab.cgroup))) as tracer:
                pids = []
                for group in (lab.cgroup, below, None):
                    with Process(
                        *(workload.send_udp, lab.right.ipv4, CLOSED_PORT, DATAGRAMS, SIZE),
                        namespace=lab.left.namespace,
                        cgroup=group,
                    ) as sender:
                        assert sender.wait() == 0
                    pids.append(sender.pid)
                tracer.settle()
                snapshot = tracer.read()
        finally:
            below.rmdir()
    counted = {record.pid: readable(record.counters) for record in snapshot.tasks}
    assert counted == {pids[0]: EXPECTED, pids[1]: EXPECTED}
    assert readable(total(snapshot.unidentified.values())) == {}


def test_other_subtree() -> None:
    """A cgroup where nothing happens: nothing is counted."""
    with (
        open_lab() as lab,
        cgroup() as empty,
        CoreTracer(Options(cgroup_path=str(empty))) as tracer,
    ):
        sender = lab.start(
            workload.send_udp, lab.right.ipv4, CLOSED_PORT, DATAGRAMS, SIZE, at=lab.left
        )
        sender.wait()
        tracer.settle()
        snapshot = tracer.read()
    assert snapshot.tasks == ()
    assert readable(total(snapshot.unidentified.values())) == {}
