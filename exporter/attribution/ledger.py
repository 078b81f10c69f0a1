# SPDX-License-Identifier: Apache-2.0
"""Turns Snapshots into Reports and remembers what must never fall.

The kernel's record of a task only grows and goes away some time after the task. The ledger takes
the increments, so a group keeps what its finished processes had used, and what a process used
before it changed its name stays where it was.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from exporter.attribution.exits import ExitList
from exporter.attribution.histogram import Histograms
from exporter.model import (
    NO_ROUND_TRIPS,
    NO_TCP,
    REASONS,
    ZERO,
    Counters,
    ProcessTraffic,
    Report,
    RoundTrips,
    SocketTraffic,
    TcpTraffic,
    ThreadTraffic,
    add,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.model import Snapshot, SocketRecord, TaskRecord

KEEP_NS: Final = 16 * 10**9
"""A record is kept this long after its task: a second more than packets can join it (LATE_NS)."""
MAX_GROUPS: Final = 4096
"""Any program can change its name as often as it likes; what comes after so many is `other`."""
OTHER: Final = "other"
MAX_EXITS: Final = 1000

Usage: TypeAlias = tuple[int, ...]
"""All numbers of a record that grow: counters, TCP's, round trips, in one row."""
TCP: Final = slice(len(ZERO), len(ZERO) + len(NO_TCP))
ROUND_TRIPS: Final = slice(TCP.stop, TCP.stop + len(NO_ROUND_TRIPS.counts))
UNUSED: Final[Usage] = (0,) * (ROUND_TRIPS.stop + 1)


class Memory(NamedTuple):
    """Everything that must survive a restart."""

    seen: dict[int, Usage]
    """What each process of the kernel's had used at the last report."""
    groups: dict[str, Usage]
    exited: dict[str, Counters]
    exits: dict[tuple[str, str], int]
    """By group and outcome."""
    exit_group: dict[int, str]
    """Of finished processes that the kernel still has."""
    final: set[int]
    """Those of them that are in the histograms."""
    exit_list: ExitList
    histograms: Histograms


class Ledger:
    """The only object with memory between kernel and metrics. Not safe for threads: hold a lock."""

    def __init__(
        self,
        group_of: Callable[[TaskRecord], str],
        max_exits: int = MAX_EXITS,
        cgroup_of: Callable[[int], str] = lambda _: "",
    ) -> None:
        self._group_of = group_of
        self._cgroup_of = cgroup_of
        self.memory = Memory({}, {}, {}, {}, {}, set(), ExitList(max_exits), Histograms())

    def report(self, snapshot: Snapshot, sockets: Iterable[SocketRecord] = ()) -> Report:
        """Account for what is new in a snapshot and say what it all means."""
        memory = self.memory
        processes = [task for task in snapshot.tasks if task.is_process]
        threads = [task for task in snapshot.tasks if not task.is_process]
        for process in processes:
            self._account(process, snapshot.now_ns)
        self._drop_gone(processes)
        unidentified = {reason: snapshot.unidentified.get(reason, ZERO) for reason in REASONS}
        groups = {group: usage[: TCP.start] for group, usage in memory.groups.items()}
        total = ZERO
        for counters in (*groups.values(), *unidentified.values()):
            total = add(total, counters)
        by_identity = {task.identity: task for task in snapshot.tasks}
        return Report(
            total=total,
            unidentified=unidentified,
            groups=groups,
            group_tcp={g: TcpTraffic(*usage[TCP]) for g, usage in memory.groups.items()},
            round_trips={
                g: RoundTrips(usage[ROUND_TRIPS], usage[-1]) for g, usage in memory.groups.items()
            },
            exited=dict(memory.exited),
            exits=dict(memory.exits),
            lifetimes=memory.histograms.read("lifetime_ns", 1e9),
            sizes=memory.histograms.read("bytes"),
            processes=tuple(self._show(processes)),
            threads=tuple(
                ThreadTraffic(task.pid, task.tid, task.name, task.counters)
                for task in _newest(threads, lambda task: task.tid)
            ),
            sockets=tuple(_with_user(socket, by_identity) for socket in sockets),
            exit_list=tuple(memory.exit_list.entries.values()),
            exit_list_evicted=memory.exit_list.evicted,
            next_exit=memory.exit_list.next_number,
            tasks={"process": len(processes), "thread": len(threads)},
            forgettable=tuple(_forgettable(snapshot)),
        )

    def _account(self, process: TaskRecord, now_ns: int) -> None:
        """Add what a process has used since the last report to its group."""
        memory = self.memory
        identity, usage = process.identity, _usage(process)
        before = memory.seen.get(identity, UNUSED)
        if before is UNUSED:
            self._cgroup_of(process.cgroup_id)  # remembered there: it may end with the process
        group = self._group(process)
        changed = usage != before
        delta: Usage = UNUSED
        if changed:
            delta = tuple(map(operator.sub, usage, before))
            memory.seen[identity] = usage
            memory.groups[group] = add(memory.groups.get(group, UNUSED), delta)
        if process.end_ns and any(process.counters):
            self._account_ended(process, group, delta, now_ns)

    def _account_ended(self, process: TaskRecord, group: str, delta: Usage, now_ns: int) -> None:
        memory, identity = self.memory, process.identity
        final = _is_final(process, now_ns)
        if identity in memory.exit_group:
            group = memory.exit_group[identity]
            joined = delta[: TCP.start]
        else:
            memory.exit_group[identity] = group
            key = group, process.outcome
            memory.exits[key] = memory.exits.get(key, 0) + 1
            memory.exit_list.add(process, group, self._cgroup_of(process.cgroup_id))
            joined = process.counters
        memory.exited[group] = add(memory.exited.get(group, ZERO), joined)
        if identity in memory.final:
            return
        if final or any(delta):
            memory.exit_list.update(process, final=final)
        if final:
            memory.final.add(identity)
            lifetime = process.end_ns - process.start_ns
            memory.histograms.observe("lifetime_ns", group, lifetime)
            memory.histograms.observe("bytes", group, sum(process.counters[1::2]))

    def _group(self, task: TaskRecord) -> str:
        name, groups = self._group_of(task), self.memory.groups
        return name if name in groups or len(groups) < MAX_GROUPS else OTHER

    def _drop_gone(self, processes: list[TaskRecord]) -> None:
        """Forget processes that the kernel has forgotten."""
        memory = self.memory
        there = {process.identity for process in processes}
        for identity in memory.seen.keys() - there:
            del memory.seen[identity]
        for identity in memory.exit_group.keys() - there:
            del memory.exit_group[identity]
        memory.final.intersection_update(there)

    def _show(self, processes: list[TaskRecord]) -> Iterable[ProcessTraffic]:
        for task in _newest(processes, lambda task: task.pid):
            yield ProcessTraffic(task.pid, task.name, self._group(task), task.counters, task.tcp)


def _usage(task: TaskRecord) -> Usage:
    return (*task.counters, *task.tcp, *task.round_trips.counts, task.round_trips.sum_us)


def _is_final(task: TaskRecord, now_ns: int) -> bool:
    """Tell whether a task has ended so long ago that nothing can be added to it any more."""
    return bool(task.end_ns) and now_ns - task.end_ns > KEEP_NS


def _forgettable(snapshot: Snapshot) -> Iterable[int]:
    """Yield what has ended long ago; threads at the latest with their process."""
    final = {task.identity for task in snapshot.tasks if _is_final(task, snapshot.now_ns)}
    yield from final
    for task in snapshot.tasks:
        if task.process in final and task.identity not in final:
            yield task.identity


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
