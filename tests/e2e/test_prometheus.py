# SPDX-License-Identifier: Apache-2.0
"""Half a minute with a real Prometheus: what it stores is what known workloads have used."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.e2e import program, workers
from tests.e2e.prometheus import Prometheus, lint, prometheus
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.exposition import Exposition

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SCRAPES = 30
PRELUDE = 7
DATAGRAMS = 2003
SECONDS = 10
PROCESSES = 211


class Stay(NamedTuple):
    """What there is to see after it."""

    server: Prometheus
    pacer: str
    """Sends PRELUDE datagrams, is scraped, then sends DATAGRAMS over SECONDS."""
    crowd: str
    """One process, which is scraped, then PROCESSES at once; each sends one datagram."""
    exposition: Exposition
    """A scrape with traffic, taken beside Prometheus."""


@pytest.fixture(scope="module")
def stay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stay]:
    """Let Prometheus scrape for half a minute while known workloads run."""
    pacer, crowd = workers.new_name(), workers.new_name()
    folder = tmp_path_factory.mktemp("prometheus")
    with program.serve() as exporter, prometheus(exporter.address, folder) as server:

        def stored(group: str, at_least: int) -> bool:
            packets = f'netatop_group_transmit_packets_total{{group="{group}",protocol="udp"}}'
            return server.value(packets) >= at_least

        with Process(workers.pacer, pacer, PRELUDE, DATAGRAMS, SECONDS) as pacing:
            pacing.hear()
            _send_crowd(crowd, 1)
            wait_until(lambda: stored(pacer, PRELUDE), "the prelude is stored")
            wait_until(lambda: stored(crowd, 1), "the first of the crowd is stored")
            pacing.tell()
            _send_crowd(crowd, PROCESSES)
            exposition = exporter.scrape()
            pacing.hear()
            wait_until(lambda: stored(pacer, PRELUDE + DATAGRAMS), "all that it sent is stored")
            pacing.tell()
            assert pacing.wait() == 0
        wait_until(lambda: len(server.points("up")) >= SCRAPES, "half a minute has passed")
        yield Stay(server, pacer, crowd, exposition)


def _send_crowd(name: str, processes: int) -> None:
    with Process(workers.crowd, name, processes, 0) as crowd:
        crowd.hear()
        crowd.wait()


def _growth(stay: Stay, series: str) -> float:
    """Return last - first of a series; it must not fall, for that would be a reset."""
    values = [point.value for point in stay.server.points(series)]
    assert all(a <= b for a, b in itertools.pairwise(values)), f"{series} fell: {values}"
    return values[-1] - values[0]


def test_always_up(stay: Stay) -> None:
    """Every scrape succeeded, and none took longer than its second."""
    points = stay.server.points("up")
    assert len(points) >= SCRAPES
    assert {point.value for point in points} == {1.0}


def test_rate_of_known_workload(stay: Stay) -> None:
    """What was sent while Prometheus looked is what its samples grew by, to the packet."""
    labels = f'{{group="{stay.pacer}",protocol="udp"}}'
    expected = workers.traffic(DATAGRAMS, 0)
    for what, amount in expected.items():
        assert _growth(stay, f"netatop_group_{what}_total{labels}") == amount
    # For illustration: PromQL's own answer, which extrapolates to the ends of its window.
    packets = f"netatop_group_transmit_packets_total{labels}"
    window = f"{2 * SCRAPES}s"
    assert stay.server.value(f"increase({packets}[{window}])") == pytest.approx(DATAGRAMS, rel=0.1)
    assert stay.server.value(f"rate({packets}[{window}])") > 0


def test_processes_between_scrapes(stay: Stay) -> None:
    """Processes that no scrape has seen alive are in the samples of their group."""
    labels = f'{{group="{stay.crowd}",outcome="exit"}}'
    assert _growth(stay, f"netatop_exited_processes_total{labels}") == PROCESSES
    for subject in ("group", "exited"):
        labels = f'{{group="{stay.crowd}",protocol="udp"}}'
        series = f"netatop_{subject}_transmit_packets_total{labels}"
        assert _growth(stay, series) == PROCESSES


@pytest.mark.parametrize("what", ["receive_packets", "transmit_bytes"])
def test_increments_of_processes(stay: Stay, what: str) -> None:
    """From each sample to the next, all processes have grown by what all groups have.

    Also by what those used that no scrape has seen: it is in `other`.
    """
    groups, processes = (
        stay.server.all_points(f"netatop_{subject}_{what}_total")
        for subject in ("group", "process")
    )
    whole: Counter[float] = Counter()
    for series in groups:
        whole.update({point.time: point.value for point in series})
    times = sorted(whole)[:SCRAPES]
    following = dict(itertools.pairwise(times))
    seen: Counter[float] = Counter()
    for series in processes:
        for old, new in itertools.pairwise(series):
            if following.get(old.time) == new.time:
                seen[new.time] += new.value - old.value
    assert sum(seen.values()) > 0
    assert [whole[b] - whole[a] for a, b in following.items()] == [seen[t] for t in times[1:]]


def test_law_in_promql(stay: Stay) -> None:
    """Prometheus too finds that the total is the sum of its parts."""
    for what in ("receive_packets", "receive_bytes", "transmit_packets", "transmit_bytes"):
        parts = " + ".join(
            f"sum by (protocol) (netatop_{subject}_{what}_total)"
            for subject in ("group", "unidentified")
        )
        total = f"sum by (protocol) (netatop_{what}_total)"
        found = stay.server.query(f"{total} - ({parts})")
        assert {series["metric"]["protocol"] for series in found} == {
            "tcp",
            "udp",
            "icmp",
            "other",
        }
        assert {series["value"][1] for series in found} == {"0"}


def test_names_and_help(stay: Stay) -> None:
    """Promtool finds nothing to complain of in a scrape with traffic."""
    assert stay.exposition.sum("netatop_group_transmit_packets_total", group=stay.pacer)
    assert lint(stay.exposition.text) == ""


def test_promtool_finds_faults() -> None:
    """It would: a counter without its suffix and without help is reported."""
    assert "netatop_packets" in lint("# TYPE netatop_packets counter\nnetatop_packets 1\n")
