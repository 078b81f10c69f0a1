# SPDX-License-Identifier: Apache-2.0
"""Our tables as prometheus_client's families: its renderer and its parsers are the witnesses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.exposition.table import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from exporter.exposition.table import Families, Table

TYPES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def families(tables: Iterable[Families]) -> Iterator[Metric]:
    """Yield what the library would be given."""
    for table in tables:
        if isinstance(table, Histogram):
            yield _histogram(table)
        else:
            yield from _plain(table)


def render(tables: Iterable[Families], *, openmetrics: bool = False) -> bytes:
    """Return the library's text."""
    registry = CollectorRegistry()
    registry.register(Ready(list(families(tables))))
    return generate_openmetrics(registry) if openmetrics else generate_latest(registry)


class Ready(Collector):
    """Hands out prepared families."""

    def __init__(self, prepared: list[Metric]) -> None:
        self._prepared = prepared

    def collect(self) -> list[Metric]:
        return self._prepared


def _plain(table: Table) -> Iterator[Metric]:
    for number, (name, kind, text) in enumerate(table.families):
        unit = table.families[number].unit
        found = TYPES[kind](name, text, labels=table.labels, unit=unit)
        for values, numbers in table.rows:
            # The library drops labels that have no value without a word.
            assert len(values) == len(table.labels)
            found.add_metric(values, numbers[number])
        yield found


def _histogram(table: Histogram) -> Metric:
    family = table.family
    found = HistogramMetricFamily(family.name, family.help, labels=table.labels, unit=family.unit)
    edges = [*map(str, map(float, table.bounds)), "+Inf"]
    for values, (*counts, count, total) in table.rows:
        assert counts[-1] == count
        found.add_metric(values, list(zip(edges, counts, strict=True)), total)
    return found
