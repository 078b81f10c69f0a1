# SPDX-License-Identifier: Apache-2.0
"""`watch`: the lives of processes and threads as they go on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter import arguments
from exporter.api.exits import PATH, signal_name
from exporter.client import Client
from exporter.errors import ConfigError, ServeError
from exporter.kernel.watcher import Filter, Watcher
from exporter.model import DIRECTIONS, LIFE_EVENTS, PROTOCOLS, outcome
from exporter.procfs import booted_at, user

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from exporter.model import LifeEvent

POLL_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 0.3
"""After an exit its last packets may still be on their way to its record."""
ENDS: Final = ("exit", "abort", "thread_exit")
HEADER: Final = (
    f"{'time':<15} {'event':<13} {'pid':>7} {'tid':>7} {'parent':>7} {'user':<12} {'command':<15} "
    f"{'outcome':<10} {'received':>13} {'transmitted':>13}"
)


def run(parsed: argparse.Namespace) -> int:
    """Print events until Ctrl-C."""
    chosen = Filter(
        events=frozenset(parsed.event or LIFE_EVENTS),
        pid=parsed.pid or 0,
        tree=parsed.tree,
        command=parsed.comm or "",
    )
    if chosen.tree and not chosen.pid:
        message = "--tree: found without --pid; accepted is the process whose descendants are meant"
        raise ConfigError(message)
    client = Client.of(arguments.chosen(parsed))
    for line in events(chosen, client, as_json=parsed.as_json):
        print(line, flush=True)
    return 0


def events(chosen: Filter, client: Client, *, as_json: bool) -> Iterator[str]:
    """Yield a line for each event, without end. Raises KernelError."""
    exits = _Exits(client)
    missed = 0
    with Watcher(chosen, descendants(chosen.pid) if chosen.tree else ()) as watcher:
        booted = booted_at()
        if not as_json:
            yield HEADER
        while True:
            found = watcher.poll(POLL_SECONDS)
            traffic = exits.of(found)
            for event in found:
                told = _told(event, booted, traffic.get((event.pid, event.time_ns)))
                yield json.dumps(told) if as_json else _row(told)
            if watcher.missed > missed:
                lost, missed = watcher.missed - missed, watcher.missed
                yield json.dumps({"missed": lost}) if as_json else f"({lost} events were missed)"


def descendants(pid: int) -> Iterable[int]:
    """Return all that descend from a process now, by their parents in /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, rest = [], children.get(pid, [])
    while rest:
        found += rest
        rest = [grandchild for child in rest for grandchild in children.get(child, [])]
    return found


class _Exits:
    """What finished processes have used, if an exporter runs on this host."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._since = self._ask(0)[1]

    def of(self, found: Iterable[LifeEvent]) -> dict[tuple[int, int], dict[str, Any]]:
        """Return the traffic of those that have ended, by pid and time of the event."""
        ended = [event for event in found if event.event in {"exit", "abort"}]
        if not ended or self._since is None:
            return {}
        time.sleep(SETTLE_SECONDS)
        entries, self._since = self._ask(self._since)
        traffic = {}
        for event in ended:
            for entry in entries:
                if entry["pid"] == event.pid and _same(entry, event):
                    traffic[event.pid, event.time_ns] = {p: entry[p] for p in PROTOCOLS}
        return traffic

    def _ask(self, since: int) -> tuple[list[dict[str, Any]], int | None]:
        try:
            answer = json.loads(self._client.fetch(f"{PATH}?since={since}"))
            return answer["exits"], answer["next"]
        except (ServeError, ValueError, KeyError, TypeError):
            return [], None  # there is none, or no more


def _same(entry: dict[str, Any], event: LifeEvent) -> bool:
    """Tell whether an entry is of that process: a pid is used again."""
    booted = booted_at()
    return bool(abs(entry["start_time_seconds"] - booted - event.start_ns / 1e9) < 0.05)


def _told(event: LifeEvent, booted: float, traffic: dict[str, Any] | None) -> dict[str, Any]:
    number = event.wait_status & 0x7F
    ends = event.event in ENDS
    return {
        "time_seconds": round(event.time_ns / 1e9 + booted, 6),
        "event": event.event,
        "pid": event.pid,
        "tid": event.tid,
        "parent": event.parent,
        "process": event.name,
        "uid": event.uid,
        "user": user(event.uid),
        "cgroup_id": event.cgroup_id,
        "start_time_seconds": round(event.start_ns / 1e9 + booted, 3),
        "outcome": outcome(event.wait_status) if ends else None,
        "exit_status": event.wait_status >> 8 if ends and not number else None,
        "signal": signal_name(number) if ends and number else None,
        "traffic": traffic,
    }


def _row(told: dict[str, Any]) -> str:
    """Return an event as a row under HEADER."""
    seconds = told["time_seconds"]
    clock = f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1e6):06}"
    how = told["signal"] or ("" if told["outcome"] is None else f"exit {told['exit_status']}")
    used = told["traffic"]
    sums = [
        str(sum(used[protocol][f"{direction}_bytes"] for protocol in PROTOCOLS)) if used else ""
        for direction in DIRECTIONS
    ]
    return (
        f"{clock:<15} {told['event']:<13} {told['pid']:>7} {told['tid']:>7} {told['parent']:>7} "
        f"{told['user']:<12} {told['process']:<15} {how:<10} {sums[0]:>13} {sums[1]:>13}"
    ).rstrip()
