# SPDX-License-Identifier: Apache-2.0
"""What the answers have in common: traffic, names, times, parameters."""

from __future__ import annotations

import functools
import json
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from exporter import procfs
from exporter.config import flags
from exporter.errors import ConfigError
from exporter.model import PROTOCOLS, TRAFFIC, WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.model import Counters, Group, Network, ProcessTraffic, Report, TaskRecord


@functools.cache
def booted_at() -> float:
    """Return when the host was started, in seconds since the epoch; the same in all of a run.

    A process is known by its start too: a clock that is put right must not make it another one.
    """
    return procfs.booted_at()


def dump(answer: Mapping[str, Any]) -> bytes:
    """Return JSON in ASCII, without numbers that JSON has not."""
    return json.dumps(answer, allow_nan=False).encode()


def listing(report: Report, noun: str, entries: Iterable[Any], *, counted: bool = True) -> bytes:
    """Return what is there at the instant of the report."""
    answer = {
        "counted": counted,
        "time_seconds": round(report.now_ns / 1e9, 6),
        "boot_time_seconds": round(booted_at(), 6),
        noun: list(entries),
    }
    return dump(answer)


def parameters(path: str, query: str, limits: Mapping[str, int]) -> dict[str, int]:
    """Return the whole numbers of a query; limits: the largest of each. Raises ConfigError."""
    found = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name not in limits:
            accepted = ", ".join(limits) or "none"
            message = f"{path}: found parameter {name!r}; accepted are {accepted}"
            raise ConfigError(message)
        found[name] = flags.whole(f"{path}: {name}", 0, limits[name], value)
    return found


def network(path: str, query: str) -> Network | None:
    """Return the address or prefix that a query asks for; None: all. Raises ConfigError."""
    wanted = None
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name != "address":
            message = f"{path}: found parameter {name!r}; accepted is address"
            raise ConfigError(message)
        wanted = flags.network(f"{path}: address", value)
    return wanted


def time(since_boot_ns: int) -> float | None:
    """Return seconds since the epoch; None: it was never."""
    return round(since_boot_ns / 1e9 + booted_at(), 3) if since_boot_ns else None


def traffic(counters: Counters) -> dict[str, dict[str, int]]:
    """Return counters in words, by protocol."""
    return {
        protocol: dict(zip(TRAFFIC, counters[WIDTH * index :], strict=False))
        for index, protocol in enumerate(PROTOCOLS)
    }


def place(container: Group) -> dict[str, str | None]:
    """Return where something is; null outside of containers."""
    return {
        "container": container.container or None,
        "pod": container.pod or None,
        "namespace": container.namespace or None,
    }


def started(task: TaskRecord) -> float:
    """Return when a task was started, in seconds since the epoch."""
    return round(task.start_ns / 1e9 + booted_at(), 3)


def process(known: ProcessTraffic) -> dict[str, Any]:
    """Return who a process is: its identity and its names."""
    task = known.task
    return {
        "pid": task.pid,
        "start_time_seconds": started(task),
        "process": task.name,
        "group": known.group.name,
        **place(known.container),
        "uid": task.uid,
        "user": procfs.user(task.uid),
        "unit": known.unit or None,
    }


NOBODY: Final = dict.fromkeys(
    (
        *("pid", "start_time_seconds", "process", "group"),
        *("container", "pod", "namespace", "uid", "user", "unit"),
    )
)
"""The same of a socket whose user is not known."""
