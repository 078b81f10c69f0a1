# SPDX-License-Identifier: Apache-2.0
"""Who has series of his own when not all can: the busiest. What no series shows is in `other`.

Prometheus sees an increment only of a series that is in two scrapes, one after the other. `other`
grows by every increment that cannot be seen in this way: of members that are not shown, of what a
member had used before it was first shown, and of what it used after it was shown last. So from one
exposition to the next the increments of all series, `other` included, add up to that of the whole,
and none falls.
"""

from __future__ import annotations

import heapq
import operator
from typing import TYPE_CHECKING, Final

from exporter.model import KINDS, NO_TRAFFIC, OTHER, PROTOCOLS, ZERO, Member, add

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.model import Report, Traffic

    Labels = tuple[str, ...]

HALF_LIFE_NS: Final = 60 * 10**9
"""Of what counts as activity."""
LEAD: Final = 2
"""One that is not shown takes the place of one that is, if it is so many times as busy."""
WIDTHS: Final = {"process": 3, "thread": 3, "socket": 7}
"""Numbers of labels."""
PARTS: Final = (*(len(ZERO) // len(PROTOCOLS),) * len(PROTOCOLS), len(NO_TRAFFIC) - len(ZERO))
"""Numbers that get series together, as soon as one of them is not 0: each protocol's, and TCP's."""


class Bounds:
    """Remembers what was exposed last. Not safe for threads."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = limits
        """By kind, of the kinds that have series; may be changed."""
        self._selections = {kind: Selection(WIDTHS[kind]) for kind in KINDS}

    def follow(self, report: Report) -> None:
        """Note what those that are shown have used: some are gone at the next exposition."""
        for kind, selection in self._selections.items():
            selection.follow(report.members[kind])

    def choose(self, report: Report, now_ns: int) -> Mapping[str, tuple[Member, ...]]:
        """Return who is exposed now, by kind; the last of each is `other`."""
        return {
            kind: selection.choose(
                report.members[kind], report.whole[kind], self.limits[kind], now_ns
            )
            for kind, selection in self._selections.items()
            if kind in self.limits
        }


class Selection:
    """One kind."""

    def __init__(self, width: int) -> None:
        self._shown: dict[Labels, Member] = {}
        """As they were exposed."""
        self._latest: dict[Labels, Member] = {}
        """The same, as they were last seen."""
        self._activity = Activity()
        self._whole: Traffic | None = None
        """At the last exposition."""
        self._owed: Traffic = NO_TRAFFIC
        """Not above 0: what was seen in series before the whole had it."""
        self._other = Member((OTHER.name,) * width, NO_TRAFFIC)

    def follow(self, members: Iterable[Member]) -> None:
        """Note what those that are shown have used."""
        for member in members:
            if member.labels in self._shown:
                self._latest[member.labels] = member

    def choose(
        self, members: Iterable[Member], whole: Traffic, limit: int, now_ns: int
    ) -> tuple[Member, ...]:
        """Return who is exposed now; the last is `other`."""
        self.follow(members)
        there = {member.labels: member for member in members}
        for labels, member in self._latest.items():
            # One that is gone is exposed once more, if it has used something since.
            if labels not in there and member.traffic != self._shown[labels].traffic:
                there[labels] = member._replace(is_alive=False)
        self._activity.update(there, now_ns)
        chosen = self._pick(there, limit)
        self._grow(chosen, whole)
        self._shown = {member.labels: member for member in chosen}
        self._latest = dict(self._shown)
        return (*chosen, self._other)

    def _pick(self, there: Mapping[Labels, Member], limit: int) -> list[Member]:
        """Return the busiest, but those that are shown give way to much busier ones only."""

        def rank(member: Member) -> tuple[bool, float]:
            return member.is_alive, self._activity.score[member.labels]

        shown: list[Member] = []
        hidden: list[Member] = []
        for labels, member in there.items():
            (shown if labels in self._shown else hidden).append(member)
        if len(there) <= limit:
            return shown + hidden
        shown = heapq.nlargest(limit, shown, key=rank)
        candidates = heapq.nlargest(limit, hidden, key=rank)
        free = limit - len(shown)
        chosen = shown + candidates[:free]
        for number, candidate in zip(
            range(len(shown) - 1, -1, -1), candidates[free:], strict=False
        ):
            alive, score = rank(candidate)
            if not alive or score <= LEAD * rank(shown[number])[1]:
                break
            chosen[number] = candidate
        return chosen

    def _grow(self, chosen: Iterable[Member], whole: Traffic) -> None:
        """Add to `other` what can't be seen in a series."""
        if self._whole is not None:
            unseen = tuple(map(operator.sub, add(whole, self._owed), self._whole))
            for member in chosen:
                before = self._shown.get(member.labels)
                if before and before.is_counted and member.is_counted:
                    seen = increment(before.traffic, member.traffic)
                    unseen = tuple(map(operator.sub, unseen, seen))
            grown = tuple(max(number, 0) for number in unseen)
            self._owed = tuple(map(operator.sub, unseen, grown))
            self._other = self._other._replace(traffic=add(self._other.traffic, grown))
        self._whole = whole


class Activity:
    """How much each member has used lately: bytes, of which half are forgotten each minute."""

    def __init__(self) -> None:
        self.score: dict[Labels, float] = {}
        self._sizes: dict[Labels, int] = {}
        self._at_ns = 0

    def update(self, members: Mapping[Labels, Member], now_ns: int) -> None:
        """Take in what has been used since the last time."""
        decay = 0.5 ** ((now_ns - self._at_ns) / HALF_LIFE_NS)
        self._at_ns = now_ns
        sizes = {
            labels: sum(member.traffic[1 : len(ZERO) : 2]) for labels, member in members.items()
        }
        before, score = self._sizes.get, self.score.get
        # A series that begins anew (a pid that is used again) has used all it has.
        self.score = {
            labels: score(labels, 0) * decay
            + (size - old if size >= (old := before(labels, 0)) else size)
            for labels, size in sizes.items()
        }
        self._sizes = sizes


def increment(before: Traffic, now: Traffic) -> Traffic:
    """Return what Prometheus sees: nothing where there was no series, a reset where one fell."""
    seen: list[int] = []
    begin = 0
    for width in PARTS:
        old, new = before[begin : begin + width], now[begin : begin + width]
        if any(old):
            seen += [n - o if n >= o else n for o, n in zip(old, new, strict=True)]
        else:
            seen += (0,) * width
        begin += width
    return tuple(seen)
