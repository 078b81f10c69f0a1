# SPDX-License-Identifier: Apache-2.0
"""Sockets that have carried packets, where they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exporter.api import terms
from exporter.attribution import members

if TYPE_CHECKING:
    from exporter.model import Report, SocketTraffic

PATH: Final = "/api/v1/sockets"


def answer(report: Report, query: str) -> bytes:
    """Return all of them. Raises ConfigError."""
    terms.parameters(PATH, query, {})
    return terms.listing(
        report, "sockets", map(_entry, report.sockets), counted="socket" in report.counted
    )


def _entry(known: SocketTraffic) -> dict[str, Any]:
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
        **terms.traffic(members.counters(socket)),
    }
