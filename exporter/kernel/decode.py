# SPDX-License-Identifier: Apache-2.0
"""Bytes of the kernel -> types of the model. Here tgid becomes pid, and pid becomes tid."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Final

from exporter import model
from exporter.kernel import layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exporter.kernel.layouts import Buffer

AF_INET = 2
TRIES: Final = 5000
"""To read records again while packets are being added to them; of all together."""
PAUSE: Final = 20e-6


def command_name(raw: bytes) -> str:
    """Decode a command name (char[16] of the kernel); what can't be printed is replaced."""
    return model.printable(raw.partition(b"\0")[0].decode(errors="replace"))


def tasks(
    keys: Buffer, values: Buffer, again: Callable[[int], Buffer] | None = None
) -> tuple[model.TaskRecord, ...]:
    """Decode entries of the task table; one that the kernel is still filling is left out.

    `again` reads the entry of an identity once more; to be given where remotes are counted.
    """
    identities = memoryview(keys).cast("B").cast("Q")
    found = zip(identities, layouts.Task.unpack_all(values), strict=True)
    return tuple(
        model.TaskRecord(
            identity=identity,
            process=task.process,
            pid=task.tgid,
            tid=task.pid,
            name=command_name(task.command),
            uid=task.uid,
            cgroup_id=task.cgroup_id,
            start_ns=task.start_time_ns,
            end_ns=task.end_time_ns,
            wait_status=task.exit_code,
            counters=task.counters,
            threads=task.threads,
            sockets=task.sockets,
            tcp=model.TcpTraffic(*task.tcp),
            round_trips=model.RoundTrips(task.round_trips, task.round_trip_sum_us),
            remotes=_remotes(identity, task) if again else (),
        )
        for identity, task in (_whole(found, again) if again else found)
        if task.process
    )


def _remotes(identity: int, task: layouts.Task) -> model.Remotes:
    return layouts.TASK_REMOTES.unpack(task.remotes) if task.process == identity else ()


def _is_torn(identity: int, task: layouts.Task) -> bool:
    """Tell whether a packet is in the counters and not yet in the remotes, or the other way."""
    return (
        bool(task.remotes_whole)
        and task.process == identity
        and model.by_direction(_remotes(identity, task)) != model.by_direction(task.counters)
    )


def _whole(
    found: Iterable[tuple[int, layouts.Task]], again: Callable[[int], Buffer]
) -> Iterator[tuple[int, layouts.Task]]:
    """Read again what was read in the middle of an addition."""
    tries = iter(range(TRIES))
    for identity, first in found:
        task = first
        while _is_torn(identity, task) and next(tries, None) is not None:
            time.sleep(PAUSE)
            (task,) = layouts.Task.unpack_all(again(identity))
        yield identity, task


def sum_counters(values: Buffer) -> model.Counters:
    """Add up one entry of a per-CPU table of counters."""
    total = model.ZERO
    for counters in layouts.Counters.unpack_all(values):
        total = model.add(total, counters.of)
    return total


def lives(output: bytes) -> list[model.LifeEvent]:
    """Decode events, one after the other."""
    return [
        model.LifeEvent(
            event=layouts.LIFE_EVENTS[life.event],
            time_ns=life.time_ns,
            start_ns=life.start_time_ns,
            pid=life.tgid,
            tid=life.pid,
            parent=life.parent,
            name=command_name(life.command),
            uid=life.uid,
            cgroup_id=life.cgroup_id,
            wait_status=life.exit_code,
        )
        for life in layouts.Life.unpack_all(output)
    ]


def life_counts(keys: Buffer, values: Buffer) -> dict[model.LifeKey, tuple[int, ...]]:
    """Decode the table of counted events."""
    return {
        model.LifeKey(command_name(key.command), key.uid, key.cgroup_id): counts.of
        for key, counts in zip(
            layouts.LifeKey.unpack_all(keys), layouts.LifeCounts.unpack_all(values), strict=True
        )
    }


def loss(index: int) -> tuple[str, str]:
    """Return object and reason of one kind of loss: task_full is ("task", "full")."""
    thing, _, reason = layouts.LOSSES[index].partition("_")
    return thing, reason


def address(raw: bytes, family: int) -> str:
    """Return an address in its usual form; IPv4 mapped into IPv6 as IPv4."""
    if family == AF_INET:
        return str(ipaddress.IPv4Address(raw[:4]))
    six = ipaddress.IPv6Address(raw)
    return str(six.ipv4_mapped or six)


def walk(output: bytes) -> tuple[model.SocketWalk, int]:
    """Decode what the socket iterator wrote: records, if any, then the summary.

    Returns the number of the walk, too.
    """
    end = len(output) - layouts.SOCKET_SUMMARY.size
    summary = next(layouts.SocketSummary.unpack_all(output[end:]))
    found = model.SocketWalk(
        counts=dict(zip(layouts.PROTOCOLS, summary.sockets, strict=True)),
        sockets=tuple(
            model.SocketRecord(
                cookie=record.cookie,
                owner=record.owner[1],
                protocol=layouts.PROTOCOLS[record.protocol],
                local_address=address(record.local_address, record.family),
                local_port=record.local_port,
                remote_address=address(record.remote_address, record.family),
                remote_port=record.remote_port,
                network_namespace=record.network_namespace,
                receive_packets=record.traffic[0],
                receive_bytes=record.traffic[1],
                transmit_packets=record.traffic[2],
                transmit_bytes=record.traffic[3],
                tcp=model.TcpTraffic(*record.tcp),
            )
            for record in layouts.SocketRecord.unpack_all(output[:end])
        ),
    )
    return found, summary.session
