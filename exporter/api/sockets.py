# SPDX-License-Identifier: Apache-2.0
"""Sockets that have carried packets, where they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exporter.api import terms
from exporter.api.terms import Member
from exporter.attribution.members import counters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.model import Report, SocketTraffic

PATH: Final = "/api/v1/sockets"
HINT: Final = (
    "start the exporter with --collector.sockets, or ask for them in a rule of its configuration"
)
"""How to have them shown."""


def answer(report: Report, query: str) -> bytes:
    """Return all of them, or at most `limit`. Raises ConfigError."""
    wanted = terms.parameters(PATH, query, terms.LIMIT)
    return terms.listing(report, "sockets", map(describe, report.sockets), wanted, kind="socket")


def members(report: Report) -> Iterable[Member]:
    """Yield each with its identity: a cookie is used once in a network namespace."""
    for known in report.sockets:
        socket = known.socket
        yield Member((socket.cookie, socket.network_namespace), known, counters(socket))


def describe(known: SocketTraffic) -> dict[str, Any]:
    """Return one in words."""
    socket = known.socket
    return {
        "cookie": socket.cookie,
        **(terms.process(known.process) if known.process else terms.NOBODY),
        "tid": known.user.tid if known.user and not known.user.is_process else None,
        "protocol": socket.protocol,
        "local_address": socket.local_address,
        "local_port": socket.local_port,
        "remote_address": socket.remote_address,
        "remote_port": socket.remote_port,
        "network_namespace": socket.network_namespace,
        **terms.traffic(counters(socket)),
    }
