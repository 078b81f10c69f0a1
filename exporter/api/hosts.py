# SPDX-License-Identifier: Apache-2.0
"""IP addresses, of this host and behind it, where they are counted."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Any, Final

from exporter.api import terms
from exporter.api.terms import Member
from exporter.config import flags
from exporter.model import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.model import HostRecord, Report

PATH: Final = "/api/v1/hosts"
HINT: Final = "start the exporter with --collector.hosts"
"""How to have them counted."""


def answer(report: Report, query: str) -> bytes:
    """Return all of them, or those of the prefix that is asked for. Raises ConfigError."""
    address = functools.partial(flags.network, f"{PATH}: address")
    found = terms.parameters(PATH, query, {"address": address, **terms.LIMIT})
    wanted = found.get("address")
    return terms.listing(
        report,
        "hosts",
        (
            describe(host)
            for host in report.hosts
            if wanted is None or ipaddress.ip_address(host.address) in wanted
        ),
        found,
        kind="host",
    )


def members(report: Report) -> Iterable[Member]:
    """Yield each with its identity."""
    for host in report.hosts:
        yield Member((host.address, host.device), host, host.counters)


def describe(host: HostRecord) -> dict[str, Any]:
    """Return one in words."""
    return {
        "address": host.address,
        "device": host.device,
        "connections": dict(zip(PROTOCOLS, host.connections, strict=True)),
        "last_use_time_seconds": terms.time(host.last_ns),
        **terms.traffic(host.counters),
    }
