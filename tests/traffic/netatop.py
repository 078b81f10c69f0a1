# SPDX-License-Identifier: Apache-2.0
"""A reader as it was written for the kernel module netatop: six options of getsockopt(2)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.network import LIBC
from tests.traffic import uring

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE, FORCE_GC, EMPTY_EXIT, GETCNT_EXIT, GETCNT_TGID, GETCNT_PID = range(15661, 15667)
NETPERTASK: Final = struct.Struct("=i4xQ16s8Q")
"""struct netpertask: id, begin, command; TCP packets and bytes sent, received; UDP."""
NAMES: Final = ("tcp transmit", "tcp receive", "udp transmit", "udp receive")
FILL: Final = 0xA5
"""What is in the buffer beyond the id, so that one sees how much was written."""
MOST: Final = 1 << 17
"""Of a buffer, whatever is said of its length."""
CLONE_NEWUSER: Final = 0x10000000
CAP_NET_ADMIN: Final = 12
CAPABILITY_3: Final = 0x20080522
OP_URING_CMD: Final = 46
COMMAND_GETSOCKOPT: Final = 2


class Answer(NamedTuple):
    """What was answered."""

    id: int
    begin: int
    """Seconds since the epoch."""
    command: str
    counts: dict[str, tuple[int, int]]
    """Packets and bytes; without zeros, as tests.kernel.lab.readable has them."""


def decode(raw: bytes) -> Answer:
    """Decode a struct netpertask."""
    task, begin, command, *numbers = NETPERTASK.unpack(raw)
    pairs = zip(NAMES, zip(numbers[::2], numbers[1::2], strict=True), strict=True)
    counts = {name: pair for name, pair in pairs if any(pair)}
    return Answer(task, begin, command.partition(b"\0")[0].decode(errors="replace"), counts)


class Reader:
    """An IP socket, and what is asked through it. Errors are raised as OSError."""

    def __init__(self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM) -> None:
        protocol = socket.IPPROTO_RAW if kind == socket.SOCK_RAW else 0
        self.socket = socket.socket(family, kind, protocol)

    def raw(self, option: int, task: int = 0, room: int = NETPERTASK.size) -> tuple[int, bytes]:
        """Return the length that the kernel says, and the whole buffer."""
        buffer = ctypes.create_string_buffer(bytes([FILL]) * max(128, min(room, MOST)))
        struct.pack_into("=i", buffer, 0, task)
        length = ctypes.c_uint32(room)
        code = LIBC.getsockopt(
            self.socket.fileno(), socket.SOL_IP, option, buffer, ctypes.byref(length)
        )
        if code:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return length.value, buffer.raw

    def tell(self, option: int) -> None:
        """Ask for what has no answer but success."""
        length, buffer = self.raw(option, room=0)
        assert length == 0
        assert buffer[4:-1] == bytes([FILL]) * (len(buffer) - 5)

    def ask(self, option: int, task: int = 0) -> Answer:
        """Ask for a task, or for the next of the exit list."""
        length, buffer = self.raw(option, task)
        assert length == NETPERTASK.size
        assert buffer[length:-1] == bytes([FILL]) * (len(buffer) - length - 1)
        return decode(buffer[:length])

    def ended(self, pids: set[int]) -> dict[int, Answer]:
        """Read the exit list until nothing is in it; return those of these processes."""
        found = {}
        with contextlib.suppress(OSError):
            while True:
                answer = self.ask(GETCNT_EXIT)
                if answer.id in pids:
                    assert answer.id not in found
                    found[answer.id] = answer
        return found


@contextlib.contextmanager
def reader(family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM) -> Iterator[Reader]:
    """Open one until the end of the block."""
    opened = Reader(family, kind)
    with opened.socket:
        yield opened


def drop_capability() -> None:
    """Take CAP_NET_ADMIN from the effective set of this thread (capset(2)); the others stay."""
    header = struct.pack("=Ii", CAPABILITY_3, 0)
    data = ctypes.create_string_buffer(24)
    assert LIBC.capget(header, data) == 0
    words = list(struct.unpack("=6I", data.raw))
    words[0] &= ~(1 << CAP_NET_ADMIN)
    assert LIBC.capset(header, struct.pack("=6I", *words)) == 0


def ask_by_ring(option: int, task: int, level: int = socket.SOL_IP) -> int:
    """Ask by io_uring (Linux 6.7) and return how long the answer is. Raises OSError."""
    buffer = ctypes.create_string_buffer(NETPERTASK.size)
    struct.pack_into("=i", buffer, 0, task)
    with reader() as own, uring.ring() as ring:
        fields = struct.pack(
            "=BBHiIIIIIIQHHIQQ",
            *(OP_URING_CMD, 0, 0, own.socket.fileno(), COMMAND_GETSOCKOPT, 0),
            *(level, option, 0, 0, 0, 0, 0, len(buffer)),
            *(ctypes.addressof(buffer), 0),
        )
        ring.submit_raw(fields)
        return ring.complete()
