# SPDX-License-Identifier: Apache-2.0
"""Threads that use the network, where they are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exporter.api import terms
from exporter.api.terms import Member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.model import Report, ThreadTraffic

PATH: Final = "/api/v1/threads"
HINT: Final = (
    "start the exporter with --collector.threads, or ask for them in a rule of its configuration"
)
"""How to have them counted."""


def answer(report: Report, query: str) -> bytes:
    """Return all of them, or at most `limit`. Raises ConfigError."""
    wanted = terms.parameters(PATH, query, terms.LIMIT)
    return terms.listing(report, "threads", map(describe, report.threads), wanted, kind="thread")


def members(report: Report) -> Iterable[Member]:
    """Yield each with its identity."""
    for known in report.threads:
        yield Member(known.task.identity, known, known.task.counters)


def describe(known: ThreadTraffic) -> dict[str, Any]:
    """Return one in words; the start is the thread's own."""
    return {
        **terms.process(known.process),
        "tid": known.task.tid,
        "thread": known.task.name,
        "start_time_seconds": terms.started(known.task),
        "outcome": known.task.outcome if known.task.end_ns else None,
        **terms.traffic(known.task.counters),
    }
