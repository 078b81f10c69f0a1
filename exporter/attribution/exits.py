# SPDX-License-Identifier: Apache-2.0
"""The exit list: the last finished processes that had used the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model import ExitedProcess

if TYPE_CHECKING:
    from exporter.model import Group, TaskRecord


class ExitList:
    """Bounded; in the order in which they were seen, with numbers that are never used again."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.entries: dict[int, ExitedProcess] = {}
        """By identity."""
        self.next_number = 0
        self.evicted = 0
        """How many have made room for others; their traffic is in the sums, as everybody's."""

    def add(self, task: TaskRecord, group: Group, container: Group, cgroup: str) -> None:
        """Take a process in; the oldest one leaves if the list is full."""
        entry = ExitedProcess(self.next_number, task, group, container, cgroup)
        self.entries[task.identity] = entry
        self.next_number += 1
        while len(self.entries) > self._capacity:
            del self.entries[next(iter(self.entries))]
            self.evicted += 1

    def update(self, task: TaskRecord, *, final: bool) -> None:
        """Note what late packets have added; final: nothing can be added any more."""
        entry = self.entries.get(task.identity)
        if entry:
            self.entries[task.identity] = entry._replace(task=task, final=final)
