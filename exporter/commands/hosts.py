# SPDX-License-Identifier: Apache-2.0
"""`hosts`: traffic by IP address, as tctable printed it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from exporter import arguments
from exporter.api.hosts import PATH
from exporter.client import Client
from exporter.errors import ServeError
from exporter.model import DIRECTIONS, PROTOCOLS, TRAFFIC

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from exporter.model import Network

HEADER: Final = (
    f"{'address':<39} {'device':<15} {'connections':>11} {'received':>15} {'transmitted':>15} "
    f"{'packets':>12} last use"
)
DETAIL: Final = (
    f"{'':<5} {'connections':>11} {'receive packets':>16} {'receive bytes':>16} "
    f"{'transmit packets':>16} {'transmit bytes':>16}"
)


def run(parsed: argparse.Namespace) -> int:
    """Print the IP addresses that a running exporter knows, or how many."""
    client = Client.of(arguments.chosen(parsed))
    if parsed.count:
        print(count(client, parsed.address, as_json=parsed.as_json))
        return 0
    for line in listing(client, parsed.address, as_json=parsed.as_json):
        print(line)
    return 0


def listing(client: Client, wanted: Network | None, *, as_json: bool) -> Iterator[str]:
    """Yield a line for each address; of one alone, what it has used. Raises ServeError."""
    found = _ask_hosts(client, wanted)
    if as_json:
        yield from (json.dumps(host) for host in found)
    elif wanted and wanted.num_addresses == 1:
        if not found:
            message = f"{wanted.network_address}: nothing was counted for this address"
            raise ServeError(message)
        for host in found:
            yield from _detail(host)
    else:
        yield HEADER
        yield from map(_line, found)


def count(client: Client, wanted: Network | None, *, as_json: bool) -> str:
    """Return how many addresses there are. Raises ServeError."""
    number = len(_ask_hosts(client, wanted))
    return json.dumps({"hosts": number}) if as_json else str(number)


def _ask_hosts(client: Client, wanted: Network | None) -> list[dict[str, Any]]:
    answer = ask(client, PATH, wanted)
    if not answer["counted"]:
        message = (
            "this exporter does not count by IP address; start it with --collector.hosts, or with "
            "hosts in its configuration"
        )
        raise ServeError(message)
    found: list[dict[str, Any]] = answer["hosts"]
    return sorted(found, key=lambda host: sum(map(sum, map(_numbers, _parts(host)))), reverse=True)


def ask(client: Client, path: str, wanted: Network | None) -> dict[str, Any]:
    """Return what the API says of an address or a prefix, or of all. Raises ServeError."""
    text = client.fetch(f"{path}?address={wanted}" if wanted else path)
    try:
        answer: dict[str, Any] = json.loads(text)
        answer[path.rpartition("/")[2]]
    except (ValueError, KeyError, TypeError) as error:
        message = f"the answer is no list of {path}; is it netatop-exporter's address?"
        raise ServeError(message) from error
    return answer


def _parts(host: dict[str, Any]) -> Iterator[dict[str, int]]:
    return (host[protocol] for protocol in PROTOCOLS)


def _numbers(part: dict[str, int]) -> Iterator[int]:
    return (part[name] for name in TRAFFIC)


def _line(host: dict[str, Any]) -> str:
    total = {name: sum(part[name] for part in _parts(host)) for name in TRAFFIC}
    packets = sum(total[f"{direction}_packets"] for direction in DIRECTIONS)
    return (
        f"{host['address']:<39} {host['device']:<15} {sum(host['connections'].values()):>11} "
        f"{total['receive_bytes']:>15} {total['transmit_bytes']:>15} {packets:>12} "
        f"{_when(host['last_use_time_seconds'])}"
    )


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _detail(host: dict[str, Any]) -> Iterator[str]:
    """Yield the table of one address."""
    where = f"behind this host, at {host['device']}" if host["device"] else "of this host"
    yield f"{host['address']} ({where}), last used {_when(host['last_use_time_seconds'])}"
    yield DETAIL
    for protocol in PROTOCOLS:
        cells = _numbers(host[protocol])
        yield f"{protocol:<5} {host['connections'][protocol]:>11} " + " ".join(
            f"{cell:>16}" for cell in cells
        )
