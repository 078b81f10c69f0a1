# SPDX-License-Identifier: Apache-2.0
"""`exits`: the finished processes that had used the network, as a table or as JSON lines."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from exporter import arguments
from exporter.api.exits import PATH
from exporter.client import Client
from exporter.errors import ServeError
from exporter.model import PROTOCOLS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

POLL_SECONDS: Final = 1.0
HEADER: Final = (
    f"{'ended':<19} {'pid':>7} {'process':<15} {'user':<12} {'outcome':<10} {'seconds':>9} "
    f"{'threads':>7} {'sockets':>7} {'received':>15} {'transmitted':>15}"
)


def run(parsed: argparse.Namespace) -> int:
    """Print the exit list of a running exporter."""
    client = Client.of(arguments.chosen(parsed))
    for row in listing(client, as_json=parsed.as_json, follow=parsed.follow):
        print(row, flush=parsed.follow)
    return 0


def listing(client: Client, *, as_json: bool, follow: bool) -> Iterator[str]:
    """Yield a line for each finished process; with `follow` without end. Raises ServeError."""
    if not as_json:
        yield HEADER
    since = 0
    while True:
        answer = _ask(client, since)
        found = answer["exits"]
        missed = found[0]["number"] - since if found and since else 0
        if missed > 0:
            text = f"({missed} more had left the list before they could be read)"
            yield json.dumps({"missed": missed}) if as_json else text
        for entry in found:
            yield json.dumps(entry) if as_json else line(entry)
        if not follow:
            return
        # After a restart without pins the numbers begin again.
        since = answer["next"] if answer["next"] >= since else 0
        time.sleep(POLL_SECONDS)


def _ask(client: Client, since: int) -> dict[str, Any]:
    text = client.fetch(f"{PATH}?since={since}")
    try:
        answer: dict[str, Any] = json.loads(text)
        answer["exits"], answer["next"]
    except (ValueError, KeyError, TypeError) as error:
        message = "the answer is no exit list; is it netatop-exporter's address?"
        raise ServeError(message) from error
    return answer


def line(entry: dict[str, Any]) -> str:
    """Return one process as a row under HEADER."""
    ended = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["end_time_seconds"]))
    lived = entry["end_time_seconds"] - entry["start_time_seconds"]
    received, transmitted = (
        sum(entry[protocol][f"{direction}_bytes"] for protocol in PROTOCOLS)
        for direction in ("receive", "transmit")
    )
    outcome = entry["signal"] or f"exit {entry['exit_status']}"
    name = "".join(c if c.isprintable() else "?" for c in entry["process"])
    return (
        f"{ended:<19} {entry['pid']:>7} {name:<15} {entry['user']:<12} {outcome:<10} "
        f"{lived:>9.1f} {entry['threads']:>7} {entry['sockets']:>7} "
        f"{received:>15} {transmitted:>15}"
    )
