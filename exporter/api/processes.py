# SPDX-License-Identifier: Apache-2.0
"""Processes that use the network, and those that have ended as long as they have series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exporter.api import terms
from exporter.api.terms import Member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.model import ProcessTraffic, Report

PATH: Final = "/api/v1/processes"


def answer(report: Report, query: str) -> bytes:
    """Return all of them, or at most `limit`. Raises ConfigError."""
    wanted = terms.parameters(PATH, query, terms.LIMIT)
    return terms.listing(report, "processes", map(describe, report.processes.values()), wanted)


def members(report: Report) -> Iterable[Member]:
    """Yield each with its identity."""
    for known in report.processes.values():
        yield Member(known.task.identity, known, known.task.counters)


def describe(known: ProcessTraffic) -> dict[str, Any]:
    """Return one in words."""
    return {
        **terms.process(known),
        "outcome": known.task.outcome if known.task.end_ns else None,
        **terms.traffic(known.task.counters),
    }
