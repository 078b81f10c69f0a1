# SPDX-License-Identifier: Apache-2.0
"""Who may have series of his own: processes, threads and sockets, each with its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model import NO_TCP, NO_TRAFFIC, PROTOCOLS, WIDTH, Member, add

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.attribution.namer import Named
    from exporter.model import SocketRecord, TaskRecord, Traffic


def of_kinds(
    processes: Iterable[TaskRecord],
    threads: Iterable[TaskRecord],
    sockets: Iterable[SocketRecord],
    named: Mapping[int, Named],
    *,
    strangers: bool,
) -> Mapping[str, tuple[Member, ...]]:
    """Return the members of each kind; strangers: also sockets that nobody is known to use."""
    tasks = {task.identity: task for task in (*processes, *threads)}
    return {
        "process": tuple(
            Member(
                (str(task.pid), task.name, named[task.identity].group.name),
                (*task.counters, *task.tcp),
                is_alive=not task.end_ns,
            )
            for task in newest(processes, lambda task: task.pid)
        ),
        "thread": tuple(
            Member(
                (str(task.pid), str(task.tid), task.name),
                (*task.counters, *NO_TCP),
                is_alive=not task.end_ns,
            )
            for task in newest(threads, lambda task: task.tid)
            if task.process in named and named[task.process].threads
        ),
        "socket": tuple(_sockets(sockets, tasks, named, strangers=strangers)),
    }


def newest(tasks: Iterable[TaskRecord], key: Callable[[TaskRecord], int]) -> Iterable[TaskRecord]:
    """Keep one task per id: an id is used again while its last record is still in the exit list."""
    found: dict[int, TaskRecord] = {}
    for task in tasks:
        known = found.get(key(task))
        if known is None or task.start_ns > known.start_ns:
            found[key(task)] = task
    return found.values()


def _sockets(
    sockets: Iterable[SocketRecord],
    tasks: Mapping[int, TaskRecord],
    named: Mapping[int, Named],
    *,
    strangers: bool,
) -> Iterable[Member]:
    """Yield one for each tuple of labels: two sockets may be alike, in two network namespaces."""
    found: dict[tuple[str, ...], Member] = {}
    for socket in sockets:
        user = tasks.get(socket.owner)
        known = named.get(user.process) if user else None
        if not (known.sockets if known else strangers):
            continue
        labels = (
            str(user.pid if user else 0),
            user.name if user else "",
            socket.protocol,
            socket.local_address,
            str(socket.local_port),
            socket.remote_address,
            str(socket.remote_port),
        )
        traffic = _traffic(socket)
        if labels in found:
            traffic = add(found[labels].traffic, traffic)
        found[labels] = Member(labels, traffic, is_counted=known is not None)
    return found.values()


def _traffic(socket: SocketRecord) -> Traffic:
    row = list(NO_TRAFFIC)
    begin = PROTOCOLS.index(socket.protocol) * WIDTH
    row[begin : begin + WIDTH] = (
        socket.receive_packets,
        socket.receive_bytes,
        socket.transmit_packets,
        socket.transmit_bytes,
    )
    row[-len(socket.tcp) :] = socket.tcp
    return tuple(row)
