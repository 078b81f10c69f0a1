# SPDX-License-Identifier: Apache-2.0
"""IP addresses and their connections as JSON: /api/v1/hosts, /api/v1/connections."""

from __future__ import annotations

import ipaddress
import json
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError
from exporter.model import DIRECTIONS, PROTOCOLS, UNITS
from exporter.procfs import booted_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.collector import Connections
    from exporter.model import Connection, HostRecord, Network, Report, SocketRecord, TaskRecord

HOSTS: Final = "/api/v1/hosts"
CONNECTIONS: Final = "/api/v1/connections"
TRAFFIC: Final = tuple(f"{d}_{unit}" for d in DIRECTIONS for unit in UNITS)
NOWHERE: Final = {"0.0.0.0", "::"}  # noqa: S104 (what a socket has that is not connected)


def network(name: str, text: str) -> Network:
    """Parse an address, or a prefix as 10.0.0.0/8. Raises ConfigError."""
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        message = (
            f"{name}: found {text!r}; accepted is an address of IPv4 or IPv6, or a prefix as "
            "10.0.0.0/8"
        )
        raise ConfigError(message) from None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped and found.prefixlen >= 96:
        return ipaddress.ip_network((mapped, found.prefixlen - 96))
    return found


def hosts(report: Report, query: str, *, counted: bool) -> bytes:
    """Return addresses, all or those of a prefix. Raises ConfigError.

    counted: whether they are, at all.
    """
    wanted = _wanted(HOSTS, query)
    offset = booted_at()
    found = [host for host in report.hosts if _is_in(host.address, wanted)]
    return json.dumps(
        {
            "counted": counted,
            "time_seconds": round(report.now_ns / 1e9, 6),
            "hosts": [_host(h, offset) for h in found],
        }
    ).encode()


def connections(find: Callable[[Network | None], Connections | None], query: str) -> bytes:
    """Return the connections of all addresses, or of those of a prefix; nothing: not ready yet.

    Raises ConfigError.
    """
    wanted = _wanted(CONNECTIONS, query)
    found = find(wanted)
    if not found:
        return b""
    offset = booted_at()
    tasks = {task.identity: task for task in found.snapshot.tasks}
    listed = [
        _socket(socket, tasks)
        for socket in found.sockets
        if socket.remote_address not in NOWHERE
        and (_is_in(socket.local_address, wanted) or _is_in(socket.remote_address, wanted))
    ]
    listed += (_forwarded(one, offset) for one in found.forwarded)
    return json.dumps({"connections": listed}).encode()


def _wanted(path: str, query: str) -> Network | None:
    wanted = None
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name != "address":
            message = f"{path}: found parameter {name!r}; accepted is address"
            raise ConfigError(message)
        wanted = network(f"{path}: address", value)
    return wanted


def _is_in(address: str, wanted: Network | None) -> bool:
    return wanted is None or ipaddress.ip_address(address) in wanted


def _host(host: HostRecord, offset: float) -> dict[str, Any]:
    parts = zip(*[iter(host.counters)] * len(TRAFFIC), strict=True)
    return {
        "address": host.address,
        "device": host.device,
        "connections": dict(zip(PROTOCOLS, host.connections, strict=True)),
        "last_use_time_seconds": _time(host.last_ns, offset),
        **{p: _traffic(part) for p, part in zip(PROTOCOLS, parts, strict=True)},
    }


def _time(since_boot_ns: int, offset: float) -> float | None:
    return round(since_boot_ns / 1e9 + offset, 3) if since_boot_ns else None


def _traffic(part: Iterable[int]) -> dict[str, int]:
    return dict(zip(TRAFFIC, part, strict=True))


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
        **_traffic(
            (
                socket.receive_packets,
                socket.receive_bytes,
                socket.transmit_packets,
                socket.transmit_bytes,
            )
        ),
    }


def _forwarded(one: Connection, offset: float) -> dict[str, Any]:
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
        "first_time_seconds": _time(one.first_ns, offset),
        "last_use_time_seconds": _time(one.last_ns, offset),
        **_traffic(one.traffic),
    }
