# SPDX-License-Identifier: Apache-2.0
"""Families and their numbers: what a scrape is made of.

Each row has the text of its labels once, whatever number of families it has values for. That text
does not change while the series is there, so the renderer keeps it; only values are written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from exporter.exposition import labels, number

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from exporter.exposition.family import Family
    from exporter.exposition.labels import Labels

Row: TypeAlias = "tuple[Labels, Sequence[float]]"


class Table(NamedTuple):
    """Counters or gauges that have the same labels."""

    families: tuple[Family, ...]
    labels: Labels
    rows: Sequence[Row]
    """Values of the labels, and one number for each family."""

    @property
    def series(self) -> int:
        """Return how many there are."""
        return len(self.families) * len(self.rows)

    @property
    def shape(self) -> Hashable:
        """Return on what a row's text depends, but for the values of its labels."""
        return self.labels

    def text(self, values: Labels) -> str:
        """Return what stands between name and number."""
        return f"{labels.text(self.labels, values)} "

    def lines(self, texts: Sequence[str]) -> Iterator[tuple[Family, Iterator[str]]]:
        """Yield the lines of each family; texts: of each row."""
        columns: Iterable[Iterable[float]] = zip(*(row for _, row in self.rows), strict=True)
        if not self.rows:
            columns = ((),) * len(self.families)
        for family, column in zip(self.families, columns, strict=True):
            name, values = family.sample, map(number.text, column)
            rows = zip(texts, values, strict=True)
            yield family, (f"{name}{text}{value}\n" for text, value in rows)


class Histogram(NamedTuple):
    """A histogram."""

    family: Family
    labels: Labels
    bounds: tuple[float, ...]
    rows: Sequence[Row]
    """Values of the labels; then for each bucket, the one without a bound included, how many are in
    it and those before it; how many there are, and their sum."""

    @property
    def families(self) -> tuple[Family]:
        """Return the only one."""
        return (self.family,)

    @property
    def series(self) -> int:
        """Return how many there are."""
        return (len(self.bounds) + 3) * len(self.rows)

    @property
    def shape(self) -> Hashable:
        """Return on what a row's text depends, but for the values of its labels."""
        return self.family.name, self.labels, self.bounds

    def text(self, values: Labels) -> str:
        """Return all lines of a row, with a place for each number."""
        edges = [*map(str, map(float, self.bounds)), "+Inf"]
        found = [
            *(f"_bucket{labels.text(self.labels, values, [('le', edge)])}" for edge in edges),
            *(f"{suffix}{labels.text(self.labels, values)}" for suffix in ("_count", "_sum")),
        ]
        return "".join(f"{self.family.name}{text.replace('%', '%%')} %s\n" for text in found)

    def lines(self, texts: Sequence[str]) -> Iterator[tuple[Family, Iterator[str]]]:
        """Yield its lines; texts: of each row."""
        rows = zip(texts, (map(number.text, row) for _, row in self.rows), strict=True)
        yield self.family, (text % tuple(values) for text, values in rows)


Families: TypeAlias = Table | Histogram
