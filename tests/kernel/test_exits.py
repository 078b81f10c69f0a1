# SPDX-License-Identifier: Apache-2.0
"""Processes that are gone leave a record: what they used and how they ended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests import workload
from tests.kernel.lab import readable
from tests.workload import CLOSED_PORT

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel


def test_thousand_short_lives(lab: Lab) -> None:
    """A thousand processes that send one datagram and exit: none is missed, none is mixed up."""
    children, size = 1000, 101
    start = lab.read()
    mother = lab.start(workload.breed, lab.right.ipv4, CLOSED_PORT, children, size, at=lab.left)
    pids = mother.hear()
    mother.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    assert len(set(pids)) == children
    assert passed.processes.keys() == set(pids)
    for pid in pids:
        record = passed.records[pid]
        assert readable(record.counters) == {"udp transmit": (1, 20 + 8 + size)}
        assert record.end_ns > record.start_ns
        assert (record.outcome, record.threads) == ("exit", 1)


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [(0, "exit"), (3, "error"), (-signal.SIGKILL, "signal"), (-signal.SIGTERM, "signal")],
)
def test_outcome(lab: Lab, ending: int, outcome: str) -> None:
    """The record has the status that wait(2) reports."""
    start = lab.read()
    sender = lab.start(workload.send_one, lab.right.ipv4, CLOSED_PORT, ending, at=lab.left)
    status = sender.wait()

    record = lab.since(start).records[sender.pid]
    assert record.outcome == outcome
    assert record.wait_status == status
    assert record.end_ns > record.start_ns


def test_alive(lab: Lab) -> None:
    """A process that lives has no end."""
    start = lab.read()
    server = lab.start(workload.listen_only, lab.right.ipv4, at=lab.right)
    server.hear()
    client = lab.start(workload.connect_and_wait, lab.right.ipv4, 1, 101, at=lab.left)
    client.hear()

    passed = lab.since(start)
    passed.assert_law("tcp")
    assert [passed.records[process.pid].end_ns for process in (server, client)] == [0, 0]
