# SPDX-License-Identifier: Apache-2.0
"""Turns Snapshots into Reports and remembers what must never fall.

The kernel's record of a task only grows and goes away some time after the task. The ledger takes
the increments, so a group keeps what its finished processes had used, and what a process used
before it changed its name stays where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.model import (
    REASONS,
    ZERO,
    Counters,
    ProcessTraffic,
    Report,
    SocketTraffic,
    ThreadTraffic,
    add,
    subtract,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.model import Snapshot, SocketRecord, TaskRecord

KEEP_NS: Final = 16 * 10**9
"""A record is kept this long after its task: a second more than packets can join it (LATE_NS)."""
MAX_GROUPS: Final = 4096
"""Any program can change its name as often as it likes; what comes after so many is `other`."""
OTHER: Final = "other"


class Ledger:
    """The only object with memory between kernel and metrics. Not safe for threads: hold a lock."""

    def __init__(self, group_of: Callable[[TaskRecord], str]) -> None:
        self._group_of = group_of
        self._seen: dict[int, Counters] = {}
        self._groups: dict[str, Counters] = {}
        self._exited: dict[str, Counters] = {}
        self._exits: dict[tuple[str, str], int] = {}
        self._exit_group: dict[int, str] = {}

    def report(self, snapshot: Snapshot, sockets: Iterable[SocketRecord] = ()) -> Report:
        """Account for what is new in a snapshot and say what it all means."""
        processes = [task for task in snapshot.tasks if task.is_process]
        threads = [task for task in snapshot.tasks if not task.is_process]
        for process in processes:
            self._account(process)
        self._drop_gone(processes)
        unidentified = {reason: snapshot.unidentified.get(reason, ZERO) for reason in REASONS}
        total = ZERO
        for counters in (*self._groups.values(), *unidentified.values()):
            total = add(total, counters)
        by_identity = {task.identity: task for task in snapshot.tasks}
        return Report(
            total=total,
            unidentified=unidentified,
            groups=dict(self._groups),
            exited=dict(self._exited),
            exits=dict(self._exits),
            processes=tuple(self._show(processes)),
            threads=tuple(
                ThreadTraffic(task.pid, task.tid, task.name, task.counters)
                for task in _newest(threads, lambda task: task.tid)
            ),
            sockets=tuple(_with_user(socket, by_identity) for socket in sockets),
            exit_list=tuple(p for p in processes if p.end_ns and any(p.counters)),
            tasks={"process": len(processes), "thread": len(threads)},
            forgettable=tuple(
                task.identity
                for task in snapshot.tasks
                if task.end_ns and snapshot.now_ns - task.end_ns > KEEP_NS
            ),
        )

    def _account(self, process: TaskRecord) -> None:
        """Add what a process has used since the last report to its group."""
        identity, counters = process.identity, process.counters
        before = self._seen.get(identity, ZERO)
        group = self._group(process)
        delta = subtract(counters, before)
        if counters != before:
            self._seen[identity] = counters
            self._groups[group] = add(self._groups.get(group, ZERO), delta)
        if not process.end_ns or not any(counters):
            return
        if identity not in self._exit_group:
            self._exit_group[identity] = group
            key = group, process.outcome
            self._exits[key] = self._exits.get(key, 0) + 1
            delta = counters
        group = self._exit_group[identity]
        self._exited[group] = add(self._exited.get(group, ZERO), delta)

    def _group(self, task: TaskRecord) -> str:
        name = self._group_of(task)
        return name if name in self._groups or len(self._groups) < MAX_GROUPS else OTHER

    def _drop_gone(self, processes: list[TaskRecord]) -> None:
        """Forget processes that the kernel has forgotten."""
        there = {process.identity for process in processes}
        for identity in self._seen.keys() - there:
            del self._seen[identity]
        for identity in self._exit_group.keys() - there:
            del self._exit_group[identity]

    def _show(self, processes: list[TaskRecord]) -> Iterable[ProcessTraffic]:
        for task in _newest(processes, lambda task: task.pid):
            yield ProcessTraffic(task.pid, task.name, self._group(task), task.counters)


def _newest(tasks: list[TaskRecord], key: Callable[[TaskRecord], int]) -> Iterable[TaskRecord]:
    """Keep one task per id: an id is used again while its last record is still in the exit list."""
    newest: dict[int, TaskRecord] = {}
    for task in tasks:
        known = newest.get(key(task))
        if known is None or task.start_ns > known.start_ns:
            newest[key(task)] = task
    return newest.values()


def _with_user(socket: SocketRecord, tasks: dict[int, TaskRecord]) -> SocketTraffic:
    user = tasks.get(socket.owner)
    return SocketTraffic(user.pid if user else 0, user.name if user else "", socket)
