# SPDX-License-Identifier: Apache-2.0
"""`watch` and `wait`: real processes and threads, known by those who started them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import program, workers
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


class Watch:
    """A running `watch --json`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.told.append(json.loads(line))

    def of(self, **values: Any) -> list[dict[str, Any]]:
        """Return the events that have these values."""
        return [t for t in list(self.told) if values.items() <= t.items()]

    def expect(self, happened: Callable[[], object]) -> None:
        """Wait until that is so."""
        wait_until(happened, f"events come: {self.told[-5:]}")


@contextlib.contextmanager
def watching(*words: str) -> Iterator[Watch]:
    """Watch, from the moment on in which it hears of what happens."""
    nobody = ("--web.listen-address", f"{program.LOCAL}:{program.free_port()}")
    process = subprocess.Popen(
        (*program.COMMAND, "watch", "--json", *nobody, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=program.environment(),
    )
    with process:
        try:
            yield Watch(process)
        finally:
            process.kill()


def until_heard(watch: Watch) -> None:
    """Make things happen until the first is told."""

    def heard() -> bool:
        subprocess.run(["true"], check=True)
        return bool(watch.told)

    wait_until(heard, "it watches")


@pytest.fixture
def everything() -> Iterator[Watch]:
    """Watch everything on this host."""
    with watching() as found:
        until_heard(found)
        yield found


def test_a_life(everything: Watch) -> None:
    """Fork, exec and exit of a command, with who, whose child, when, and how it ended."""
    before = time.time()
    done = subprocess.Popen(["sh", "-c", "exit 3"])
    assert done.wait() == 3
    everything.expect(lambda: everything.of(pid=done.pid, event="exit"))
    fork, exec_, end = (
        everything.of(pid=done.pid, event=event)[0] for event in ("fork", "exec", "exit")
    )
    assert (fork["parent"], fork["tid"]) == (os.getpid(), done.pid)
    assert (exec_["process"], exec_["user"]) == ("sh", "root")
    assert (end["outcome"], end["exit_status"], end["signal"]) == ("error", 3, None)
    times = [told["time_seconds"] for told in (fork, exec_, end)]
    assert before - 0.05 <= times[0] <= times[1] <= times[2] <= time.time() + 0.05
    assert end["traffic"] is None


def test_abort(everything: Watch) -> None:
    """Killed by a signal."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        sleeper.kill()
    everything.expect(lambda: everything.of(pid=sleeper.pid, event="abort"))
    (end,) = everything.of(pid=sleeper.pid, event="abort")
    assert (end["outcome"], end["exit_status"], end["signal"]) == ("signal", None, "SIGKILL")
    assert not everything.of(pid=sleeper.pid, event="exit")


def test_threads(everything: Watch, name: str) -> None:
    """Each thread is created once and exits once; the process exits once."""
    with Process(workers.team, name, {f"{name}{n}": 1 for n in range(5)}, 1) as team:
        tids = team.hear()
        team.tell()
        team.hear()
        team.tell()
        assert team.wait() == 0
    everything.expect(lambda: everything.of(pid=team.pid, event="exit"))
    for event in ("thread_create", "thread_exit"):
        found = sorted(told["tid"] for told in everything.of(pid=team.pid, event=event))
        assert found == sorted(tids.values())
    assert len(everything.of(pid=team.pid, event="exit")) == 1


def test_filters(name: str) -> None:
    """Several watchers at once: each is told what it has asked for, and nothing else."""
    starter = (
        "import subprocess,sys\nfor line in sys.stdin: subprocess.run(['sh', '-c', 'true; true'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin
        pid = str(parent.pid)
        with (
            watching("--pid", pid) as own,
            watching("--pid", pid, "--tree") as tree,
            watching("--pid", pid, "--tree", "--event", "exec", "--event", "exit") as some,
            watching("--comm", name) as nobody,
        ):

            def go() -> bool:
                parent.stdin.write("\n")
                parent.stdin.flush()
                time.sleep(0.1)
                return all(watch.told for watch in (own, tree, some))

            wait_until(go, "all are told")
            time.sleep(1)
            assert {told["event"] for told in own.told} == {"fork"}
            assert {told["parent"] for told in own.told} == {parent.pid}
            assert {told["event"] for told in tree.told} >= {"fork", "exec", "exit"}
            assert {told["event"] for told in some.told} == {"exec", "exit"}
            assert {told["process"] for told in some.told} <= {"sh", "python", "python3", "true"}
            with Process(workers.talker, name, 1) as talker:
                talker.hear()
                talker.tell(0)
                talker.wait()
            nobody.expect(lambda: nobody.of(event="exit"))
            assert {told["process"] for told in nobody.told} == {name}
        parent.stdin.close()


def test_tree_of_those_that_live() -> None:
    """Descendants that were there before are watched too."""
    with subprocess.Popen(
        ["sh", "-c", "sh -c 'read x; true; exit 5'; exit 6"], stdin=subprocess.PIPE
    ) as top:
        time.sleep(0.3)
        with watching("--pid", str(top.pid), "--tree") as watch:
            time.sleep(1.5)  # what it would tell must not happen before it watches
            assert top.stdin
            top.stdin.write(b"\n")
            top.stdin.close()
            watch.expect(lambda: len(watch.of(event="exit")) >= 2)
            assert [told["exit_status"] for told in watch.of(event="exit")] == [5, 6]


def test_traffic_of_what_ends(name: str) -> None:
    """If an exporter runs here, an exit says what the process had used."""
    with (
        program.serve() as exporter,
        watching("--comm", name, "--web.listen-address", exporter.address) as watch,
    ):
        time.sleep(1.5)
        with Process(workers.talker, name, 37) as talker:
            talker.hear()
            talker.tell(23)
            talker.hear()
            talker.tell(0)
            talker.wait()
        watch.expect(lambda: watch.of(event="exit"))
        (end,) = watch.of(event="exit")
        assert end["traffic"]["udp"] == workers.traffic(23, 37)


def test_table() -> None:
    """For people; interrupted, it ends without a trace, and nothing stays attached."""
    process = subprocess.Popen(
        (*program.COMMAND, "watch", "--event", "exec"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=program.environment(),
    )
    assert process.stdout
    assert process.stdout.readline().split()[:3] == ["time", "event", "pid"]
    subprocess.run(["true"], check=True)
    while "true" not in (line := process.stdout.readline()):
        pass
    assert line.split()[1] == "exec"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "")


def test_a_slow_watcher() -> None:
    """One that is stopped misses events, and is told how many; another misses none."""
    with watching("--event", "exit") as slow, watching("--event", "fork") as quick:
        until_heard(slow)
        until_heard(quick)
        slow._process.send_signal(signal.SIGSTOP)
        for _ in range(40):
            subprocess.run(["sh", "-c", "for i in $(seq 500); do (:); done"], check=True)
        slow._process.send_signal(signal.SIGCONT)
        slow.expect(lambda: any("missed" in told for told in slow.told))
        time.sleep(1)
        assert len(quick.of(event="fork")) >= 20_000
        assert not any("missed" in told for told in quick.told)
        missed = sum(told.get("missed", 0) for told in slow.told)
        assert missed + len(slow.of(event="exit")) >= 20_000


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["sh", "-c", "sleep 0.5; exit 7"], 7, "exit status 7"),
        (["sh", "-c", "sleep 0.5; kill -TERM $$"], 143, "killed by SIGTERM"),
        (["sleep", "0.5"], 0, "exit status 0"),
    ],
)
def test_wait(words: list[str], status: int, said: str) -> None:
    """It ends with the process, and as the process."""
    with subprocess.Popen(words) as target:
        done = program.run("wait", str(target.pid))
    assert (done.returncode, done.stdout) == (status, f"{target.pid}: {said}\n")


def test_wait_for_one_that_has_ended() -> None:
    """Nobody has waited for it yet: its status is there."""
    target = subprocess.Popen(["sh", "-c", "exit 9"])
    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
    done = program.run("wait", str(target.pid))
    assert (done.returncode, done.stdout) == (9, f"{target.pid}: exit status 9\n")
    target.wait()


def test_wait_for_nobody() -> None:
    """At once, with a sentence."""
    with subprocess.Popen(["true"]) as gone:
        pass
    message = program.refusal(program.run("wait", str(gone.pid)), 1)
    assert f"wait: found {gone.pid}, no process with this id; accepted is" in message
    message = program.refusal(program.run("watch", "--tree"), 2)
    assert "--tree: found without --pid" in message
    message = program.refusal(program.run("watch", "--comm", "x" * 16), 2)
    assert "accepted is a command name of 1 to 15 bytes" in message
