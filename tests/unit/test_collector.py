# SPDX-License-Identifier: Apache-2.0
"""Each stage fails alone and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.collector import Collector
from exporter.config import document
from exporter.config.settings import Settings
from exporter.errors import MapReadError
from exporter.metrics import Build
from tests.unit.facts import SECOND, FakeTracer, ledger, namer, process, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

BUILD = Build("0", "3", "fake", "0", "6")


def collector(tracer: FakeTracer) -> Collector:
    """Return a collector over a fake kernel."""
    return Collector(tracer, ledger(), Settings(), BUILD)


def scrape(target: Collector) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples of an exposition by name and label values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(target.expose().decode()):
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
    text = target.expose().decode()
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
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
    assert target.expose() == b""
