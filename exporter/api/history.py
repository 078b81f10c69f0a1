# SPDX-License-Identifier: Apache-2.0
"""The rates of the last minutes, of those that were the busiest: bounded, whoever there is."""

from __future__ import annotations

import array
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

POINTS: Final = 150
"""Five minutes, at one in two seconds."""
CAPACITY: Final = 256
"""Whose rates are kept, of each view."""


class Point(NamedTuple):
    """What somebody has used in each second of one interval, in bytes."""

    identity: Hashable
    receive: float
    transmit: float


class _Ring:
    """The last points of one, by the number of the sample."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.used = since
        """When it last had any traffic."""
        self.receive = array.array("f", bytes(4 * POINTS))
        self.transmit = array.array("f", bytes(4 * POINTS))

    def set(self, number: int, receive: float, transmit: float) -> None:
        place = number % POINTS
        self.receive[place], self.transmit[place] = receive, transmit
        if receive or transmit:
            self.used = number


class History:
    """Takes the points of one sample after the other."""

    def __init__(self) -> None:
        self._rings: dict[Hashable, _Ring] = {}
        self._refused = -1
        """The last sample of which not all found room."""

    def add(self, number: int, points: Iterable[Point]) -> None:
        """Take the points of a sample; who is not among them is forgotten."""
        before, self._rings = self._rings, {}
        found: list[tuple[int, float, Point]] = []
        for point in points:
            busy = point.receive + point.transmit
            ring = before.get(point.identity)
            if busy or (ring and ring.used > number - POINTS):
                found.append((number if busy else ring.used if ring else 0, busy, point))
        if len(found) > CAPACITY:
            self._refused = number
            found.sort(key=lambda one: one[:2], reverse=True)
        for _, _, point in found[:CAPACITY]:
            ring = before.get(point.identity) or _Ring(number)
            ring.set(number, point.receive, point.transmit)
            self._rings[point.identity] = ring

    def of(
        self, identity: Hashable, numbers: range
    ) -> tuple[list[int | None], list[int | None]] | None:
        """Return what is known of these samples, received and transmitted; None: no traffic.

        A sample of which nobody knows any more is None, never 0.
        """
        ring = self._rings.get(identity)
        if ring is None and self._refused < numbers.start:
            return None
        return (
            [self._at(number, ring, ring.receive if ring else None) for number in numbers],
            [self._at(number, ring, ring.transmit if ring else None) for number in numbers],
        )

    def _at(self, number: int, ring: _Ring | None, kept: array.array[float] | None) -> int | None:
        if ring is None or kept is None or number < ring.since:
            return None if number <= self._refused else 0
        return round(kept[number % POINTS])
