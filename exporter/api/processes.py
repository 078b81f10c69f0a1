# SPDX-License-Identifier: Apache-2.0
"""Processes that use the network, and those that have ended as long as they have series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.api import terms

if TYPE_CHECKING:
    from exporter.model import Report

PATH: Final = "/api/v1/processes"


def answer(report: Report, query: str) -> bytes:
    """Return all of them. Raises ConfigError."""
    terms.parameters(PATH, query, {})
    return terms.listing(
        report,
        "processes",
        (
            {
                **terms.process(known),
                "outcome": known.task.outcome if known.task.end_ns else None,
                **terms.traffic(known.task.counters),
            }
            for known in report.processes.values()
        ),
    )
