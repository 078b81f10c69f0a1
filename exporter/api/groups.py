# SPDX-License-Identifier: Apache-2.0
"""Groups of processes: what they have used, those included that have ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from exporter.api import terms

if TYPE_CHECKING:
    from exporter.model import Report

PATH: Final = "/api/v1/groups"


def answer(report: Report, query: str) -> bytes:
    """Return all of them, and how many processes of each live. Raises ConfigError."""
    terms.parameters(PATH, query, {})
    living = Counter(known.group for known in report.processes.values() if not known.task.end_ns)
    return terms.listing(
        report,
        "groups",
        (
            {
                "group": group.name,
                **terms.place(group),
                "processes": living[group],
                **terms.traffic(counters),
            }
            for group, counters in report.groups.items()
        ),
    )
