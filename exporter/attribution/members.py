# SPDX-License-Identifier: Apache-2.0
"""Who may have series of his own: processes, threads and sockets, each with its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model import (
    NO_TCP,
    PROTOCOLS,
    WIDTH,
    ZERO,
    Member,
    SocketTraffic,
    ThreadTraffic,
    add,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.attribution.namer import Named
    from exporter.model import Counters, ProcessTraffic, SocketRecord, TaskRecord, Traffic


def of_kinds(
    processes: Iterable[ProcessTraffic],
    threads: Iterable[ThreadTraffic],
    sockets: Iterable[SocketTraffic],
) -> Mapping[str, tuple[Member, ...]]:
    """Return the members of each kind."""
    return {
        "process": tuple(
            Member(
                (str(task.pid), task.name, group.name),
                (*task.counters, *task.tcp),
                is_alive=not task.end_ns,
            )
            for task, group, *_ in processes
        ),
        "thread": tuple(
            Member(
                (str(task.pid), str(task.tid), task.name),
                (*task.counters, *NO_TCP),
                is_alive=not task.end_ns,
            )
            for task, _ in threads
        ),
        "socket": tuple(_sockets(sockets)),
    }


def threads_shown(
    threads: Iterable[TaskRecord],
    processes: Mapping[int, ProcessTraffic],
    named: Mapping[int, Named],
) -> Iterable[ThreadTraffic]:
    """Yield the threads of those processes whose threads are shown."""
    for task in newest(threads, lambda task: task.tid):
        if task.process in named and named[task.process].threads:
            yield ThreadTraffic(task, processes[task.process])


def sockets_shown(
    sockets: Iterable[SocketRecord],
    tasks: Iterable[TaskRecord],
    processes: Mapping[int, ProcessTraffic],
    named: Mapping[int, Named],
    *,
    strangers: bool,
) -> Iterable[SocketTraffic]:
    """Yield the sockets of those processes whose sockets are; strangers: also those of nobody."""
    users = {task.identity: task for task in tasks}
    for socket in sockets:
        user = users.get(socket.owner)
        known = named.get(user.process) if user else None
        if known.sockets if known else strangers:
            yield SocketTraffic(socket, user, processes[user.process] if user and known else None)


def newest(tasks: Iterable[TaskRecord], key: Callable[[TaskRecord], int]) -> Iterable[TaskRecord]:
    """Keep one task per id: an id is used again while its last record is still in the exit list."""
    found: dict[int, TaskRecord] = {}
    for task in tasks:
        known = found.get(key(task))
        if known is None or task.start_ns > known.start_ns:
            found[key(task)] = task
    return found.values()


def _sockets(sockets: Iterable[SocketTraffic]) -> Iterable[Member]:
    """Yield one for each tuple of labels: two sockets may be alike, in two network namespaces."""
    found: dict[tuple[str, ...], Member] = {}
    for socket, user, process in sockets:
        labels = (
            str(user.pid if user else 0),
            user.name if user else "",
            socket.protocol,
            socket.local_address,
            str(socket.local_port),
            socket.remote_address,
            str(socket.remote_port),
        )
        traffic: Traffic = (*counters(socket), *socket.tcp)
        if labels in found:
            traffic = add(found[labels].traffic, traffic)
        found[labels] = Member(labels, traffic, is_counted=process is not None)
    return found.values()


def counters(socket: SocketRecord) -> Counters:
    """Return what a socket has carried, as what tasks have used is told."""
    row = list(ZERO)
    begin = PROTOCOLS.index(socket.protocol) * WIDTH
    row[begin : begin + WIDTH] = (
        socket.receive_packets,
        socket.receive_bytes,
        socket.transmit_packets,
        socket.transmit_bytes,
    )
    return tuple(row)
