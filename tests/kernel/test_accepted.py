# SPDX-License-Identifier: Apache-2.0
"""Accepted connections: the handshake is the listener's, the rest is the worker's."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from tests import needs
from tests.kernel.lab import readable, total
from tests.traffic import servers, tcp

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.kernel.lab import Difference, Lab
    from tests.workload import Process

pytestmark = pytest.mark.kernel

WORKERS, CONNECTIONS, SIZE = 3, 101, 4099
SHARE = 34
"""More than this no worker takes, so each has to."""
SYN = {4: 60, 6: 80}
ACK = {4: 52, 6: 72}


def _call(lab: Lab, family: int) -> Process:
    def call(talk: Connection) -> None:
        address = lab.right.address(family)
        tcp.call(talk, address, servers.greeted, SIZE, connections=CONNECTIONS)

    client = lab.start(call, at=lab.left)
    assert client.wait() == 0
    return client


def _assert_payload(passed: Difference, served: dict[int, int]) -> None:
    """Hold that each worker's connections brought it what the client sent, and no other's."""
    assert sum(served.values()) == CONNECTIONS
    if not needs.is_there("payload"):
        return
    payload = {pid: passed.records[pid].tcp.received_bytes for pid in served}
    assert payload == {pid: number * SIZE for pid, number in served.items()}


@pytest.mark.needs("users")
def test_pre_fork(lab: Lab, family: int) -> None:
    """Workers accept at one listener, which is the parent's: it has the handshakes, no more."""
    pipes = [multiprocessing.Pipe() for _ in range(WORKERS)]
    start = lab.read()
    parent = lab.start(
        *(servers.pre_fork, lab.right.address(family), SIZE, SHARE, [end for _, end in pipes]),
        at=lab.right,
    )
    children = parent.hear()
    client = _call(lab, family)
    served = {}
    for child, (pipe, _) in zip(children, pipes, strict=True):
        pipe.send("stop")
        served[child] = pipe.recv()

    passed = lab.since(start)
    passed.assert_law("tcp")
    passed.assert_carried(client, lab.left, "tcp")
    syns = CONNECTIONS, CONNECTIONS * SYN[family]
    both = 2 * CONNECTIONS, CONNECTIONS * (SYN[family] + ACK[family])
    assert readable(passed.processes[parent.pid]) == {"tcp receive": both, "tcp transmit": syns}
    server = total(passed.processes[pid] for pid in (parent.pid, *children))
    assert readable(server) == readable(passed.seen[lab.right.namespace], "tcp")
    _assert_payload(passed, served)
    # It has none where none is told, either.
    assert passed.records[parent.pid].tcp.received_bytes == 0
    assert sorted(served.values()) == [33, 34, 34]
    assert passed.lost == {}
    for pipe, _ in pipes:
        pipe.send("end")
    parent.wait()


def test_reuse_port(lab: Lab, family: int) -> None:
    """Several listeners at one port: each has its own connections from the SYN on."""
    start = lab.read()
    address = lab.right.address(family)
    workers = [
        lab.start(servers.own_listener, address, SIZE, CONNECTIONS, at=lab.right)
        for _ in range(WORKERS)
    ]
    assert [worker.hear() for worker in workers] == ["ready"] * WORKERS
    client = _call(lab, family)
    served = {}
    for worker in workers:
        worker.tell("stop")
        served[worker.pid] = worker.hear()

    passed = lab.since(start)
    passed.assert_law("tcp")
    passed.assert_carried(client, lab.left, "tcp")
    carried = total(passed.processes[worker.pid] for worker in workers)
    assert readable(carried) == readable(passed.seen[lab.right.namespace], "tcp")
    _assert_payload(passed, served)
    assert passed.lost == {}
    for worker in workers:
        worker.tell("end")
        assert worker.wait() == 0
