# SPDX-License-Identifier: Apache-2.0
"""Sockets by io_uring (io_uring_setup(2), io_uring_enter(2); include/uapi/linux/io_uring.h)."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from tests.network import LIBC, checked
from tests.traffic.tcp import PART, family_of, finish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

SETUP, ENTER, REGISTER = 425, 426, 427
OFF_SQ_RING, OFF_CQ_RING, OFF_SQES = 0, 0x8000000, 0x10000000
OP_SEND, OP_RECV = 26, 27
SQPOLL: Final = 1 << 1
"""A thread of the kernel's looks for work: no system call is made."""
GETEVENTS, SQ_WAKEUP = 1, 2
REGISTER_FILES: Final = 2
FIXED_FILE: Final = 1
"""The descriptor is an index into the registered files."""
NEED_WAKEUP: Final = 1
ENTRIES: Final = 64
SQE_BYTES: Final = 64
PARAMETERS: Final = struct.Struct("=10I 8IQ 8IQ")


class Ring:
    """Puts requests in and takes completions out."""

    def __init__(self, flags: int = 0) -> None:
        """Raise OSError if the kernel has no io_uring or forbids it."""
        # struct io_uring_params: ten numbers, then the offsets of both rings
        parameters = bytearray(PARAMETERS.size)
        struct.pack_into("=I", parameters, 8, flags)
        buffer = (ctypes.c_char * len(parameters)).from_buffer(parameters)
        self._fd = checked(LIBC.syscall(SETUP, ENTRIES, buffer))
        fields = PARAMETERS.unpack(parameters)
        sq_entries, cq_entries, *_ = fields
        self._polled = bool(flags & SQPOLL)
        sq, cq = fields[10:], fields[19:]
        self._sq = mmap.mmap(self._fd, sq[6] + sq_entries * 4, offset=OFF_SQ_RING)
        self._cq = mmap.mmap(self._fd, cq[5] + cq_entries * 16, offset=OFF_CQ_RING)
        self._sqes = mmap.mmap(self._fd, sq_entries * SQE_BYTES, offset=OFF_SQES)
        self._array, self._cqes = sq[6], cq[5]
        self._mask, self._cq_mask = sq_entries - 1, cq_entries - 1
        # Written in one step, as the kernel looks on: struct.pack_into would write a 0 first.
        self._sq_tail = ctypes.c_uint32.from_buffer(self._sq, sq[1])
        self._sq_flags = ctypes.c_uint32.from_buffer(self._sq, sq[4])
        self._cq_head = ctypes.c_uint32.from_buffer(self._cq, cq[0])
        self._cq_tail = ctypes.c_uint32.from_buffer(self._cq, cq[1])

    def register(self, fd: int) -> None:
        """Keep a file, as number 0, whatever becomes of the descriptor."""
        files = (ctypes.c_int * 1)(fd)
        checked(LIBC.syscall(REGISTER, self._fd, REGISTER_FILES, files, 1))

    def submit(
        self, operation: int, fd: int, address: int, length: int, *, sqe_flags: int = 0
    ) -> None:
        """Put in one request."""
        self.submit_raw(
            struct.pack("=BBHiQQIIQ24x", operation, sqe_flags, 0, fd, 0, address, length, 0, 0)
        )

    def submit_raw(self, entry: bytes) -> None:
        """Put in one request, a struct io_uring_sqe."""
        index = self._sq_tail.value & self._mask
        self._sqes[index * SQE_BYTES : index * SQE_BYTES + SQE_BYTES] = entry
        struct.pack_into("=I", self._sq, self._array + 4 * index, index)
        self._sq_tail.value += 1
        if not self._polled:
            checked(LIBC.syscall(ENTER, self._fd, 1, 0, 0, None, 0))
        elif self._sq_flags.value & NEED_WAKEUP:
            checked(LIBC.syscall(ENTER, self._fd, 1, 0, SQ_WAKEUP, None, 0))

    def complete(self) -> int:
        """Wait for a completion and return what the call would have. Raises OSError."""
        head = self._cq_head.value
        while self._cq_tail.value == head:
            checked(LIBC.syscall(ENTER, self._fd, 0, 1, GETEVENTS, None, 0))
        at = self._cqes + 16 * (head & self._cq_mask)
        _, result = struct.unpack_from("=Qi", self._cq, at)
        self._cq_head.value += 1
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)

    def close(self) -> None:
        """Give everything back."""
        del self._sq_tail, self._sq_flags, self._cq_head, self._cq_tail
        for area in (self._sq, self._cq, self._sqes):
            area.close()
        os.close(self._fd)


@contextlib.contextmanager
def ring(flags: int = 0) -> Iterator[Ring]:
    """Open one until the end of the block."""
    opened = Ring(flags)
    try:
        yield opened
    finally:
        opened.close()


def pour(connection: socket.socket, size: int, flags: int = 0) -> None:
    """Send so much, one request at a time, and end as tcp.pour."""
    connection.setblocking(True)
    part = ctypes.create_string_buffer(PART)
    with ring(flags) as opened:
        while size:
            opened.submit(OP_SEND, connection.fileno(), ctypes.addressof(part), min(size, PART))
            size -= opened.complete()
    finish(connection)


def drain(connection: socket.socket, expected: int, flags: int = 0) -> None:
    """Receive to the end."""
    connection.setblocking(True)
    part = ctypes.create_string_buffer(PART)
    received = 0
    with ring(flags) as opened:
        while True:
            opened.submit(OP_RECV, connection.fileno(), ctypes.addressof(part), PART)
            more = opened.complete()
            if not more:
                break
            received += more
    assert received == expected


def send_registered(talk: Connection, address: str, port: int, datagrams: int, size: int) -> None:
    """Give a socket to a ring and close the descriptor; send through it when told."""
    part = ctypes.create_string_buffer(size)
    with ring() as opened:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as sender:
            sender.connect((address, port))
            opened.register(sender.fileno())
        talk.send("open")
        talk.recv()
        for _ in range(datagrams):
            opened.submit(OP_SEND, 0, ctypes.addressof(part), size, sqe_flags=FIXED_FILE)
            assert opened.complete() == size
