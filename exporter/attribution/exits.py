# SPDX-License-Identifier: Apache-2.0
"""The exit list: the last finished processes that had used the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model import ExitedProcess

if TYPE_CHECKING:
    from exporter.model import TaskRecord


class ExitList:
    """Bounded; in the order in which they were seen, with numbers that are never used again."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.entries: dict[int, ExitedProcess] = {}
        """By identity."""
        self.next_number = 0
        self.evicted = 0
        """How many have made room for others; their traffic is in the sums, as everybody's."""

    def add(self, task: TaskRecord, group: str, cgroup: str) -> None:
        """Take a process in; the oldest one leaves if the list is full."""
        self.entries[task.identity] = _entry(self.next_number, task, group, cgroup, final=False)
        self.next_number += 1
        while len(self.entries) > self._capacity:
            del self.entries[next(iter(self.entries))]
            self.evicted += 1

    def update(self, task: TaskRecord, *, final: bool) -> None:
        """Note what late packets have added; final: nothing can be added any more."""
        entry = self.entries.get(task.identity)
        if entry:
            self.entries[task.identity] = _entry(
                entry.number, task, entry.group, entry.cgroup, final=final
            )


def _entry(number: int, task: TaskRecord, group: str, cgroup: str, *, final: bool) -> ExitedProcess:
    return ExitedProcess(
        number=number,
        pid=task.pid,
        name=task.name,
        group=group,
        uid=task.uid,
        cgroup_id=task.cgroup_id,
        start_ns=task.start_ns,
        end_ns=task.end_ns,
        wait_status=task.wait_status,
        threads=task.threads,
        sockets=task.sockets,
        counters=task.counters,
        tcp=task.tcp,
        final=final,
        cgroup=cgroup,
    )
