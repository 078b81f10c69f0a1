# SPDX-License-Identifier: Apache-2.0
"""Groups of processes: what they have used, those included that have ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.api import terms
from exporter.api.terms import Member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.model import Counters, Group, Report

PATH: Final = "/api/v1/groups"


class GroupTraffic(NamedTuple):
    """A group and what is known of it."""

    group: Group
    counters: Counters
    living: int
    """Processes."""


def answer(report: Report, query: str) -> bytes:
    """Return all of them, or at most `limit`. Raises ConfigError."""
    wanted = terms.parameters(PATH, query, terms.LIMIT)
    found = (describe(member.known) for member in members(report))
    return terms.listing(report, "groups", found, wanted)


def members(report: Report) -> Iterable[Member]:
    """Yield each with its identity, and how many of its processes live."""
    living = Counter(known.group for known in report.processes.values() if not known.task.end_ns)
    for group, counters in report.groups.items():
        yield Member(group, GroupTraffic(group, counters, living[group]), counters)


def describe(known: GroupTraffic) -> dict[str, Any]:
    """Return one in words."""
    return {
        "group": known.group.name,
        **terms.place(known.group),
        "processes": known.living,
        **terms.traffic(known.counters),
    }
