# SPDX-License-Identifier: Apache-2.0
"""Counts by size: what Prometheus calls a histogram, not cumulative yet."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final

from exporter.model import LIFETIME_BOUNDS, SIZE_BOUNDS, Distribution

if TYPE_CHECKING:
    from exporter.model import Group

BOUNDS: Final = {"lifetime_ns": tuple(b * 10**9 for b in LIFETIME_BOUNDS), "bytes": SIZE_BOUNDS}
"""Inclusive upper bounds, in whole units, so that sums stay exact."""


class Histograms:
    """One for each group and what is measured."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[Group, list[int]]] = {what: {} for what in BOUNDS}
        """By what and group: a count for each bucket, one for the rest, and the sum of values."""

    def observe(self, what: str, group: Group, value: int) -> None:
        """Add a value."""
        bounds = BOUNDS[what]
        found = self.counts[what].setdefault(group, [0] * (len(bounds) + 2))
        found[bisect.bisect_left(bounds, value)] += 1
        found[-1] += value

    def read(self, what: str, unit: float = 1) -> dict[Group, Distribution]:
        """Return them by group, the sum in units of so many."""
        return {
            group: Distribution(tuple(found[:-1]), found[-1] / unit)
            for group, found in self.counts[what].items()
        }
