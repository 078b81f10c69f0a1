# SPDX-License-Identifier: Apache-2.0
"""Turns Snapshots into Reports and remembers what must never fall.

The kernel's record of a task only grows and goes away some time after the task. The ledger takes
the increments, so a group keeps what its finished processes had used, and what a process used
before it changed its name stays where it was.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from exporter.attribution import members
from exporter.attribution.exits import ExitList
from exporter.attribution.histogram import Histograms
from exporter.attribution.hosts import Hosts
from exporter.model import (
    LIFE_EVENTS,
    NO_REMOTES,
    NO_ROUND_TRIPS,
    NO_TCP,
    NO_TRAFFIC,
    OTHER,
    REASONS,
    WIDTH,
    ZERO,
    Counters,
    ExitedProcess,
    Group,
    ProcessTraffic,
    Remotes,
    Report,
    RoundTrips,
    TcpTraffic,
    add,
    subtract,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from exporter.attribution.namer import Named, Namer
    from exporter.model import LifeKey, Snapshot, SocketRecord, TaskRecord, Traffic

KEEP_NS: Final = 16 * 10**9
"""A record is kept this long after its task: a second more than packets can join it (LATE_NS)."""
MAX_EXITS: Final = 1000

Usage: TypeAlias = tuple[int, ...]
"""All numbers of a record that grow: counters, TCP's, round trips, in one row."""
TCP: Final = slice(len(ZERO), len(ZERO) + len(NO_TCP))
ROUND_TRIPS: Final = slice(TCP.stop, TCP.stop + len(NO_ROUND_TRIPS.counts))
UNUSED: Final[Usage] = (0,) * (ROUND_TRIPS.stop + 1)


NO_EVENTS: Final = (0,) * len(LIFE_EVENTS)


class Memory(NamedTuple):
    """Everything that must survive a restart."""

    seen: dict[int, Usage]
    """What each process of the kernel's had used at the last report."""
    groups: dict[Group, Usage]
    exited: dict[Group, Counters]
    exits: dict[tuple[Group, str], int]
    """By group and outcome."""
    exit_group: dict[int, Group]
    """Of finished processes that the kernel still has."""
    final: set[int]
    """Those of them that are in the histograms."""
    exit_list: ExitList
    histograms: Histograms
    seen_remotes: dict[int, Remotes]
    """What `seen` is for the counters, for those by class of remote address."""
    remotes: dict[Group, dict[str, Counters]]
    """By group and the name of the class: the numbers of a class, of all protocols."""
    lives: dict[Group, tuple[int, ...]]
    current: dict[int, Group]
    """In which group a process was when it last used something."""
    elsewhere: dict[int, dict[Group, Counters]]
    """What processes that have changed had used in other groups."""
    class_names: tuple[str, ...] = ()
    """Of which `remotes` tells."""


class Ledger:
    """The only object with memory between kernel and metrics. Not safe for threads: hold a lock."""

    def __init__(
        self,
        namer: Namer,
        max_groups: int,
        max_exits: int = MAX_EXITS,
        class_names: Sequence[str] = (),
    ) -> None:
        self.namer = namer
        self.max_groups = max_groups
        """Both may be changed between two reports: what was counted stays where it is."""
        self._class_names = class_names
        """Of remote addresses, by number; empty where there is none, and all if none is counted."""
        self.hosts = Hosts()
        exit_list = ExitList(max_exits)
        self.memory = Memory(
            {},
            {},
            {},
            {},
            {},
            set(),
            exit_list,
            Histograms(),
            {},
            {},
            {},
            {},
            {},
            tuple(class_names),
        )
        self._final: list[ExitedProcess] = []
        """Of this report."""
        self._seen_lives: dict[LifeKey, tuple[int, ...]] = {}
        """Counted anew in each run."""
        self._whole: dict[str, Traffic] = dict.fromkeys(("thread", "socket"), NO_TRAFFIC)

    def recall(self, memory: Memory) -> None:
        """Go on from what another run has remembered; classes that are not counted now go."""
        if memory.class_names != tuple(self._class_names):
            memory.remotes.clear()
        if not self._class_names:
            memory.seen_remotes.clear()
        self.memory = memory._replace(class_names=tuple(self._class_names))

    def report(self, snapshot: Snapshot, sockets: Iterable[SocketRecord] = ()) -> Report:
        """Account for what is new in a snapshot and say what it all means."""
        memory = self.memory
        self._final.clear()
        processes = [task for task in snapshot.tasks if task.is_process]
        threads = [task for task in snapshot.tasks if not task.is_process]
        named = {process.identity: self.namer.name(process) for process in processes}
        # In the order of their ends: in the exit list the oldest makes room for the newest.
        for process in sorted(processes, key=operator.attrgetter("end_ns")):
            self._account(process, named[process.identity], snapshot.now_ns)
        self._drop_gone(named)
        known = {process.identity: self._known(process, named) for process in processes}
        newest = [known[t.identity] for t in members.newest(processes, lambda task: task.pid)]
        threads_shown = tuple(members.threads_shown(threads, known, named))
        sockets_shown = tuple(
            members.sockets_shown(
                sockets, snapshot.tasks, known, named, strangers=self.namer.shows_strangers
            )
        )
        self._account_lives(snapshot.lives)
        hosts = self.hosts.report(snapshot.hosts, snapshot.now_ns)
        unidentified = {reason: snapshot.unidentified.get(reason, ZERO) for reason in REASONS}
        groups = {group: usage[: TCP.start] for group, usage in memory.groups.items()}
        return Report(
            now_ns=snapshot.now_ns,
            total=_sum((*groups.values(), *unidentified.values())),
            unidentified=unidentified,
            groups=groups,
            group_tcp={g: TcpTraffic(*usage[TCP]) for g, usage in memory.groups.items()},
            round_trips={
                g: RoundTrips(usage[ROUND_TRIPS], usage[-1]) for g, usage in memory.groups.items()
            },
            remotes={group: dict(classes) for group, classes in memory.remotes.items()},
            exited=dict(memory.exited),
            exits=dict(memory.exits),
            lifetimes=memory.histograms.read("lifetime_ns", 1e9),
            sizes=memory.histograms.read("bytes"),
            processes={process.task.pid: process for process in newest},
            threads=threads_shown,
            sockets=sockets_shown,
            counted=self.namer.shown,
            members={
                **members.of_kinds(newest, threads_shown, sockets_shown),
                "host": hosts.members,
            },
            whole={
                **self._whole,
                "host": hosts.whole,
                "process": _sum((NO_TRAFFIC, *(u[: TCP.stop] for u in memory.groups.values()))),
            },
            lives=dict(memory.lives),
            hosts=hosts.hosts,
            idle_hosts=hosts.idle,
            final=tuple(self._final),
            exit_list=tuple(memory.exit_list.entries.values()),
            exit_list_evicted=memory.exit_list.evicted,
            next_exit=memory.exit_list.next_number,
            tasks={"process": len(processes), "thread": len(threads)},
            forgettable=tuple(_forgettable(snapshot)),
        )

    def _known(self, process: TaskRecord, named: Mapping[int, Named]) -> ProcessTraffic:
        """Return a process with its names, in the group that it is in now."""
        found = named[process.identity]
        group = self._admitted(found.group)
        return ProcessTraffic(process, group, found.container, found.unit, found.cgroup)

    def _account(self, process: TaskRecord, named: Named, now_ns: int) -> None:
        """Add what a process has used since the last report to its group."""
        memory, identity, usage = self.memory, process.identity, _usage(process)
        before = memory.seen.get(identity, UNUSED)
        delta: Usage = UNUSED
        if usage != before:
            group = self._admit(named.group)
            delta = tuple(map(operator.sub, usage, before))
            memory.seen[identity] = usage
            memory.groups[group] = add(memory.groups[group], delta)
            self._note_group(identity, group, before[: TCP.start])
            self._account_remotes(process, group)
            for kind, shown in (("thread", named.threads), ("socket", named.sockets)):
                if shown:
                    self._whole[kind] = add(self._whole[kind], delta[: TCP.stop])
        if process.end_ns and any(process.counters):
            self._account_ended(process, named, delta, now_ns)

    def _note_group(self, identity: int, group: Group, before: Counters) -> None:
        """Note what a process that is in another group now had used in the former one."""
        memory = self.memory
        former = memory.current.setdefault(identity, group)
        if former != group:
            memory.current[identity] = group
            parts = memory.elsewhere.setdefault(identity, {})
            own = _subtract_all(before, parts.values())
            parts[former] = add(parts.get(former, ZERO), own)

    def _parts(self, process: TaskRecord) -> Iterable[tuple[Group, Counters]]:
        """Yield what a process has used, by the group that it was in then."""
        parts = self.memory.elsewhere.get(process.identity, {})
        yield from parts.items()
        yield (
            self.memory.current[process.identity],
            _subtract_all(process.counters, parts.values()),
        )

    def _account_remotes(self, process: TaskRecord, group: Group) -> None:
        """Add to the classes what is new of each; nothing if remotes are not counted."""
        if not process.remotes:
            return
        memory, identity = self.memory, process.identity
        before = memory.seen_remotes.get(identity, NO_REMOTES)
        memory.seen_remotes[identity] = process.remotes
        classes = memory.remotes.setdefault(group, {})
        delta = tuple(map(operator.sub, process.remotes, before))
        for number, name in enumerate(self._class_names):
            part = delta[number * WIDTH : (number + 1) * WIDTH]
            if name:
                classes[name] = add(classes.get(name, NO_REMOTES[:WIDTH]), part)

    def _account_lives(self, lives: Mapping[LifeKey, tuple[int, ...]]) -> None:
        """Add what is new of each kind of process to its group."""
        for key, counts in lives.items():
            before = self._seen_lives.get(key, NO_EVENTS)
            if counts != before:
                group = self._admit(self.namer.group_of(key)) if any(key) else OTHER
                delta = tuple(map(operator.sub, counts, before))
                self.memory.lives[group] = add(self.memory.lives.get(group, NO_EVENTS), delta)
                self._seen_lives[key] = counts

    def _account_ended(self, process: TaskRecord, named: Named, delta: Usage, now_ns: int) -> None:
        memory, identity = self.memory, process.identity
        final = _is_final(process, now_ns)
        if identity in memory.exit_group:
            joined = [(memory.current[identity], delta[: TCP.start])] if any(delta) else []
        else:
            group = memory.exit_group[identity] = self._admit(named.group)
            key = group, process.outcome
            memory.exits[key] = memory.exits.get(key, 0) + 1
            memory.exit_list.add(process, group, named.container, named.cgroup)
            joined = list(self._parts(process))
        for part_group, counters in joined:
            memory.exited[part_group] = add(memory.exited.get(part_group, ZERO), counters)
        group = memory.exit_group[identity]
        if identity in memory.final:
            return
        if final or any(delta):
            memory.exit_list.update(process, final=final)
        if final:
            entry = memory.exit_list.entries.get(identity)
            gone = ExitedProcess(-1, process, group, named.container, named.cgroup, final)
            self._final.append(entry or gone)
            memory.final.add(identity)
            lifetime = process.end_ns - process.start_ns
            memory.histograms.observe("lifetime_ns", group, lifetime)
            memory.histograms.observe("bytes", group, sum(process.counters[1::2]))

    def _admit(self, group: Group) -> Group:
        """Return the group, or the one of the rest if there are too many; it is there then."""
        group = self._admitted(group)
        self.memory.groups.setdefault(group, UNUSED)
        return group

    def _admitted(self, group: Group) -> Group:
        """Return in which group it is, or would be."""
        groups = self.memory.groups
        has_room = len(groups) - (OTHER in groups) < self.max_groups
        return group if group in groups or has_room else OTHER

    def _drop_gone(self, there: Container[int]) -> None:
        """Forget processes that the kernel has forgotten."""
        memory = self.memory
        gone = [identity for identity in memory.seen if identity not in there]
        for identity in gone:
            del memory.seen[identity]
            memory.seen_remotes.pop(identity, None)
            memory.current.pop(identity, None)
            memory.elsewhere.pop(identity, None)
        for identity in [identity for identity in memory.exit_group if identity not in there]:
            del memory.exit_group[identity]
            memory.final.discard(identity)
        self.namer.keep(there)


def _usage(task: TaskRecord) -> Usage:
    return (*task.counters, *task.tcp, *task.round_trips.counts, task.round_trips.sum_us)


def _subtract_all(counters: Counters, parts: Iterable[Counters]) -> Counters:
    for part in parts:
        counters = subtract(counters, part)
    return counters


def _sum(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Add up rows of one length; there is at least one."""
    return tuple(map(sum, zip(*rows, strict=True)))


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
