# SPDX-License-Identifier: Apache-2.0
"""IP addresses, of this host and behind it, where they are counted."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from exporter.api import terms
from exporter.model import PROTOCOLS

if TYPE_CHECKING:
    from exporter.model import Report

PATH: Final = "/api/v1/hosts"


def answer(report: Report, query: str) -> bytes:
    """Return all of them, or those of the prefix that is asked for. Raises ConfigError."""
    wanted = terms.network(PATH, query)
    return terms.listing(
        report,
        "hosts",
        (
            {
                "address": host.address,
                "device": host.device,
                "connections": dict(zip(PROTOCOLS, host.connections, strict=True)),
                "last_use_time_seconds": terms.time(host.last_ns),
                **terms.traffic(host.counters),
            }
            for host in report.hosts
            if wanted is None or ipaddress.ip_address(host.address) in wanted
        ),
        counted="host" in report.counted,
    )
