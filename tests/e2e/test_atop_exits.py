# SPDX-License-Identifier: Apache-2.0
"""Debian's atop as it is shows processes that have ended, with exactly the counts they had used.

atop learns who has ended from the kernel's process accounting, which it switches on itself, and
what they had used from netatop's log: it says so by a semaphore, opens the log, and with each
sample reads what has been added. The two are joined by the pid.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e import crowd, program, workers
from tests.e2e.test_atop import TASK, Counts, _counts, _talk_tcp
from tests.e2e.test_exit_log import KEY, semaphores
from tests.network import LIBC, checked
from tests.traffic import tcp
from tests.traffic.passing import SIZE, echo_stream
from tests.workload import CLOSED_PORT, PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.usefixtures("semaphores")]

__all__ = ["semaphores"]

INTERVAL: Final = 4
LOG: Final = Path("/run/netatop.log")
"""The one path that atop knows."""
GETVAL: Final = 12


class Atop:
    """A running `atop -K -P PRN`; its samples come one by one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._samples: queue.Queue[dict[int, tuple[str, Counts, Counts]]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def sample(self) -> dict[int, tuple[str, Counts, Counts]]:
        """Wait for the next sample: state, TCP and UDP of each process, by pid."""
        return self._samples.get(timeout=PATIENCE)

    def end(self) -> None:
        """End it as it wants to be, so that it switches accounting off."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def _read(self) -> None:
        found = {}
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("SEP"):
                self._samples.put(found)
                found = {}
            match = TASK.fullmatch(line.rstrip("\n"))
            if match and match["kind"] == "y":
                counts = _counts(match["numbers"])
                found[int(match["id"])] = (match["state"], counts["tcp"], counts["udp"])


@contextlib.contextmanager
def atop(samples: int) -> Iterator[Atop]:
    """Run it in the background."""
    if shutil.which("atop") is None:
        pytest.fail("needs atop: apt-get install atop")
    process = subprocess.Popen(
        ("atop", "-K", "-a", "-P", "PRN", str(INTERVAL), str(samples)),
        stdout=subprocess.PIPE,
        text=True,
    )
    running = Atop(process)
    with process:
        try:
            yield running
        finally:
            running.end()


def subscribers() -> int:
    """Return how many read the log, as its second semaphore says."""
    return 100 - int(checked(LIBC.semctl(checked(LIBC.semget(KEY, 0, 0)), 1, GETVAL)))


def needs_accounting() -> None:
    """Skip where the kernel was built without process accounting; acct(2) says so."""
    if LIBC.acct(b"/nonexistent") and ctypes.get_errno() == errno.ENOSYS:
        pytest.skip("atop learns of ended processes from process accounting, not in this kernel")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[program.Program]:
    """Run an exporter that is taken for netatop and its daemon."""
    assert not os.path.lexists(LOG), "somebody else's; does netatopd run here?"
    file = folder / "netatop-exporter.yml"
    file.write_text("exit_log: {format: netatop}\ncompat: {netatop: true}\n", encoding="utf-8")
    try:
        with program.serve("--config.file", str(file)) as exporter:
            yield exporter
    finally:
        LOG.unlink(missing_ok=True)


def test_lived_between_samples(name: str, tmp_path: Path) -> None:
    """One that began and ended between two samples, by UDP and by TCP, FIN included.

    One that was there before shows what it had used since, and none is shown twice.
    """
    needs_accounting()
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(served(tmp_path))
        old = stack.enter_context(Process(workers.talker, name, SIZE))
        old.hear()
        old.tell(7)
        old.hear()
        running = stack.enter_context(atop(4))
        wait_until(lambda: subscribers() == 1, "atop has said that it reads the log")
        first = running.sample()
        assert first[old.pid][2] == workers.traffic(7, SIZE)
        pid = workers.live(f"{name}-a", 41, 43)
        server = stack.enter_context(Process(tcp.serve, workers.LOCAL, echo_stream))
        server.hear()
        client = stack.enter_context(Process(_talk_tcp, f"{name}-b", 4099))
        assert client.hear() == "done"
        client.tell()
        client.wait()
        old.tell(13)
        old.hear()
        old.tell(0)
        old.wait()
        second, third = running.sample(), running.sample()
        assert second[pid][0] == "E"
        assert second[pid][2] == workers.traffic(41, 43)
        assert second[old.pid][0] == "E"
        assert second[old.pid][2] == workers.traffic(13, SIZE)
        assert not {pid, client.pid, old.pid} & set(third)
        found = exporter.scrape().traffic("process_", pid=str(client.pid), protocol="tcp")
        assert second[client.pid][:2] == ("E", found)
        assert found["transmit_packets"] > 29
        running.end()
        wait_until(lambda: subscribers() == 0, "atop reads it no more")
        assert exporter.scrape().sum("netatop_exit_log_lost_total") == 0
    assert not os.path.lexists("/var/cache/atop.d"), "atop has switched accounting off"


def bustle(talk: Connection, name: str) -> None:
    """Let processes that use the network begin and end all the time, until told otherwise."""
    talk.send("begun")
    while not talk.poll(0.005):
        child = crowd.send_one(name, (workers.LOCAL, CLOSED_PORT), 0)
        os.waitpid(child, 0)


def test_on_a_busy_host(name: str, tmp_path: Path) -> None:
    """There is always one that has just ended: atop must not be told to come back later."""
    needs_accounting()
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(served(tmp_path))
        around = stack.enter_context(Process(bustle, f"{name}-x"))
        around.hear()
        time.sleep(0.5)
        assert exporter.scrape().sum("netatop_exit_log_records_total") == 0, "nobody reads yet"
        running = stack.enter_context(atop(4))
        running.sample()
        for datagrams in (41, 61):
            pid = workers.live(name, datagrams, 43)
            state, _, udp = running.sample()[pid]
            assert (state, udp) == ("E", workers.traffic(datagrams, 43))
        around.tell()
        around.wait()
        assert exporter.scrape().sum("netatop_exit_log_records_total") > 2
