# SPDX-License-Identifier: Apache-2.0
"""Ids are used again and again; processes are not mixed up."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.kernel.core_loader import Options
from tests.kernel.lab import open_lab, readable, total
from tests.kernel.scenarios import counters
from tests.traffic import forks
from tests.workload import CLOSED_PORT

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

pytestmark = pytest.mark.kernel

FORKS, SPAN = 40_000, 97
HEADERS = {4: 28, 6: 48}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the program that forks."""
    return forks.compile_in(tmp_path_factory.mktemp("forks"), "forks")


def test_reused_ids(program: Path, family: int) -> None:
    """40,000 processes with 97 ids: each has its own record with what it sent and how it ended."""
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    first = pid_max - 2 * SPAN

    def run(talk: Connection, address: str) -> None:
        running = forks.start(program, forks.Run(FORKS, SPAN, first), address, CLOSED_PORT)
        talk.send(running.communicate()[1])

    with open_lab(Options(max_tasks=2 * FORKS)) as lab:
        start = lab.read()
        process = lab.start(run, lab.right.address(family), at=lab.left)
        assert process.hear() == b""
        process.wait()
        passed = lab.since(start)
        mine = lab.cgroup.stat().st_ino
        found = [task for task in lab.tracer.read().tasks if task.cgroup_id == mine]

    counted = total([*(task.counters for task in found), *passed.unidentified.values()])
    assert readable(counted, "udp") == readable(total(passed.seen.values()), "udp")
    assert len(found) == FORKS
    assert len({task.identity for task in found}) == FORKS
    assert {task.pid for task in found} <= set(range(first, first + SPAN))
    assert all(task.start_ns < task.end_ns for task in found)
    # In the order of their starts they are those that were forked, one after the other.
    found.sort(key=lambda task: task.start_ns)
    for number, task in enumerate(found):
        assert task.counters == counters(udp_transmit=forks.sent(number, HEADERS[family]))
        assert task.wait_status == forks.status(number) << 8
    lives = collections.Counter(task.pid for task in found)
    assert min(lives.values()) >= FORKS // SPAN - 1
