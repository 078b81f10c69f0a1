# SPDX-License-Identifier: Apache-2.0
"""Threads that use the network, where they are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.api import terms

if TYPE_CHECKING:
    from exporter.model import Report

PATH: Final = "/api/v1/threads"


def answer(report: Report, query: str) -> bytes:
    """Return all of them; the start is the thread's own. Raises ConfigError."""
    terms.parameters(PATH, query, {})
    return terms.listing(
        report,
        "threads",
        (
            {
                **terms.process(known.process),
                "tid": known.task.tid,
                "thread": known.task.name,
                "start_time_seconds": terms.started(known.task),
                "outcome": known.task.outcome if known.task.end_ns else None,
                **terms.traffic(known.task.counters),
            }
            for known in report.threads
        ),
        counted="thread" in report.counted,
    )
