# SPDX-License-Identifier: Apache-2.0
"""Finished processes that had used the network."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final

from exporter.api import terms
from exporter.api.terms import Member
from exporter.attribution.containers import place
from exporter.procfs import booted_at, user

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.model import ExitedProcess, Report

PATH: Final = "/api/v1/exits"
SINCE: Final = {"since": 10**12 - 1}
"""The other parameter."""


def answer(report: Report, query: str) -> bytes:
    """Return the exit list, from number `since` on, at most `limit`. Raises ConfigError."""
    wanted = terms.parameters(PATH, query, {**SINCE, **terms.LIMIT})
    found = [e for e in report.exit_list if e.number >= wanted.get("since", 0)]
    shown = found[: wanted.get("limit", len(found))]
    left = found[len(shown) :]
    offset = booted_at()
    return terms.dump(
        {
            "exits": [exited(entry, offset) for entry in shown],
            "next": left[0].number if left else report.next_exit,
            "evicted": report.exit_list_evicted,
        }
    )


def members(report: Report) -> Iterable[Member]:
    """Yield each with its identity."""
    for entry in report.exit_list:
        yield Member(entry.number, entry, entry.task.counters)


def describe(entry: ExitedProcess) -> dict[str, Any]:
    """Return one in words."""
    return exited(entry, booted_at())


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
        **terms.place(entry.container),
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
        **terms.traffic(task.counters),
        "tcp_payload": task.tcp._asdict(),
        "final": entry.final,
    }


def signal_name(number: int) -> str:
    """Return SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
