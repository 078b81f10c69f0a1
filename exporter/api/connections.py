# SPDX-License-Identifier: Apache-2.0
"""Connections of IP addresses: of this host by their sockets, and of those behind it."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Any, Final

from exporter.api import terms
from exporter.config import flags
from exporter.model import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.collector import Connections
    from exporter.model import Connection, Network, SocketRecord, TaskRecord

PATH: Final = "/api/v1/connections"
NOWHERE: Final = {"0.0.0.0", "::"}  # noqa: S104 (what a socket has that is not connected)


def answer(find: Callable[[Network | None], Connections | None], query: str) -> bytes:
    """Return all of them, or those of the prefix that is asked for, at either end.

    Nothing at all: not ready yet. Raises ConfigError.
    """
    address = functools.partial(flags.network, f"{PATH}: address")
    asked = terms.parameters(PATH, query, {"address": address, **terms.LIMIT})
    wanted = asked.get("address")
    found = find(wanted)
    if not found:
        return b""
    tasks = {task.identity: task for task in found.snapshot.tasks}
    listed = [_socket(socket, tasks) for socket in found.sockets if _is_connection(socket, wanted)]
    listed += map(_behind, found.forwarded)
    return terms.dump({"connections": listed[: asked.get("limit")]})


def _is_connection(socket: SocketRecord, wanted: Network | None) -> bool:
    ends = socket.local_address, socket.remote_address
    if socket.remote_address in NOWHERE:
        return False
    return wanted is None or any(ipaddress.ip_address(end) in wanted for end in ends)


def _socket(socket: SocketRecord, tasks: dict[int, TaskRecord]) -> dict[str, Any]:
    """Return one of this host's own; whose, by who transmits on it."""
    task = tasks.get(socket.owner)
    return {
        "address": socket.local_address,
        "port": socket.local_port,
        "peer_address": socket.remote_address,
        "peer_port": socket.remote_port,
        "protocol": socket.protocol,
        "device": "",
        "network_namespace": socket.network_namespace,
        "pid": task.pid if task else None,
        "process": task.name if task else None,
        "opened_by": None,
        "is_open": True,
        "first_time_seconds": None,
        "last_use_time_seconds": None,
        "receive_packets": socket.receive_packets,
        "receive_bytes": socket.receive_bytes,
        "transmit_packets": socket.transmit_packets,
        "transmit_bytes": socket.transmit_bytes,
    }


def _behind(one: Connection) -> dict[str, Any]:
    return {
        "address": one.address,
        "port": one.port,
        "peer_address": one.peer_address,
        "peer_port": one.peer_port,
        "protocol": one.protocol,
        "device": one.device,
        "network_namespace": None,
        "pid": None,
        "process": None,
        "opened_by": "peer" if one.opened_by_peer else "address",
        "is_open": one.is_open,
        "first_time_seconds": terms.time(one.first_ns),
        "last_use_time_seconds": terms.time(one.last_ns),
        **dict(zip(TRAFFIC, one.traffic, strict=True)),
    }
