# SPDX-License-Identifier: Apache-2.0
"""Reports as JSON, for programs: /api/v1/exits."""

from __future__ import annotations

import json
import signal
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from exporter.attribution.containers import place
from exporter.config import flags
from exporter.errors import ConfigError
from exporter.model import DIRECTIONS, PROTOCOLS, UNITS
from exporter.procfs import user

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model import ExitedProcess, Report

EXITS: Final = "/api/v1/exits"
LIMITS: Final = {"since": 1 << 53, "limit": 1_000_000}
"""The parameters of EXITS, and the largest value of each."""
TRAFFIC: Final = tuple(f"{d}_{unit}" for d in DIRECTIONS for unit in UNITS)


def exits(report: Report, query: str) -> bytes:
    """Return the exit list, from number `since` on, at most `limit`. Raises ConfigError."""
    wanted = _parameters(query)
    found = [e for e in report.exit_list if e.number >= wanted.get("since", 0)]
    shown = found[: wanted.get("limit", len(found))]
    left = found[len(shown) :]
    offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return json.dumps(
        {
            "exits": [exited(entry, offset) for entry in shown],
            "next": left[0].number if left else report.next_exit,
            "evicted": report.exit_list_evicted,
        }
    ).encode()


def _parameters(query: str) -> Mapping[str, int]:
    found = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name not in LIMITS:
            message = f"{EXITS}: found parameter {name!r}; accepted are {', '.join(LIMITS)}"
            raise ConfigError(message)
        found[name] = flags.whole(f"{EXITS}: {name}", 0, LIMITS[name], value)
    return found


def exited(entry: ExitedProcess, offset: float) -> dict[str, Any]:
    """Return an entry in words; offset: the time of the boot, in seconds since the epoch."""
    task = entry.task
    number = task.wait_status & 0x7F
    where = place(entry.cgroup)
    return {
        "number": entry.number if entry.number >= 0 else None,
        "pid": task.pid,
        "process": task.name,
        "group": entry.group.name,
        "container": entry.container.container or None,
        "pod": entry.container.pod or None,
        "namespace": entry.container.namespace or None,
        "uid": task.uid,
        "user": user(task.uid),
        "cgroup_id": task.cgroup_id,
        "cgroup": entry.cgroup or None,
        "runtime": where.runtime or None,
        "container_id": where.container_id or None,
        "pod_uid": where.pod_uid or None,
        "unit": where.qualified_unit or None,
        "start_time_seconds": round(task.start_ns / 1e9 + offset, 3),
        "end_time_seconds": round(task.end_ns / 1e9 + offset, 3),
        "outcome": task.outcome,
        "exit_status": None if number else task.wait_status >> 8,
        "signal": signal_name(number) if number else None,
        "threads": task.threads,
        "sockets": task.sockets,
        **{
            protocol: dict(zip(TRAFFIC, task.counters[4 * index :], strict=False))
            for index, protocol in enumerate(PROTOCOLS)
        },
        "tcp_payload": task.tcp._asdict(),
        "final": entry.final,
    }


def signal_name(number: int) -> str:
    """Return SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
