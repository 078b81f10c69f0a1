# SPDX-License-Identifier: Apache-2.0
"""Processes that come and go between two scrapes: nothing of them is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import program, workers
from tests.kernel.lab import cgroup_root
from tests.traffic import forks
from tests.workload import CLOSED_PORT, PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from tests.e2e.exposition import Exposition
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

PROCESSES = 1000
SIZE = 101
MAX = 701
SPAN = 97


def _crowd(name: str) -> None:
    with Process(workers.crowd, name, PROCESSES, SIZE) as crowd:
        assert crowd.hear() == PROCESSES * SIZE
        assert crowd.wait() == 0


def _exits(found: Exposition, name: str | None) -> dict[str, float]:
    labels = {"group": name} if name else {}
    return {
        outcome: found.sum("netatop_exited_processes_total", outcome=outcome, **labels)
        for outcome in ("exit", "error", "signal")
    }


def _check_lives(found: Exposition, name: str) -> None:
    """Hold that each is in both histograms, and that their sums are those of the traffic."""
    sums = dict.fromkeys(("exited_process_lifetime_seconds", "exited_process_bytes"), 0.0)
    for what in sums:
        assert found.sum(f"netatop_{what}_count", group=name) == PROCESSES
        sums[what] = found.sum(f"netatop_{what}_sum", group=name)
    assert sums["exited_process_bytes"] == PROCESSES * (workers.HEADERS + SIZE)
    assert 0 < sums["exited_process_lifetime_seconds"] < PROCESSES * PATIENCE


def test_thousand_between_scrapes(name: str) -> None:
    """Each is counted, each datagram too; records leave the exit list, the sums stay."""
    expected = {
        "receive_packets": 0.0,
        "receive_bytes": 0.0,
        "transmit_packets": float(PROCESSES),
        "transmit_bytes": float(PROCESSES * (workers.HEADERS + SIZE)),
    }
    with program.serve("--exits.max", str(MAX)) as exporter:
        before = exporter.scrape()
        assert not any(before.traffic("group_", group=name).values())
        _crowd(name)
        after = exporter.scrape()
        for subject in ("group_", "exited_"):
            assert after.traffic(subject, group=name, protocol="udp") == expected
            assert after.traffic(subject, group=name) == expected, "nothing but UDP"
        assert _exits(after, name) == {"exit": PROCESSES, "error": 0, "signal": 0}
        assert len(after.label_values("netatop_process_transmit_packets_total", "pid", group=name))

        def gone() -> bool:
            found = exporter.scrape()
            assert found.traffic("group_", group=name) == expected
            assert found.traffic("exited_", group=name) == expected
            assert _exits(found, name)["exit"] == PROCESSES
            return not found.series("netatop_process_transmit_packets_total", group=name)

        wait_until(gone, "the records leave the exit list")
        last = exporter.scrape()
        kept = [found.sum("netatop_map_entries", map="tasks") for found in (last, after)]
        assert kept[0] < kept[1]
        # Of those that ended, as many as --exits.max says are listed, and the rest counted.
        listed, evicted = (
            last.sum(f"netatop_exit_list_{what}") for what in ("processes", "evicted_total")
        )
        assert listed == MAX
        assert listed + evicted == sum(_exits(last, None).values())
        _check_lives(last, name)
        # A second crowd of that name adds to the first.
        _crowd(name)
        both = exporter.scrape()
        assert _exits(both, name) == {"exit": 2 * PROCESSES, "error": 0, "signal": 0}
        assert both.traffic("exited_", group=name) == {n: 2 * v for n, v in expected.items()}
        assert both.sum("netatop_lost_total", object="task") == 0


def test_ten_thousand_at_once(name: str, tmp_path: Path) -> None:
    """As fast as they can be made on two processors, with ids that are used again and again."""
    program_that_forks = forks.compile_in(tmp_path, name)
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    runs = [forks.Run(PROCESSES * 5, SPAN, pid_max - part * 2 * SPAN) for part in (1, 2)]
    sent = [forks.sent(number, workers.HEADERS) for number in range(runs[0].forks)]
    packets, size = (sum(column) * len(runs) for column in zip(*sent, strict=True))
    with program.serve("--exits.max", str(MAX)) as exporter:
        before = exporter.scrape()
        running = [forks.start(program_that_forks, run, workers.LOCAL, CLOSED_PORT) for run in runs]
        while any(process.poll() is None for process in running):
            exporter.scrape()
        assert [process.communicate()[1] for process in running] == [b"", b""]
        after = exporter.scrape()
        assert sum(_exits(after, name).values()) == len(runs) * runs[0].forks
        for subject in ("group_", "exited_"):
            traffic = after.traffic(subject, group=name, protocol="udp")
            assert (traffic["transmit_packets"], traffic["transmit_bytes"]) == (packets, size)
        assert after.sum("netatop_lost_total") == before.sum("netatop_lost_total")
        listed, evicted = (
            after.sum(f"netatop_exit_list_{what}") for what in ("processes", "evicted_total")
        )
        assert listed == MAX
        assert listed + evicted == sum(_exits(after, None).values())


@pytest.mark.parametrize(
    ("how", "outcome"),
    [(0, "exit"), (3, "error"), (-signal.SIGKILL, "signal"), (-signal.SIGTERM, "signal")],
)
def test_outcomes(exporter: Program, name: str, how: int, outcome: str) -> None:
    """How a process ended is told, once, and what it had used."""
    with Process(workers.leave, name, how) as process:
        process.hear()
        before = exporter.scrape()
        process.wait()
    assert before.traffic("group_", group=name, protocol="udp") == workers.traffic(1, 0)
    for _ in range(2):
        found = exporter.scrape()
        expected = dict.fromkeys(("exit", "error", "signal"), 0) | {outcome: 1}
        assert _exits(found, name) == expected
        assert found.traffic("exited_", group=name, protocol="udp") == workers.traffic(1, 0)
        assert found.traffic("group_", group=name, protocol="udp") == workers.traffic(1, 0)


def test_living_are_not_exited(exporter: Program, name: str) -> None:
    """A process that lives has its series under its pid, and none among the exited."""
    with Process(workers.talker, name, 23) as talker:
        talker.hear()
        pid = str(talker.pid)
        for datagrams, sum_of_all in ((13, 13), (17, 30), (19, 49)):
            talker.tell(datagrams)
            talker.hear()
            found = exporter.scrape()
            expected = workers.traffic(sum_of_all, 23)
            assert found.traffic("process_", pid=pid, process=name) == expected
            assert found.traffic("group_", group=name) == expected
            assert not any(_exits(found, name).values())
            assert not any(found.traffic("exited_", group=name).values())
        talker.tell(0)
        assert talker.wait() == 0
    found = exporter.scrape()
    assert _exits(found, name) == {"exit": 1, "error": 0, "signal": 0}
    # While the record is kept, its series stays.
    for labels in ({"pid": pid, "process": name}, {"group": name}):
        assert found.traffic("process_", **labels) == expected
    assert found.traffic("exited_", group=name) == expected


def _listed(exporter: Program, query: str = "") -> dict[str, Any]:
    answer = exporter.ask(f"/api/v1/exits{query}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    found: dict[str, Any] = json.loads(answer.body)
    return found


@pytest.mark.parametrize(
    ("how", "status", "killed_by"),
    [(0, 0, None), (3, 3, None), (-signal.SIGKILL, None, "SIGKILL")],
)
def test_record(
    exporter: Program, name: str, how: int, status: int | None, killed_by: str | None
) -> None:
    """Everything that is known of a process that has ended."""
    began = time.time()
    with Process(workers.leave, name, how) as process:
        assert process.wait() >= 0
    ended = time.time()
    (entry,) = (e for e in _listed(exporter)["exits"] if e["pid"] == process.pid)
    times = entry.pop("start_time_seconds"), entry.pop("end_time_seconds")
    # The start is known to a tick of the clock that /proc has too; both are rounded to 1 ms.
    assert began - 0.02 <= times[0] <= times[1] <= ended + 0.001
    assert isinstance(entry.pop("number"), int)
    cgroup, cgroup_id = _our_cgroup()
    assert (entry.pop("cgroup"), entry.pop("cgroup_id")) == (cgroup, cgroup_id)
    for what in ("runtime", "container_id", "pod_uid", "unit", "container", "pod", "namespace"):
        entry.pop(what)  # wherever the tests run
    nothing = dict.fromkeys(workers.traffic(0, 0), 0)
    assert entry == {
        "pid": process.pid,
        "process": name,
        "group": name,
        "uid": 0,
        "user": "root",
        "outcome": "signal" if killed_by else "error" if status else "exit",
        "exit_status": status,
        "signal": killed_by,
        "threads": 1,
        "sockets": 1,
        **dict.fromkeys(("tcp", "icmp", "other"), nothing),
        "udp": workers.traffic(1, 0),
        "tcp_payload": {
            "received_bytes": 0,
            "acknowledged_bytes": 0,
            "retransmitted_packets": 0,
        },
        "final": False,
    }


def _our_cgroup() -> tuple[str, int]:
    """Return path and inode number of our version 2 cgroup (cgroups(7))."""
    root = cgroup_root()
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    (path,) = (line[3:] for line in lines if line.startswith("0::"))
    return path, Path(f"{root}{path}").stat().st_ino


def test_container(exporter: Program, name: str) -> None:
    """Where it ran is known when its cgroup is gone; the exporter has seen it alive."""
    container = "4f" * 32
    place = cgroup_root() / name / "docker" / container
    place.mkdir(parents=True)
    try:
        with Process(workers.talker, name, 23, cgroup=place) as process:
            process.hear()
            process.tell(7)
            process.hear()
            exporter.scrape()
            process.tell(0)
            assert process.wait() == 0
    finally:
        for folder in (place, place.parent, place.parents[1]):
            folder.rmdir()
    (entry,) = (e for e in _listed(exporter)["exits"] if e["pid"] == process.pid)
    assert entry["cgroup"] == f"/{name}/docker/{container}"
    assert (entry["runtime"], entry["container_id"]) == ("docker", container)
    assert (entry["pod_uid"], entry["unit"]) == (None, None)


def test_page_by_page(exporter: Program, name: str) -> None:
    """`limit` and `next` walk through all, in the order in which they were found."""
    for how in range(5):
        with Process(workers.leave, name, how) as process:
            process.wait()
    seen: list[int] = []
    since = 0
    while (page := _listed(exporter, f"?since={since}&limit=2"))["exits"]:
        assert len(page["exits"]) <= 2
        seen += [e["exit_status"] for e in page["exits"] if e["group"] == name]
        since = page["next"]
    # Those that were found in one look have no order among themselves.
    assert sorted(seen) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?since=x", "since: found 'x'"),
        ("?limit=-1", "limit: found '-1'"),
        ("?limit=1000001", "accepted is a whole number from 0 to 1000000"),
        ("?sort=pid", "found parameter 'sort'; accepted are since, limit"),
        ("?since", "since: found ''"),
    ],
)
def test_wrong_query(exporter: Program, query: str, said: str) -> None:
    """A request that can't be understood is not answered with something else."""
    answer = exporter.ask(f"/api/v1/exits{query}")
    assert (answer.status, answer.headers["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert said in answer.body.decode()


def test_follow(exporter: Program, name: str) -> None:
    """Who ends while it waits is printed soon, once; SIGINT ends it without a word."""
    where = ("--web.listen-address", exporter.address)
    with Process(workers.leave, name, 0) as first:
        first.wait()
    with subprocess.Popen(
        (*program.COMMAND, "exits", "--follow", "--json", *where),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=program.environment(),
    ) as follower:
        try:
            assert follower.stdout
            lines = (json.loads(line) for line in follower.stdout)
            mine = (entry["exit_status"] for entry in lines if entry.get("group") == name)
            assert next(mine) == 0
            for how in (3, 5):
                with Process(workers.leave, name, how) as process:
                    process.wait()
                assert next(mine) == how
            follower.send_signal(signal.SIGINT)
            rest, said = follower.communicate(timeout=PATIENCE)
        finally:
            follower.kill()
    assert (follower.returncode, rest, said) == (130, "", "")


def test_table(exporter: Program, name: str) -> None:
    """People get columns; the last one that ended is the last line."""
    with Process(workers.leave, name, -signal.SIGKILL) as process:
        process.wait()
    exporter.scrape()
    done = program.run("exits", "--web.listen-address", exporter.address)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = done.stdout.splitlines()
    (row,) = (row.split() for row in rows if f" {name} " in row)
    # The time of the end is two words.
    found = dict(zip(header.split(), row[1:], strict=True))
    assert found.pop("ended").count(":") == 2
    assert float(found.pop("seconds")) >= 0
    assert found == {
        "pid": str(process.pid),
        "process": name,
        "user": "root",
        "outcome": "SIGKILL",
        "threads": "1",
        "sockets": "1",
        "received": str(workers.HEADERS),
        "transmitted": str(workers.HEADERS),
    }


def test_nobody_to_ask() -> None:
    """The message says where it asked and what to do."""
    where = f"127.0.0.1:{program.free_port()}"
    said = program.refusal(program.run("exits", "--json", "--web.listen-address", where), 1)
    assert f"no exporter answers at http://{where}/api/v1/exits" in said
    assert "start one with" in said
