# SPDX-License-Identifier: Apache-2.0
"""Who has series of his own when not all can: the busiest. What no series shows is in `other`.

Prometheus sees an increment only of a series that is in two scrapes, one after the other. `other`
grows by every increment that can't be seen in this way: of members that are not shown, of what a
member had used before it was first shown, and of what it used after it was shown last. So from one
exposition to the next the increments of all series, `other` included, add up to that of the whole,
and none falls. What can be seen depends on who looks: each client has an `other` of its own.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final

from exporter.model import KINDS, NO_TRAFFIC, OTHER, PROTOCOLS, ZERO, Member, add, subtract

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from exporter.model import Report, Traffic

    Labels = tuple[str, ...]

HALF_LIFE_NS: Final = 60 * 10**9
"""Of what counts as activity."""
LEAD: Final = 2
"""One that is not shown takes the place of one that is, if it is so many times as busy."""
MAX_CLIENTS: Final = 32
"""Who are told apart; one that comes back after so many others begins anew."""
AWAY_NS: Final = 3600 * 10**9
"""Who was not here for so long is forgotten first."""
WIDTHS: Final = {"process": 3, "thread": 3, "socket": 7, "host": 2}
"""Numbers of labels."""
PARTS: Final = (*(len(ZERO) // len(PROTOCOLS),) * len(PROTOCOLS), len(NO_TRAFFIC) - len(ZERO))
"""Numbers that get series together, as soon as one of them is not 0: each protocol's, and TCP's."""


class Bounds:
    """Remembers whom it has shown, and what each client has seen of them. Not safe for threads."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = limits
        """By kind, of the kinds that have series; may be changed."""
        self._rankings = {kind: Ranking() for kind in KINDS}
        self._views: dict[str, dict[str, View]] = {}
        """By client."""
        self._visits: Counter[str] = Counter()
        """How often each client was here: who comes for the first time evicts no old friend."""
        self._seen_ns: dict[str, int] = {}
        """And when."""

    def follow(self, report: Report) -> None:
        """Note what those that are shown have used: some are gone at the next exposition."""
        for kind, members in report.members.items():
            there = {member.labels: member for member in members}
            for views in self._views.values():
                views[kind].follow(there)

    def choose(
        self, report: Report, now_ns: int, client: str = "", kinds: Container[str] = KINDS
    ) -> Mapping[str, tuple[Member, ...]]:
        """Return who is exposed to a client now, by kind; the last of each is `other`.

        kinds: those that the client wants; the others stay for it as they were.
        """
        views = self._views.setdefault(client, {kind: View(WIDTHS[kind]) for kind in KINDS})
        self._visits[client] += 1
        self._seen_ns[client] = now_ns
        if len(self._views) > MAX_CLIENTS:
            self._forget_one(client, now_ns)
        exposed = {}
        for kind, limit in self.limits.items():
            if kind not in kinds:
                continue
            there = {member.labels: member for member in report.members[kind]}
            chosen = self._rankings[kind].choose(there, limit, now_ns)
            exposed[kind] = views[kind].expose(chosen, there, report.whole[kind], limit)
        return exposed

    def _forget_one(self, client: str, now_ns: int) -> None:
        """Make room: by one that has stayed away, else by one that came less often than others."""

        def worth(name: str) -> tuple[bool, int]:
            return now_ns - self._seen_ns[name] <= AWAY_NS, self._visits[name]

        least = min((name for name in reversed(self._views) if name != client), key=worth)
        del self._views[least], self._visits[least], self._seen_ns[least]


class Ranking:
    """Who has series, of one kind: the same for all clients."""

    def __init__(self) -> None:
        self._shown: set[Labels] = set()
        self._activity = Activity()

    def choose(self, there: Mapping[Labels, Member], limit: int, now_ns: int) -> list[Member]:
        """Return the busiest, but those that are shown give way to much busier ones only."""
        self._activity.update(there, now_ns)
        chosen = list(there.values()) if len(there) <= limit else self._choose(there, limit)
        self._shown = {member.labels for member in chosen}
        return chosen

    def _choose(self, there: Mapping[Labels, Member], limit: int) -> list[Member]:
        def score(member: Member) -> float:
            return self._activity.score[member.labels]

        def rank(member: Member) -> tuple[bool, float]:
            return member.is_alive, score(member)

        shown = [member for labels, member in there.items() if labels in self._shown]
        hidden = [member for labels, member in there.items() if labels not in self._shown]
        chosen = heapq.nlargest(limit, shown, key=rank)
        candidates = heapq.nlargest(limit, hidden, key=rank)
        free = limit - len(chosen)
        replaced = {}
        for victim, candidate in zip(sorted(chosen, key=score), candidates[free:], strict=False):
            if not candidate.is_alive or score(candidate) <= LEAD * score(victim):
                break
            replaced[victim.labels] = candidate
        return [replaced.get(member.labels, member) for member in chosen] + candidates[:free]


class View:
    """What a client has seen, of one kind."""

    def __init__(self, width: int) -> None:
        self._shown: dict[Labels, Member] = {}
        """As they were exposed last."""
        self._latest: dict[Labels, Member] = {}
        """The same, as they were last there."""
        self._whole: Traffic | None = None
        """At the last exposition."""
        self._owed: Traffic = NO_TRAFFIC
        """Not above 0: what was seen in series last time before the whole had it."""
        self._other = Member((OTHER.name,) * width, NO_TRAFFIC)

    def follow(self, there: Mapping[Labels, Member]) -> None:
        """Note what those that are shown have used."""
        self._latest.update((labels, there[labels]) for labels in self._shown if labels in there)

    def expose(
        self, chosen: Sequence[Member], there: Mapping[Labels, Member], whole: Traffic, limit: int
    ) -> tuple[Member, ...]:
        """Return what the client sees now; the last is `other`."""
        self.follow(there)
        # Who is gone is seen once more, if there is room and he has used something since.
        gone = (
            member._replace(is_alive=False)
            for labels, member in self._latest.items()
            if labels not in there and member.traffic != self._shown[labels].traffic
        )
        exposed = (*chosen, *itertools.islice(gone, limit - len(chosen)))
        self._grow(exposed, whole)
        self._shown = {member.labels: member for member in exposed}
        self._latest = dict(self._shown)
        return (*exposed, self._other)

    def _grow(self, exposed: Iterable[Member], whole: Traffic) -> None:
        """Add to `other` what can't be seen in a series."""
        if self._whole is not None:
            unseen = subtract(whole, self._whole)
            for member in exposed:
                before = self._shown.get(member.labels)
                if before is None or before.traffic == member.traffic:
                    continue
                if before.is_counted and member.is_counted:
                    unseen = subtract(unseen, increment(before.traffic, member.traffic))
            grown = tuple(max(number, 0) for number in add(unseen, self._owed))
            self._owed = tuple(min(number, 0) for number in unseen)
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
