# SPDX-License-Identifier: Apache-2.0
"""What changes from one report to the next, as long as somebody looks.

All who look share the samples: one is made when somebody asks and the last one is not new any more.
When nobody has asked for a while all of it is forgotten; nothing is read unasked.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from exporter import ranking
from exporter.api.history import POINTS, History, Point
from exporter.api.terms import Member
from exporter.api.views import VIEWS
from exporter.model import TRAFFIC, ZERO, add, by_direction

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from exporter.model import Report

T = TypeVar("T")
NEW_SECONDS: Final = 0.5
"""So long a sample serves all who ask. Less, and rates would be those of single packets."""
IDLE_SECONDS: Final = 60.0
"""Who has not asked for so long does not look any more."""
RECEIVE, TRANSMIT = 1, 3
"""Places of bytes in `model.TRAFFIC`."""
IDLE: Final = (0.0,) * len(TRAFFIC)
HOST: Final = "host"
TOTAL, UNIDENTIFIED = "total", "unidentified"
"""The rows of the host."""


class Row(NamedTuple):
    """A member with its rates; all protocols together."""

    known: Any
    identity: Hashable
    totals: tuple[int, ...]
    """By `model.TRAFFIC`."""
    rates: tuple[float, ...] | None
    """The same in each second; None: it takes two samples to know."""


class Sample(NamedTuple):
    """A report, compared with the one before."""

    report: Report
    number: int
    seconds: float | None
    """Since the one before; None: there is none."""
    rows: Mapping[str, tuple[Row, ...]]
    """By view, and those of the host."""
    ends: tuple[int, ...]
    """When the last samples were made, since boot, this one included."""
    histories: Mapping[str, History]
    """By view, as the rows; they go on with the next sample."""

    @property
    def numbers(self) -> range:
        """Return the numbers of the samples that histories tell of: all but the first."""
        return range(max(1, self.number + 1 - len(self.ends)), self.number + 1)


class Live:
    """Makes samples. Safe for threads."""

    def __init__(self, report: Callable[[], Report | None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._sample: Sample | None = None
        self._made = self._asked = 0.0
        self._timer: threading.Timer | None = None

    def look(self, tell: Callable[[Sample], T]) -> T | None:
        """Return what is told of the last sample, or of a new one; None: there is no report."""
        with self._lock:
            self._asked = time.monotonic()
            if self._sample is None or self._asked - self._made >= NEW_SECONDS:
                report = self._report()
                if report is None:
                    return None
                if self._sample is None or report.now_ns > self._sample.report.now_ns:
                    self._sample = _compare(self._sample, report)
                    self._made = time.monotonic()
            if self._timer is None:
                self._wait(IDLE_SECONDS)
            return tell(self._sample)

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is kept."""
        return self._sample is None

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._forget)
        self._timer.daemon = True
        self._timer.start()

    def _forget(self) -> None:
        """Forget all, if nobody looks any more."""
        with self._lock:
            rest = self._asked + IDLE_SECONDS - time.monotonic()
            if rest > 0:
                self._wait(rest)
            else:
                self._sample = self._timer = None


def _compare(last: Sample | None, report: Report) -> Sample:
    number = last.number + 1 if last else 0
    seconds = (report.now_ns - last.report.now_ns) / 1e9 if last else None
    found = {}
    for name, members in _members(report):
        # What was not counted before, until the configuration changed, is not new: it has no rates.
        was_there = last and (name not in VIEWS or VIEWS[name].is_counted(last.report))
        before = last.rows[name] if last else ()
        found[name] = tuple(_rows(members, before, seconds if was_there else None))
    histories = last.histories if last else {name: History() for name in found}
    for name, rows in found.items():
        histories[name].add(
            number,
            (Point(r.identity, r.rates[RECEIVE], r.rates[TRANSMIT]) for r in rows if r.rates),
        )
    ends = (*(last.ends if last else ()), report.now_ns)[-POINTS:]
    return Sample(report, number, seconds, found, ends, histories)


def _members(report: Report) -> Iterable[tuple[str, Iterable[Member]]]:
    for name, view in VIEWS.items():
        yield name, view.members(report) if view.is_counted(report) else ()
    unidentified = functools.reduce(add, report.unidentified.values(), ZERO)
    yield (
        HOST,
        (
            Member(TOTAL, report.total, report.total),
            Member(UNIDENTIFIED, unidentified, unidentified),
        ),
    )


def _rows(members: Iterable[Member], before: Iterable[Row], seconds: float | None) -> Iterator[Row]:
    former = {row.identity: row.totals for row in before}
    for member in members:
        totals = by_direction(member.counters)
        rates = None
        if seconds:
            last = former.get(member.identity)
            new = () if last == totals else ranking.increments(last, totals)
            rates = tuple(n / seconds for n in new) or IDLE
        yield Row(member.known, member.identity, totals, rates)
