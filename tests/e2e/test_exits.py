# SPDX-License-Identifier: Apache-2.0
"""Processes that come and go between two scrapes: nothing of them is lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e import program, workers
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from tests.e2e.exposition import Exposition
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

PROCESSES = 1000
SIZE = 101


def _crowd(name: str) -> None:
    with Process(workers.crowd, name, PROCESSES, SIZE) as crowd:
        assert crowd.hear() == PROCESSES * SIZE
        assert crowd.wait() == 0


def _exits(found: Exposition, name: str) -> dict[str, float]:
    return {
        outcome: found.sum("netatop_exited_processes_total", group=name, outcome=outcome)
        for outcome in ("exit", "error", "signal")
    }


def test_thousand_between_scrapes(name: str) -> None:
    """Each is counted, each datagram too; records leave the exit list, the sums stay."""
    expected = {
        "receive_packets": 0.0,
        "receive_bytes": 0.0,
        "transmit_packets": float(PROCESSES),
        "transmit_bytes": float(PROCESSES * (workers.HEADERS + SIZE)),
    }
    with program.serve() as exporter:
        before = exporter.scrape()
        assert not any(before.traffic("group_", group=name).values())
        _crowd(name)
        after = exporter.scrape()
        for subject in ("group_", "exited_"):
            assert after.traffic(subject, group=name, protocol="udp") == expected
            assert after.traffic(subject, group=name) == expected, "nothing but UDP"
        assert _exits(after, name) == {"exit": PROCESSES, "error": 0, "signal": 0}
        assert after.sum("netatop_exit_list_processes") >= PROCESSES
        assert len(after.label_values("netatop_process_transmit_packets_total", "pid", group=name))

        def gone() -> bool:
            found = exporter.scrape()
            assert found.traffic("group_", group=name) == expected
            assert found.traffic("exited_", group=name) == expected
            assert _exits(found, name)["exit"] == PROCESSES
            return not found.series("netatop_process_transmit_packets_total", group=name)

        wait_until(gone, "the records leave the exit list")
        last = exporter.scrape()
        assert last.sum("netatop_exit_list_processes") < PROCESSES
        assert last.sum("netatop_map_entries", map="tasks") < PROCESSES
        # A second crowd of that name adds to the first.
        _crowd(name)
        both = exporter.scrape()
        assert _exits(both, name) == {"exit": 2 * PROCESSES, "error": 0, "signal": 0}
        assert both.traffic("exited_", group=name) == {n: 2 * v for n, v in expected.items()}
        assert both.sum("netatop_lost_total", object="task") == 0


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
