# SPDX-License-Identifier: Apache-2.0
"""What the answers have in common: traffic, names, times, parameters."""

from __future__ import annotations

import functools
import itertools
import json
import urllib.parse
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter import procfs
from exporter.config import flags
from exporter.errors import ConfigError
from exporter.model import PROTOCOLS, TRAFFIC, WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from exporter.model import Counters, Group, ProcessTraffic, Report, TaskRecord

LIMIT: Final = {"limit": 1_000_000}
"""The parameter of all lists: at most so many entries."""


class Member(NamedTuple):
    """One process, thread, socket, host, group or finished process."""

    identity: Hashable
    """As long as the exporter runs."""
    known: Any
    """As the report has it."""
    counters: Counters


@functools.cache
def booted_at() -> float:
    """Return when the host was started, in seconds since the epoch; the same in all of a run.

    A process is known by its start too: a clock that is put right must not make it another one.
    """
    return procfs.booted_at()


def dump(answer: Mapping[str, Any]) -> bytes:
    """Return JSON in ASCII, without numbers that JSON has not."""
    return json.dumps(answer, allow_nan=False).encode()


def listing(
    report: Report, noun: str, entries: Iterable[Any], wanted: Mapping[str, Any], *, kind: str = ""
) -> bytes:
    """Return what is there at the instant of the report; kind: counted only if that is wanted."""
    answer = {
        "counted": not kind or kind in report.counted,
        **instant(report),
        noun: list(itertools.islice(entries, wanted.get("limit"))),
    }
    return dump(answer)


def instant(report: Report) -> dict[str, float]:
    """Return when that is."""
    return {
        "time_seconds": round(report.now_ns / 1e9, 6),
        "boot_time_seconds": round(booted_at(), 6),
    }


def parameters(
    path: str, query: str, accepted: Mapping[str, int | Callable[[str], Any]]
) -> dict[str, Any]:
    """Return what a query says. Raises ConfigError.

    accepted: how each is read; of a whole number, the largest.
    """
    found: dict[str, Any] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name not in accepted:
            names = ", ".join(accepted) or "none"
            verb = "are" if len(accepted) > 1 else "is"
            message = f"{path}: found parameter {name!r}; accepted {verb} {names}"
            raise ConfigError(message)
        if name in found:
            message = f"{path}: found parameter {name!r} twice; accepted is one of each"
            raise ConfigError(message)
        read = accepted[name]
        if isinstance(read, int):
            found[name] = flags.whole(f"{path}: {name}", 0, read, value)
        else:
            found[name] = read(value)
    return found


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
