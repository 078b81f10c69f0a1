# SPDX-License-Identifier: Apache-2.0
"""From two answers of the exporter to the rows of a table: rates, order, choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter import ranking
from exporter.model import PROTOCOLS, TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.model import Counters
    from exporter.ranking import Value

NAME: Final = "name"
"""The kind of columns whose values are words; all others are numbers."""


class Entry(NamedTuple):
    """One process, thread, socket, host, group or exit, as an answer has it."""

    identity: tuple[Any, ...]
    fields: Mapping[str, Any]
    totals: Counters


class Answer(NamedTuple):
    """All of them at one instant."""

    is_counted: bool
    time: float
    """Seconds since boot."""
    run: object
    """Which run of the exporter has answered."""
    entries: tuple[Entry, ...]


class Row(NamedTuple):
    """An entry with its rates."""

    entry: Entry
    rates: tuple[float, ...] | None
    """As the totals, in each second; None: it takes two answers to know."""


class Column(NamedTuple):
    """What is told of each row."""

    title: str
    kind: str
    """How it is written: NAME, id, rate, bandwidth, total, seconds or time."""
    width: int
    value: Callable[[Row], Value]


class View(NamedTuple):
    """A table: what it is asked by, and its columns."""

    noun: str
    key: str
    """Which shows it."""
    path: str
    identity: tuple[str, ...]
    """Fields by which an entry is known again."""
    columns: tuple[Column, ...]
    fixed: int
    """So many columns are shown however narrow the screen is."""
    sort: str
    """The title of the column by which rows are in order, until another one is chosen."""
    hint: str = ""
    """How to have them counted."""

    @property
    def titles(self) -> tuple[str, ...]:
        """Return the titles of the columns."""
        return tuple(column.title for column in self.columns)


def parse(view: View, found: dict[str, Any], at: float = 0) -> Answer:
    """Return an answer that was decoded; at: when, if it does not say so itself.

    Raises LookupError, TypeError or ValueError.
    """
    return Answer(
        is_counted=found.get("counted", True) is True,
        time=float(found.get("time_seconds", at)),
        run=found.get("boot_time_seconds"),
        entries=tuple(
            Entry(tuple(map(_scalar, map(entry.get, view.identity))), entry, _totals(entry))
            for entry in found[view.noun]
        ),
    )


def _scalar(value: object) -> Value:
    if value is None or isinstance(value, str | int | float):
        return value
    message = f"found {type(value).__name__}"
    raise TypeError(message)


def _totals(entry: Mapping[str, Any]) -> Counters:
    found = tuple(entry[protocol][name] for protocol in PROTOCOLS for name in TRAFFIC)
    if any(type(number) is not int for number in found):
        message = "a counter is no whole number"
        raise TypeError(message)
    return found


def rows(before: Answer | None, now: Answer) -> list[Row]:
    """Return the rows of an answer, with rates if there is one before it of the same run."""
    seconds = now.time - before.time if before else 0
    if before is None or before.run != now.run or seconds <= 0:
        return [Row(entry, None) for entry in now.entries]
    former = {entry.identity: entry.totals for entry in before.entries}
    return [
        Row(
            entry,
            tuple(
                n / seconds for n in ranking.increments(former.get(entry.identity), entry.totals)
            ),
        )
        for entry in now.entries
    ]


def matching(view: View, found: Iterable[Row], text: str) -> list[Row]:
    """Return the rows that have a text in any of their names, in upper or lower case."""
    names = [column.value for column in view.columns if column.kind == NAME]
    return ranking.matching(found, text, lambda row: (name(row) for name in names))


def ordered(found: Iterable[Row], column: Column, *, reverse: bool = False) -> list[Row]:
    """Return rows in order: by names and ids from the least, else from the greatest."""
    least_first = (column.kind in {NAME, "id"}) != reverse
    return ranking.ordered(found, column.value, least_first=least_first)


def window(columns: Sequence[Column], fixed: int, chosen: int, cells: int) -> range:
    """Return which columns stand beside the fixed ones: as many as fit, with the chosen one."""
    room = cells - sum(column.width + 1 for column in columns[:fixed])
    begin = end = fixed
    while end < len(columns):
        used = sum(column.width + 1 for column in columns[begin : end + 1]) - 1
        if used <= room:
            end += 1
        elif chosen >= end and begin < end:
            begin += 1
        elif chosen >= end:  # not even one fits
            begin = end = end + 1
        else:
            break
    return range(begin, end)
