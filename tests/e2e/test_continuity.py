# SPDX-License-Identifier: Apache-2.0
"""The program, stopped, killed, restarted and replaced on the same pins."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import signal
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.e2e import attachments, program, workers
from tests.e2e.exposition import Exposition
from tests.earlier import make_earlier
from tests.workload import Process, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.needs("pins")]

DATAGRAMS = 23
RESTARTS = 67
SEVERED = "program count_transmit: detached by somebody; attached again by a restart"


@pytest.fixture
def pins(bpffs: Path) -> str:
    """Return a path to pin to."""
    return str(bpffs / "netatop")


def test_pause(pins: str, name: str) -> None:
    """Nothing falls; who came and went while nobody ran is in the sums and in the list."""
    with program.serve("--pin-path", pins) as exporter, Process(workers.leave, name, 3) as first:
        first.wait()
        before = exporter.scrape()
        assert before.sum("netatop_exited_processes_total", group=name) == 1
    with Process(workers.leave, name, -signal.SIGKILL) as second:
        second.wait()
    with program.serve("--pin-path", pins) as exporter:
        after = exporter.scrape()
        after.check_growth(before)
        assert after.traffic("exited_", group=name, protocol="udp") == workers.traffic(2, 0)
        listed = json.loads(exporter.ask("/api/v1/exits").body)["exits"]
        found = {entry["pid"]: entry for entry in listed if entry["group"] == name}
        assert found.keys() == {first.pid, second.pid}
        assert (found[first.pid]["exit_status"], found[second.pid]["signal"]) == (3, "SIGKILL")
        assert found[first.pid]["number"] < found[second.pid]["number"]


@pytest.mark.parametrize("pinned", [False, True], ids=["alone", "pinned"])
def test_severed(pins: str, name: str, *, pinned: bool) -> None:
    """What an administrator detaches is missing, which is told; the next start mends it."""
    flags = ("--pin-path", pins) if pinned else ()
    attached = functools.partial(Exposition.sum, name="netatop_program_attached")
    with program.serve(*flags) as exporter:
        assert attached(exporter.scrape(), program="count_transmit") == 1
        attachments.sever(exporter.pid, "count_transmit")
        wait_until(lambda: SEVERED in exporter.log, "it is told")
        assert attached(exporter.scrape(), program="count_transmit") == 0
        assert attached(exporter.scrape(), program="count_receive") == 1
        workers.live(name, DATAGRAMS, 101)
        found = exporter.scrape().traffic("group_", group=name, protocol="udp")
        expected = workers.traffic(DATAGRAMS, 101)
        assert found == expected | {"transmit_packets": 0.0, "transmit_bytes": 0.0}
        exporter.scrape()
        assert exporter.log.count(SEVERED) == 1
    with program.serve(*flags) as exporter:
        assert ("was detached by somebody; attached again" in exporter.log) == pinned
        assert attached(exporter.scrape(), program="count_transmit") == 1
        workers.live(f"{name}x", DATAGRAMS, 101)
        assert exporter.scrape().traffic("group_", group=f"{name}x") == expected


def test_moved_under_way(pins: str, name: str) -> None:
    """Another choice of flags needs other programs; the counters go on, of live ones too."""
    with Process(workers.talker, name, 101) as talker:
        talker.hear()
        before = None
        for number, flags in enumerate(((), ("--collector.threads",), ("--collector.sockets",)), 1):
            with program.serve("--pin-path", pins, *flags) as exporter:
                talker.tell(DATAGRAMS)
                talker.hear()
                after = exporter.scrape()
                expected = workers.traffic(number * DATAGRAMS, 101)
                assert after.traffic("process_", pid=str(talker.pid)) == expected
                assert after.traffic("group_", group=name) == expected
                if before:
                    after.check_growth(before)
                before = after
        talker.tell(0)


def test_killed_again_and_again(pins: str, name: str) -> None:
    """67 times SIGKILL at any moment, also during start and scrape, under load: all is there."""
    dice = random.Random(4099)
    with Process(workers.stream, name) as worker:
        before = None
        for number in range(RESTARTS):
            with program.start("--pin-path", pins) as exporter:
                if number == 0:
                    _until_ready(exporter)
                    worker.tell("begin")
                elif number % 10:
                    # Somewhere in the start, the first scrape or after it.
                    scraper = threading.Thread(target=_scrape_on, args=(exporter,))
                    scraper.start()
                    time.sleep(dice.uniform(0.1, 0.5))
                    exporter.end(signal.SIGKILL)
                    scraper.join()
                else:
                    _until_ready(exporter)
                    after = exporter.scrape()
                    if before:
                        after.check_growth(before)
                    before = after
        worker.tell("stop")
        sent = worker.hear()
        with program.serve("--pin-path", pins) as exporter:
            last = exporter.scrape()
            assert last.traffic("group_", group=name) == workers.traffic(sent, 0)
            assert last.sum("netatop_lost_total") == 0
        worker.tell()


def _until_ready(exporter: program.Program) -> None:
    while not exporter.is_ready():
        time.sleep(0.01)


def _scrape_on(exporter: program.Program) -> None:
    """Scrape until nobody answers any more."""
    while exporter.process.poll() is None:
        with contextlib.suppress(OSError, HTTPException):
            exporter.ask()


def test_second_is_refused(pins: str) -> None:
    """It says who uses the path, and the first goes on undisturbed."""
    with program.serve("--pin-path", pins) as exporter:
        for command in (("once", "--seconds", "0"), ("doctor",)):
            assert program.run(*command).returncode == 0
        said = program.refusal(
            program.run("serve", "--pin-path", pins, "--web.listen-address", "127.0.0.1:0"), 1
        )
        assert f"in use by another exporter (pid {exporter.pid})" in said
        said = program.refusal(program.run("detach", "--pin-path", pins), 1)
        assert f"(pid {exporter.pid})" in said
        exporter.scrape()


def test_detach(pins: str) -> None:
    """Everything is gone, the directory too; once more there is nothing to do."""
    with program.serve("--pin-path", pins) as exporter:
        exporter.scrape()
    assert Path(pins).is_dir()
    assert program.run("detach", "--pin-path", pins).stdout == f"{pins}: removed\n"
    assert not Path(pins).exists()
    assert program.run("detach", "--pin-path", pins).returncode == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("serve", "--pin-path", ""), 2, "--pin-path: found ''"),
        (("serve", "--pin-path", "/proc"), 1, "accepted is a directory of a bpf file system"),
        (("detach",), 2, "--pin-path is missing"),
    ],
)
def test_wrong_paths(words: tuple[str, ...], status: int, said: str) -> None:
    """The message says what would be accepted."""
    assert said in program.refusal(program.run(*words), status)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a version whose tables have other layouts: a field less, another one, other words."""
    place = tmp_path_factory.mktemp("earlier")
    make_earlier(place)
    return place


def test_earlier_version(pins: str, name: str, earlier: Path) -> None:
    """The totals of a version with other layouts are moved over, and those of live processes."""
    inside = ("env", f"PYTHONPATH={earlier}", "PYTHONSAFEPATH=")
    with Process(workers.talker, name, 101) as talker, Process(workers.leave, name, 0) as gone:
        gone.wait()
        talker.hear()
        with program.serve("--pin-path", pins, prefix=inside) as exporter:
            with Process(workers.leave, name, 0) as leaver:
                leaver.wait()
            talker.tell(DATAGRAMS)
            talker.hear()
            before = exporter.scrape()
            everything = before.traffic("group_", group=name, protocol="udp")
        talker.tell(DATAGRAMS)
        talker.hear()
        with program.serve("--pin-path", pins) as exporter:
            assert "moving the totals of another version" in exporter.log
            after = exporter.scrape()
            after.check_growth(before)
            more = workers.traffic(DATAGRAMS, 101)
            expected = {key: everything[key] + more[key] for key in more}
            assert after.traffic("group_", group=name, protocol="udp") == expected
            both = workers.traffic(2 * DATAGRAMS, 101)
            assert after.traffic("process_", pid=str(talker.pid), protocol="udp") == both
        talker.tell(0)
