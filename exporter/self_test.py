# SPDX-License-Identifier: Apache-2.0
"""Attached is not the same as working: what we send to ourselves must be counted, exactly."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter import model, procfs
from exporter.errors import NetatopError

if TYPE_CHECKING:
    from exporter.kernel.tracer import Tracer
    from exporter.model import Counters

DATAGRAMS, SIZE = 23, 41
HEADERS: Final = 28
"""Bytes of the IPv4 and UDP headers."""
LOCAL: Final = "127.0.0.1"
SECONDS: Final = 1.0
"""How long a datagram may take."""


class Verdict(NamedTuple):
    """What has come of it."""

    passed: bool | None
    """None: it could not be made."""
    said: str


def run(tracer: Tracer) -> Verdict:
    """Send datagrams over loopback, read the counters of this process before and after, compare."""
    try:
        before, lost = _own(tracer)
        try:
            received = _exchange()
        except OSError as error:
            return Verdict(None, f"datagrams over loopback: {error.strerror or error}")
        after, lost_since = _own(tracer)
    except NetatopError as error:
        return Verdict(False, str(error))
    if lost_since != lost:
        return Verdict(None, "the table of tasks is full (--tasks.max)")
    counted = model.subtract(after, before)
    expected = {"transmit": DATAGRAMS, "receive": received}
    for direction, packets in expected.items():
        found = [model.pick(counted, "udp", direction, unit) for unit in model.UNITS]
        if found != [packets, packets * (HEADERS + SIZE)]:
            said = (
                f"{direction}: of {packets} datagrams of {HEADERS + SIZE} bytes over loopback "
                f"{found[0]} packets, {found[1]} bytes were counted for this process"
            )
            return Verdict(False, said)
    return Verdict(True, f"{DATAGRAMS} datagrams over loopback were counted as ours")


def _own(tracer: Tracer) -> tuple[Counters, int]:
    """Return what this process has used, and how many tasks found no room. Raises KernelError."""
    tracer.settle()
    snapshot = tracer.read()
    own = [
        task
        for task in snapshot.tasks
        if task.is_process and procfs.is_own(task.pid, task.start_ns, task.name)
    ]
    newest = max(own, key=lambda task: task.start_ns, default=None)
    lost = sum(count for (thing, _), count in snapshot.lost.items() if thing == "task")
    return newest.counters if newest else model.ZERO, lost


def _exchange() -> int:
    """Send to ourselves; return how many have arrived: a firewall may want none. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(SECONDS)
        own.bind((LOCAL, 0))
        for _ in range(DATAGRAMS):
            own.sendto(bytes(SIZE), own.getsockname())
        for received in range(DATAGRAMS):
            try:
                own.recv(SIZE)
            except TimeoutError:
                return received
    return DATAGRAMS
