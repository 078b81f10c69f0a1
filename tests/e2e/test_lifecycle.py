# SPDX-License-Identifier: Apache-2.0
"""Events in the lives of processes, counted by group: those who made them happen know how many."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e import program, workers
from tests.workload import Process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.exposition import Exposition

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

FORKS = 23
THREADS = 7
FORK = f"i=0; while [ $i -lt {FORKS} ]; do (:); i=$((i+1)); done; exit 3"
EVENTS = {"fork", "exec", "exit", "abort", "thread_create", "thread_exit"}


def events(found: Exposition, group: str) -> dict[str, float]:
    """Return what was counted of a group, but for zeros."""
    series = found.series("netatop_lifecycle_events_total", group=group)
    told = {dict(labels)["event"]: value for labels, value in series.items()}
    assert not told or told.keys() == EVENTS
    return {event: count for event, count in told.items() if count}


def test_counts(name: str, tmp_path: Path) -> None:
    """To the event; a shell under a name of its own, killed once, and a process with threads."""
    shell = shutil.copy("/bin/dash", tmp_path / name)
    with program.serve("--collector.lifecycle") as exporter:
        assert subprocess.run([shell, "-c", FORK], check=False).returncode == 3
        expected = {"exec": 1, "fork": FORKS, "exit": FORKS + 1}
        assert events(exporter.scrape(), name) == expected
        assert subprocess.run([shell, "-c", "kill -9 $$"], check=False).returncode == -9
        assert events(exporter.scrape(), name) == expected | {"exec": 2, "abort": 1}
        threads = f"{name}t"
        shares = {f"t{number}": 1 for number in range(THREADS)}
        with Process(workers.team, threads, shares, 1) as team:
            team.hear()
            found = exporter.scrape()
            assert events(found, threads) == {"thread_create": THREADS}
            team.tell()
            team.hear()
            team.tell()
            team.wait()
        assert events(exporter.scrape(), threads) == {
            "thread_create": THREADS,
            "thread_exit": THREADS,
            "exit": 1,
        }


def test_rules(name: str, tmp_path: Path) -> None:
    """Groups of events are those of traffic, as far as the kernel tells what they are made of."""
    shell = shutil.copy("/bin/dash", tmp_path / name)
    file = tmp_path / "rules.yml"
    file.write_text(f"groups: [{{comm: [{name}], user: [root], name: 'all of {name}'}}]\n")
    with program.serve("--collector.lifecycle", "--config.file", str(file)) as exporter:
        subprocess.run([shell, "-c", FORK], check=False)
        found = exporter.scrape()
        assert events(found, f"all of {name}")["fork"] == FORKS
        assert events(found, name) == {}


def test_off_by_default() -> None:
    """Nothing is attached then."""
    with program.serve() as exporter:
        found = exporter.scrape()
        assert not found.series("netatop_lifecycle_events_total")


def test_more_kinds_than_there_is_room_for(name: str, tmp_path: Path) -> None:
    """A program that renames itself for ever fills the table once; the rest is in `other`."""
    script = (
        "import os\n"
        "for number in range(9001):\n"
        "    with open('/proc/self/comm', 'w') as file: file.write(f'{number}x')\n"
        "    if not os.fork(): os._exit(0)\n"
        "    os.wait()\n"
    )
    del tmp_path, name
    with program.serve("--collector.lifecycle") as exporter:
        before = exporter.scrape().sum("netatop_lifecycle_events_total", event="fork")
        subprocess.run(["python3", "-c", script], check=True)
        found = exporter.scrape()
        assert found.sum("netatop_lifecycle_events_total", event="fork") - before >= 9001
        assert found.sum("netatop_lifecycle_events_total", event="fork", group="other") > 8000
