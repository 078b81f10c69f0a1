# SPDX-License-Identifier: Apache-2.0
"""The ledger's memory as bytes, for the exporter that comes after this one."""

from __future__ import annotations

import json
from typing import Any, Final

from exporter.attribution.exits import ExitList
from exporter.attribution.histogram import Histograms
from exporter.attribution.ledger import Memory
from exporter.errors import StateError
from exporter.model import ExitedProcess, Group, RoundTrips, TaskRecord, TcpTraffic

VERSION: Final = 4


def dump(memory: Memory) -> bytes:
    """Return all of it as JSON; some 150 bytes for each process."""
    return json.dumps(
        {
            "version": VERSION,
            "seen": list(memory.seen.items()),
            "groups": list(memory.groups.items()),
            "exited": list(memory.exited.items()),
            "exits": [(*key, count) for key, count in memory.exits.items()],
            "exit_group": list(memory.exit_group.items()),
            "final": list(memory.final),
            "exit_list": list(memory.exit_list.entries.items()),
            "next_exit": memory.exit_list.next_number,
            "evicted": memory.exit_list.evicted,
            "seen_remotes": list(memory.seen_remotes.items()),
            "remotes": list(memory.remotes.items()),
            "lives": list(memory.lives.items()),
            "current": list(memory.current.items()),
            "elsewhere": [(i, list(parts.items())) for i, parts in memory.elsewhere.items()],
            "class_names": memory.class_names,
            "histograms": {
                what: list(counts.items()) for what, counts in memory.histograms.counts.items()
            },
        },
        separators=(",", ":"),
    ).encode()


def restore(text: bytes, max_exits: int) -> Memory:
    """Return what was dumped. Raises StateError."""
    try:
        said = json.loads(text)
        version = said["version"]
        if version != VERSION:
            message = f"what was remembered is of version {version!r}; accepted is {VERSION}"
            raise StateError(message)
        exit_list = ExitList(max_exits)
        exit_list.entries = {
            identity: ExitedProcess(
                number, _task(task), Group(*group), Group(*container), cgroup, final
            )
            for identity, (number, task, group, container, cgroup, final) in said["exit_list"][
                max(len(said["exit_list"]) - max_exits, 0) :
            ]
        }
        exit_list.next_number = said["next_exit"]
        exit_list.evicted = said["evicted"] + len(said["exit_list"]) - len(exit_list.entries)
        histograms = Histograms()
        histograms.counts = {
            what: {Group(*group): numbers for group, numbers in said["histograms"][what]}
            for what in histograms.counts
        }
        return Memory(
            seen={identity: tuple(usage) for identity, usage in said["seen"]},
            groups={Group(*group): tuple(usage) for group, usage in said["groups"]},
            exited={Group(*group): tuple(counters) for group, counters in said["exited"]},
            exits={(Group(*group), outcome): count for group, outcome, count in said["exits"]},
            exit_group={identity: Group(*group) for identity, group in said["exit_group"]},
            final=set(said["final"]),
            exit_list=exit_list,
            histograms=histograms,
            seen_remotes={identity: tuple(row) for identity, row in said["seen_remotes"]},
            current={identity: Group(*group) for identity, group in said["current"]},
            elsewhere={
                identity: {Group(*group): tuple(counters) for group, counters in parts}
                for identity, parts in said["elsewhere"]
            },
            class_names=tuple(said["class_names"]),
            lives={Group(*group): tuple(counts) for group, counts in said["lives"]},
            remotes={
                Group(*group): {name: tuple(row) for name, row in classes.items()}
                for group, classes in said["remotes"]
            },
        )
    except (ValueError, KeyError, TypeError) as error:
        message = f"what was remembered can't be read: {error!r}"
        raise StateError(message) from error


def _task(said: list[Any]) -> TaskRecord:
    """Return a record whose rows have become lists."""
    task = TaskRecord(*said)
    counts, sum_us = task.round_trips
    return task._replace(
        counters=tuple(task.counters),
        remotes=tuple(task.remotes),
        tcp=TcpTraffic(*task.tcp),
        round_trips=RoundTrips(tuple(counts), sum_us),
    )
