# SPDX-License-Identifier: Apache-2.0
"""`connections`: those of an IP address, with the process that has each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from exporter import arguments
from exporter.api.connections import PATH
from exporter.client import Client
from exporter.commands.hosts import ask
from exporter.model import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from exporter.model import Network

HEADER: Final = (
    f"{'protocol':<8} {'from':<47} {'to':<47} {'packets':>10} {'bytes':>14} "
    f"{'packets back':>12} {'bytes back':>14} of"
)


def run(parsed: argparse.Namespace) -> int:
    """Print the connections that a running exporter knows."""
    client = Client.of(arguments.chosen(parsed))
    for line in listing(client, parsed.address, as_json=parsed.as_json):
        print(line)
    return 0


def listing(client: Client, wanted: Network, *, as_json: bool) -> Iterator[str]:
    """Yield a line for each connection of an address. Raises ServeError."""
    found = ask(client, PATH, wanted)["connections"]
    if as_json:
        yield from (json.dumps(one) for one in found)
        return
    yield HEADER
    yield from map(_row, found)


def _row(one: dict[str, Any]) -> str:
    """Return a row: there, and back; from whoever has opened it, where that is known."""
    ends = [_end(one["address"], one["port"]), _end(one["peer_address"], one["peer_port"])]
    ways = [[one[f"{d}_packets"], one[f"{d}_bytes"]] for d in ("transmit", "receive")]
    if one["opened_by"] == "peer":
        ends.reverse()
        ways.reverse()
    whose = f"{one['pid']} {one['process']}" if one["pid"] else one["device"] or "nobody known"
    state = "" if one["is_open"] else ", ended"
    return (
        f"{one['protocol']:<8} {ends[0]:<47} {ends[1]:<47} {ways[0][0]:>10} {ways[0][1]:>14} "
        f"{ways[1][0]:>12} {ways[1][1]:>14} {printable(whose)}{state}"
    )


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
