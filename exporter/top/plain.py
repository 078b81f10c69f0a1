# SPDX-License-Identifier: Apache-2.0
"""Rows as text: for people who look at a screen, and for pipes, where nothing is cut or rounded."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

from exporter.top import source, table, text
from exporter.top.table import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.client import Client
    from exporter.ranking import Value
    from exporter.top.choice import Choice
    from exporter.top.table import Column, Row, View

UNKNOWN: Final = "-"
CLOCK: Final = "%m-%dT%H:%M:%S"


def cell(column: Column, value: Value, *, bits: bool = False) -> str:
    """Return a value for people: short, but totals and ids are exact."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return text.clean(value)
    write = WRITERS.get(column.kind, str)
    return write(value * 8 if bits and column.kind == "bandwidth" else value)


def exact(column: Column, value: Value) -> str:
    """Return a value for programs: one word."""
    if value is None or value == "":
        return UNKNOWN
    if column.kind in {"bandwidth", "rate"} and not isinstance(value, str):
        return f"{value:.2f}"
    return "_".join(cell(column, value).split(" "))


def _clock(seconds: float) -> str:
    try:
        return time.strftime(CLOCK, time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # somebody else's idea of a time
        return UNKNOWN


WRITERS: Final[Mapping[str, Callable[[float], str]]] = {
    "bandwidth": text.quantity,
    "rate": text.quantity,
    "time": _clock,
    "seconds": "{:.1f}".format,
}
"""Of numbers that are not written as they are."""


def line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    """Return a row: names begin and numbers end where their column does."""
    return " ".join(
        text.fit(found, width, right=column.kind != NAME)
        for found, column, width in zip(cells, columns, widths, strict=True)
    )


def lines(view: View, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table, with its header, as wide as it has to be."""
    cells = [[exact(column, column.value(row)) for column in view.columns] for row in rows]
    widths = [max(map(text.width, words)) for words in zip(view.titles, *cells, strict=True)]
    for words in (view.titles, *cells):
        yield line(words, view.columns, widths).rstrip()


def batch(
    client: Client, choice: Choice, seconds: float, count: int | None = None
) -> Iterator[str]:
    """Yield a table after each interval, so many times or without end. Raises ServeError."""
    before = source.ask(client, choice.view)
    for number in itertools.count() if count is None else range(count):
        time.sleep(seconds)
        now = source.ask(client, choice.view)
        if number:
            yield ""
        yield f"{time.strftime('%Y-%m-%d %H:%M:%S')} {choice.view.noun}"
        yield from lines(choice.view, choice.select(table.rows(before, now)))
        before = now
