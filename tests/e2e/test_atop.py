# SPDX-License-Identifier: Apache-2.0
"""Debian's atop as it is, which takes us for netatop: the counts of /metrics, task by task."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.e2e import program, workers
from tests.traffic import tcp
from tests.traffic.passing import SIZE, echo_stream
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from tests.e2e.exposition import Exposition

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SHARES: Final = {"thread-a": 23, "thread-b": 41, "thread-c": 7}
TASK: Final = re.compile(
    r"PRN \S+ \d+ \S+ \S+ \d+ (?P<id>\d+) \((?P<name>.*)\) (?P<state>\S) (?P<netatop>[yn]) "
    r"(?P<numbers>(?:\d+ ){10})(?P<process>\d+) (?P<kind>[yn])"
)
"""A line of `atop -P PRN`, as atop(1) tells it: host, times, then the fields of the label."""


class Task(NamedTuple):
    """A process, or a thread, and its counts as /metrics has them."""

    id: int
    process: int
    is_process: bool


Counts = dict[str, float]


def atop(*flags: str) -> tuple[bool, Mapping[Task, Mapping[str, Counts]]]:
    """Run it for one sample: what has been since each task was started; whether it sees netatop."""
    if shutil.which("atop") is None:
        pytest.fail("needs atop: apt-get install atop")
    done = subprocess.run(
        ("atop", *flags, "-a", "-P", "PRN", "1", "1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    found, sees = {}, set()
    for line in done.stdout.splitlines():
        if not line.startswith("PRN"):
            continue
        match = TASK.fullmatch(line)
        assert match, line
        sees.add(match["netatop"])
        task = Task(int(match["id"]), int(match["process"]), match["kind"] == "y")
        found[task] = _counts(match["numbers"])
    assert len(sees) == 1
    return sees == {"y"}, found


def _counts(numbers: str) -> dict[str, Counts]:
    """Return packets sent, bytes sent, packets received, bytes received; of TCP, then UDP."""
    values = list(map(float, numbers.split()))
    assert values[8:] == [0, 0]
    names = ("transmit_packets", "transmit_bytes", "receive_packets", "receive_bytes")
    return {
        "tcp": dict(zip(names, values[:4], strict=True)),
        "udp": dict(zip(names, values[4:8], strict=True)),
    }


def _of_process(found: Exposition, pid: int) -> dict[str, Counts]:
    return {p: found.traffic("process_", pid=str(pid), protocol=p) for p in ("tcp", "udp")}


def _of_thread(found: Exposition, pid: int, tid: int) -> dict[str, Counts]:
    return {
        p: found.traffic("thread_", pid=str(pid), tid=str(tid), protocol=p) for p in ("tcp", "udp")
    }


def _talk_tcp(talk: Connection, name: str, port: int) -> None:
    workers.call_myself(name)
    with tcp.connect(workers.LOCAL, port) as own:
        for _ in range(29):
            own.sendall(bytes(SIZE))
            tcp.receive(own, SIZE)
        talk.send("done")
        talk.recv()


def test_processes_and_threads(name: str) -> None:
    """A team of threads, and two ends of a connection: each task's counts, to the byte."""
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(program.serve("--compat.netatop", "--collector.threads"))
        team = stack.enter_context(Process(workers.team, name, SHARES, SIZE))
        tids = team.hear()
        server = stack.enter_context(Process(tcp.serve, workers.LOCAL, echo_stream))
        server.hear()
        client = stack.enter_context(Process(_talk_tcp, f"{name}-c", 4099))
        assert client.hear() == "done"
        time.sleep(0.25)  # a delayed acknowledgement
        sees, tasks = atop("-K", "-y")
        found = exporter.scrape()
        assert sees
        whole = workers.traffic(sum(SHARES.values()), SIZE)
        assert tasks[Task(team.pid, team.pid, True)]["udp"] == whole
        for process in (team, server, client):
            known = _of_process(found, process.pid)
            assert tasks[Task(process.pid, process.pid, True)] == known
        for thread, tid in tids.items():
            counts = tasks[Task(tid, team.pid, False)]
            assert counts == _of_thread(found, team.pid, tid)
            assert counts["udp"] == workers.traffic(SHARES[thread], SIZE)
        assert _of_process(found, client.pid)["tcp"]["transmit_packets"] > 29
        team.tell()


def test_without_threads(name: str) -> None:
    """The main thread stands for its process, so the sum over its threads is right."""
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(program.serve("--compat.netatop"))
        team = stack.enter_context(Process(workers.team, name, SHARES, SIZE))
        tids = team.hear()
        _, tasks = atop("-K", "-y")
        whole = workers.traffic(sum(SHARES.values()), SIZE)
        assert _of_process(exporter.scrape(), team.pid)["udp"] == whole
        assert tasks[Task(team.pid, team.pid, True)]["udp"] == whole
        assert tasks[Task(team.pid, team.pid, False)]["udp"] == whole
        for tid in tids.values():
            assert not any(tasks[Task(tid, team.pid, False)]["udp"].values())
        team.tell()


def test_not_asked_for(name: str) -> None:
    """Without the flag atop finds no netatop, and with it only while we run."""
    with program.serve(), Process(workers.talker, name, SIZE) as talker:
        talker.hear()
        assert not atop("-K")[0]
    with program.serve("--compat.netatop"):
        assert atop("-K")[0]
    wait_until(lambda: not atop("-K")[0], "atop finds no netatop")
