# SPDX-License-Identifier: Apache-2.0
"""The program, stopped, killed, restarted and replaced on the same pins."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import program, workers
from tests.workload import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.needs("pins")]

CHECKOUT = Path(__file__).parents[2]
DATAGRAMS = 23
RESTARTS = 200


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
    """200 times SIGKILL at any moment, also during start and scrape, under load: all is there."""
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
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a version whose tables have other layouts: a field less, another one, other words."""
    place = tmp_path_factory.mktemp("earlier")
    for folder in ("bpf", "exporter"):
        shutil.copytree(CHECKOUT / folder, place / folder)
    header = place / "bpf" / "netatop.h"
    text = header.read_text()
    for old, new in (
        (
            "	__u64 cgroup_id;\n	__u32 tgid;",
            "	__u64 shoe_size;\n	__u64 cgroup_id;\n	__u32 tgid;",
        ),
        ("PROTOCOL_TCP, PROTOCOL_UDP,", "PROTOCOL_UDP, PROTOCOL_TCP,"),
        ("REASON_NO_SOCKET, REASON_KERNEL,", "REASON_KERNEL, REASON_NO_SOCKET,"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    header.write_text(text)
    model = place / "exporter" / "model.py"
    text = model.read_text()
    for old, new in (('"tcp", "udp", "icmp"', '"udp", "tcp", "icmp"'),):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    model.write_text(text)
    subprocess.run(["make", "-s", "-C", place / "bpf", "layouts", "all"], check=True)
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
