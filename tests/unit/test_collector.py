# SPDX-License-Identifier: Apache-2.0
"""Each stage fails alone and says so."""

from __future__ import annotations

import dataclasses
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter import metrics
from exporter.collector import Collector
from exporter.config import document
from exporter.config.settings import Limits, Settings
from exporter.errors import MapReadError
from exporter.exposition.rendering import EVERYTHING, Scrape
from exporter.metrics import Build
from exporter.model import add
from tests.e2e.exposition import Exposition
from tests.unit.facts import (
    SECOND,
    FakeTracer,
    Turnstile,
    counters,
    ledger,
    namer,
    process,
    snapshot,
)
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.exposition.rendering import Rendering
    from exporter.model import Snapshot, TaskRecord

BUILD = Build("0", "3", "fake", "0", "6")


def collector(tracer: FakeTracer) -> Collector:
    """Return a collector over a fake kernel."""
    return Collector(tracer, ledger(), Settings(), BUILD)


def text(target: Collector, asked: Scrape = EVERYTHING) -> str:
    """Return an exposition."""
    rendering = target.expose(asked)
    assert rendering
    return rendering.body.decode()


def scrape(target: Collector) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples of an exposition by name and label values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text(target)):
        for sample in family.samples:
            found.setdefault(sample.name, {})[
                tuple(v for _, v in sorted(sample.labels.items()))
            ] = sample.value
    return found


def test_order_of_a_scrape() -> None:
    """Settle before reading: what waits in the sockets must be in the tables first."""
    tracer = FakeTracer(process(10))
    collector(tracer).expose()
    assert tracer.calls == ["settle", "read", "forget", "programs"]


@pytest.mark.parametrize(
    ("stage", "missing", "there"),
    [
        ("settle", "netatop_sockets", "netatop_group_transmit_packets_total"),
        ("read", "netatop_group_transmit_packets_total", "netatop_sockets"),
        ("programs", "netatop_program_attached", "netatop_group_transmit_packets_total"),
    ],
)
def test_a_stage_that_fails_costs_its_own_families(stage: str, missing: str, there: str) -> None:
    """The others are exposed, and the stage says 0 and afterwards 1 again."""
    tracer = FakeTracer(process(10))
    target = collector(tracer)
    tracer.failures[stage] = MapReadError("broken")
    samples = scrape(target)
    assert missing not in samples
    assert there in samples
    assert samples["netatop_scrape_stage_success"][stage,] == 0
    del tracer.failures[stage]
    samples = scrape(target)
    assert missing in samples
    assert samples["netatop_scrape_stage_success"][stage,] == 1


def test_an_unforeseen_error_is_a_failed_stage_too() -> None:
    """Whatever is raised, a scrape answers."""
    tracer = FakeTracer()
    tracer.failures["read"] = ZeroDivisionError("x")
    samples = scrape(collector(tracer))
    assert samples["netatop_scrape_stage_success"]["read",] == 0
    assert samples["netatop_scrape_stage_success"]["attribute",] == 0


def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """And once more when it is over."""
    tracer = FakeTracer()
    target = collector(tracer)
    tracer.failures["settle"] = MapReadError("broken")
    with caplog.at_level("INFO"):
        target.expose()
        target.expose()
        del tracer.failures["settle"]
        target.expose()
        target.expose()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["stage settle failed: broken", "stage settle works again"]


def test_a_failed_read_loses_nothing() -> None:
    """What was counted before stands in the next report."""
    tracer = FakeTracer(process(10))
    target = collector(tracer)
    before = scrape(target)["netatop_group_transmit_packets_total"]
    tracer.failures["read"] = MapReadError("broken")
    target.expose()
    del tracer.failures["read"]
    assert scrape(target)["netatop_group_transmit_packets_total"] == before


def test_a_group_that_changes_between_scrapes() -> None:
    """The former series is shown once more beside the new one; the process is described once."""
    tracer = FakeTracer(process(10))
    target = collector(tracer)
    target.expose()
    sent = tracer.snapshot.tasks[0]
    more = tuple(2 * n for n in sent.counters)
    tracer.snapshot = snapshot(sent._replace(counters=more))
    target.keep_up(0)
    settings = document.parse(b"groups: [{name: all}]", "f.yml")
    target.configure(settings, namer(settings))
    said = text(target)
    lines = [line.rpartition(" ")[0] for line in said.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert sum("process_info{" in line for line in lines) == 1


def test_records_are_forgotten_after_they_are_accounted_for() -> None:
    """If the ledger fails, the kernel keeps the record."""
    old = process(10, end_ns=1 * SECOND)

    for breaks, forgotten in ((False, [old.identity]), (True, [])):
        tracer, book = FakeTracer(old), ledger()
        if breaks:
            book.max_groups = None  # type: ignore[assignment]
        Collector(tracer, book, Settings(), BUILD).expose()
        assert tracer.forgotten == forgotten


def test_upkeep_only_while_nobody_scrapes() -> None:
    """A recent scrape has done all that upkeep would do."""
    tracer = FakeTracer(process(10))
    target = collector(tracer)
    target.keep_up(3600)
    assert "read" in tracer.calls
    tracer.calls.clear()
    target.keep_up(3600)
    assert tracer.calls == []
    target.keep_up(0)
    assert "read" in tracer.calls


def test_closed() -> None:
    """After close the tracer is left alone, whoever asks."""
    tracer = FakeTracer(process(10))
    target = collector(tracer)
    target.close()
    late: list[Callable[[], object]] = [target.expose, lambda: target.keep_up(0)]
    for call in late:
        call()
    assert tracer.calls == []
    assert target.expose() is None
    assert target.report() is None


# Shared scrapes


class SlowTracer(FakeTracer):
    """One that reads when it is told to, and each time finds 23 datagrams more."""

    def __init__(self, *tasks: TaskRecord) -> None:
        super().__init__(*tasks)
        self.goes_on = threading.Semaphore(0)

    def read(self) -> Snapshot:
        assert self.goes_on.acquire(timeout=PATIENCE)
        found = super().read()
        more = counters(udp_transmit_packets=23, udp_transmit_bytes=4099)
        self.snapshot = dataclasses.replace(
            found, tasks=tuple(t._replace(counters=add(t.counters, more)) for t in found.tasks)
        )
        return found


def together(
    target: Collector, tracer: SlowTracer, asked: Sequence[Scrape]
) -> list[Rendering | None]:
    """Scrape once, and so many times while that reads; return what these others got."""
    turnstile = target._rounds._gate = Turnstile()  # type: ignore[assignment]
    with ThreadPoolExecutor(1 + len(asked)) as pool:
        before = tracer.calls.count("settle")
        try:
            first = pool.submit(target.expose, Scrape(client="first"))
            wait_until(lambda: tracer.calls.count("settle") == before + 1, "the first")
            others = [pool.submit(target.expose, scrape) for scrape in asked]
            wait_until(lambda: turnstile.passed == 2 + len(asked), "the others")
        finally:
            tracer.goes_on.release(2)
        assert first.result()
        found = [other.result() for other in others]
        assert tracer.calls.count("settle") == before + 2
        return found


def test_scrapes_that_come_together_share_one_rendering() -> None:
    """50 of one client read once and render once."""
    tracer = SlowTracer(process(10))
    found = together(collector(tracer), tracer, [Scrape(client="a")] * 50)
    assert found[0]
    assert all(one is found[0] for one in found)


def test_scrapes_of_several_clients_share_a_reading() -> None:
    """Each has a rendering of its own, in its format."""
    asked = [Scrape(how, client) for how in (False, True) for client in ("a", "b")]
    tracer = SlowTracer(process(10))
    found = [one.body for one in together(collector(tracer), tracer, asked * 3) if one]
    assert len(set(map(id, found))) == 4
    assert [body.endswith(b"# EOF\n") for body in found] == [one.openmetrics for one in asked * 3]


def test_a_scrape_sees_what_happened_before_it_was_asked() -> None:
    """Who comes while another reads gets the next reading, also if he asks for the same."""
    tracer = SlowTracer(process(10))
    target = collector(tracer)
    (found,) = together(target, tracer, [Scrape(client="first")])
    assert found
    assert b'netatop_transmit_packets_total{protocol="udp"} 46.0' in found.body


def test_what_each_client_sees_adds_up() -> None:
    """Who shares a reading, and with whom, changes: the increments are those of the groups."""
    chance = random.Random(23)
    busy = [process(pid) for pid in range(1, 31)]
    tracer = SlowTracer(*busy)
    target = Collector(tracer, ledger(), Settings(limits=Limits(processes=7)), BUILD)
    clients = [Scrape(how, client) for how in (False, True) for client in ("a", "b", "c")]
    before: dict[str, Exposition] = {}
    for number in range(17):
        asked = chance.choices(clients, k=5)
        seen = dict(zip(asked, together(target, tracer, asked), strict=True))
        for scrape, rendering in seen.items():
            assert rendering
            found = Exposition(rendering.body.decode(), openmetrics=scrape.openmetrics)
            found.check_law()
            found.check_series()
            if scrape.client in before:
                found.check_members(before[scrape.client])
            before[scrape.client] = found
        # Always much more than all before: others are the busiest then.
        more = counters(udp_transmit_packets=1, udp_transmit_bytes=100_003 * 3**number)
        lucky = chance.sample(range(len(busy)), 5)
        tracer.snapshot = snapshot(
            *(
                task._replace(counters=add(task.counters, more)) if place in lucky else task
                for place, task in enumerate(tracer.snapshot.tasks)
            )
        )
    assert len(before) == 3


# Parts of a scrape


@pytest.mark.parametrize("collector_name", metrics.COLLECTORS)
def test_a_part(collector_name: str) -> None:
    """It has the families of that collector, as the whole has them, and how the scrape went."""
    target = collector(FakeTracer(process(10)))
    whole = {line.partition("{")[0] for line in text(target).splitlines()}
    part = text(target, Scrape(collectors=frozenset({collector_name})))
    found = {line.partition("{")[0] for line in part.splitlines()}
    stages = {line for line in found if "netatop_scrape_stage" in line}
    assert len(stages) == 6
    assert found - stages or collector_name in {
        "remotes",
        "threads",
        "sockets",
        "hosts",
        "lifecycle",
    }
    rest = frozenset(metrics.COLLECTORS) - {collector_name}
    others = {line.partition("{")[0] for line in text(target, Scrape(collectors=rest)).splitlines()}
    assert found & others == stages
    assert {line.partition(" ")[0] for line in found | others} == {
        line.partition(" ")[0] for line in whole
    }


def test_no_work_for_other_parts() -> None:
    """Nobody is chosen or looked up, and no program is asked."""
    tracer = FakeTracer(process(10))
    looked_up: list[int] = []

    def executable(pid: int, _start: int) -> str:
        looked_up.append(pid)
        return "/bin/p"

    book = ledger(executable=executable)
    target = Collector(tracer, book, Settings(sockets=True), BUILD)
    said = text(target, Scrape(collectors=frozenset({"groups", "sockets"})))
    assert "netatop_group_transmit_packets_total{" in said
    assert "netatop_socket_transmit_packets_total{" in said
    assert looked_up == []
    assert "programs" not in tracer.calls
    assert target._bounds._rankings["process"]._activity.score == {}
    assert 'exe="/bin/p"' in text(target)
    assert looked_up == [10]


def test_a_part_now_and_then() -> None:
    """What somebody has missed is in `other`, also if it scraped other parts in between."""
    tracer = SlowTracer(*(process(pid) for pid in range(1, 12)))
    tracer.goes_on.release(12)
    target = Collector(tracer, ledger(), Settings(limits=Limits(processes=3)), BUILD)
    before: Exposition | None = None
    for number in range(12):
        if number % 3:
            text(target, Scrape(collectors=frozenset({"groups", "threads"})))
            continue
        both = frozenset({"groups", "processes"})
        found = Exposition(text(target, Scrape(collectors=both)))
        if before:
            found.check_members(before)
        before = found


def test_labels_are_forgotten_with_the_series() -> None:
    """Whoever comes and goes, the text of labels is kept for what was last exposed."""
    tracer = FakeTracer()
    target = Collector(tracer, ledger(), Settings(), BUILD)
    for generation in range(53):
        first = 1 + 101 * generation
        tracer.snapshot = snapshot(*(process(first + place) for place in range(101)))
        series = sum(not line.startswith("#") for line in text(target).splitlines())
        kept = sum(map(len, target._renderer._texts.values()))
        assert 2 * 101 < kept < series
