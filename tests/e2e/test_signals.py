# SPDX-License-Identifier: Apache-2.0
"""How it ends: by signals, early and late, gently and not; nothing stays behind."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e import program, workers
from tests.e2e.attachments import all_there, held_by
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.usefixtures("nothing_left")]


def _listens(exporter: Program) -> bool:
    """Tell whether the kernel takes connections for it: it has begun to start, at least."""
    assert exporter.process.poll() is None, exporter.log
    return program.listens(exporter.port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_end(number: int) -> None:
    """A signal ends it, and whatever it had attached is gone."""
    with program.start() as exporter:
        wait_until(exporter.is_ready, "the exporter is ready")
        held = held_by(exporter.pid)
        assert len(held.links) >= 8
        assert len(held.programs) >= 8
        assert held == held & all_there()
        status = exporter.end(number)
        assert status == (-number if number == signal.SIGKILL else 0)
        wait_until(lambda: not held & all_there(), "its links and programs are gone")
        assert "Traceback" not in exporter.log
        if status == 0:
            assert "level=info msg=stopping" in exporter.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_during_start(number: int) -> None:
    """A signal while the programs are being loaded ends it as well."""
    with program.start() as exporter:
        wait_until(lambda: _listens(exporter), "it listens")
        assert exporter.end(number) == 0
        assert "Traceback" not in exporter.log


def test_end_during_scrapes() -> None:
    """A signal while clients scrape without pause ends it in order."""
    with program.start() as exporter:
        wait_until(exporter.is_ready, "the exporter is ready")
        clients = [
            subprocess.Popen(
                (
                    "curl",
                    "-s",
                    "--output",
                    "/dev/null",
                    f"http://{exporter.address}/metrics?[1-999]",
                )
            )
            for _ in range(5)
        ]
        try:
            exporter.scrape()
            assert exporter.end() == 0
        finally:
            for client in clients:
                client.kill()
                client.wait()
        assert "Traceback" not in exporter.log


def test_once_interrupted() -> None:
    """Ctrl-C ends `once` without a word of Python."""
    with subprocess.Popen(
        (*program.COMMAND, "once", "--seconds", "61"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=program.environment(),
    ) as once:
        try:
            wait_until(lambda: len(held_by(once.pid).links) >= 8, "it counts")
            once.send_signal(signal.SIGINT)
            said = once.communicate(timeout=PATIENCE)
        finally:
            once.kill()
        assert (once.returncode, said) == (128 + signal.SIGINT, ("", ""))


def test_two_at_once(name: str) -> None:
    """Two exporters count the same, each for itself; the end of one does not touch the other."""
    with program.serve() as first, Process(workers.talker, name, 37) as talker:
        talker.hear()
        talker.tell(41)
        talker.hear()
        with program.serve() as second:
            before = [e.scrape().traffic("group_", group=name) for e in (first, second)]
            talker.tell(43)
            talker.hear()
            after = [e.scrape().traffic("group_", group=name) for e in (first, second)]
        growth = [{k: b[k] - a[k] for k in a} for a, b in zip(before, after, strict=True)]
        assert growth == [workers.traffic(43, 37)] * 2
        talker.tell(47)
        talker.hear()
        last = first.scrape().traffic("group_", group=name, protocol="udp")
        assert last == workers.traffic(41 + 43 + 47, 37)
