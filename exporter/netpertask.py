# SPDX-License-Identifier: Apache-2.0
"""`struct netpertask`: a process and its counters, as netatop and its successors tell them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from exporter.model import pick

if TYPE_CHECKING:
    from exporter.model import TaskRecord

RECORD: Final = struct.Struct("=i4xQ16s8Q")
"""On a 64-bit host: id, start in seconds since the epoch, command, and eight counters."""
NAME_BYTES: Final = 15


def record(task: TaskRecord, booted: float) -> bytes:
    """Return the struct; booted: the time of the boot, in seconds since the epoch."""
    counters = (
        pick(task.counters, protocol, direction, unit)
        for protocol in ("tcp", "udp")
        for direction in ("transmit", "receive")
        for unit in ("packets", "bytes")
    )
    name = task.name.encode(errors="replace")[:NAME_BYTES]
    return RECORD.pack(task.pid, int(booted + task.start_ns / 1e9), name, *counters)
