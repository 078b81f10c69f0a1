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

from tests.network import LIBC
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
NUMBER: Final = struct.Struct("@I")
"""Written in one step, as the kernel looks on; with "=" it would be byte by byte."""
PARAMETERS: Final = struct.Struct("=10I 8IQ 8IQ")


class Ring:
    """Puts requests in and takes completions out."""

    def __init__(self, flags: int = 0) -> None:
        """Raise OSError if the kernel has no io_uring or forbids it."""
        # struct io_uring_params: ten numbers, then the offsets of both rings
        parameters = bytearray(PARAMETERS.size)
        struct.pack_into("=I", parameters, 8, flags)
        buffer = (ctypes.c_char * len(parameters)).from_buffer(parameters)
        self._fd = _checked(LIBC.syscall(SETUP, ENTRIES, buffer))
        fields = PARAMETERS.unpack(parameters)
        sq_entries, cq_entries, *_ = fields
        self._polled = bool(flags & SQPOLL)
        _, self._sq_tail, self._sq_mask, _, self._sq_flags, _, self._sq_array, *_ = fields[10:]
        self._cq_head, self._cq_tail, self._cq_mask, _, _, self._cqes, *_ = fields[19:]
        self._sq = mmap.mmap(self._fd, self._sq_array + sq_entries * 4, offset=OFF_SQ_RING)
        self._cq = mmap.mmap(self._fd, self._cqes + cq_entries * 16, offset=OFF_CQ_RING)
        self._sqes = mmap.mmap(self._fd, sq_entries * SQE_BYTES, offset=OFF_SQES)

    def register(self, fd: int) -> None:
        """Keep a file, as number 0, whatever becomes of the descriptor."""
        files = (ctypes.c_int * 1)(fd)
        _checked(LIBC.syscall(REGISTER, self._fd, REGISTER_FILES, files, 1))

    def submit(
        self, operation: int, fd: int, address: int, length: int, *, sqe_flags: int = 0
    ) -> None:
        """Put in one request."""
        tail = self._read(self._sq, self._sq_tail)
        index = tail & self._read(self._sq, self._sq_mask)
        entry = struct.pack("=BBHiQQIIQ24x", operation, sqe_flags, 0, fd, 0, address, length, 0, 0)
        self._sqes[index * SQE_BYTES : index * SQE_BYTES + SQE_BYTES] = entry
        NUMBER.pack_into(self._sq, self._sq_array + 4 * index, index)
        NUMBER.pack_into(self._sq, self._sq_tail, tail + 1)
        if not self._polled:
            _checked(LIBC.syscall(ENTER, self._fd, 1, 0, 0, None, 0))
        elif self._read(self._sq, self._sq_flags) & NEED_WAKEUP:
            _checked(LIBC.syscall(ENTER, self._fd, 1, 0, SQ_WAKEUP, None, 0))

    def complete(self) -> int:
        """Wait for a completion and return what the call would have. Raises OSError."""
        head = self._read(self._cq, self._cq_head)
        while self._read(self._cq, self._cq_tail) == head:
            _checked(LIBC.syscall(ENTER, self._fd, 0, 1, GETEVENTS, None, 0))
        at = self._cqes + 16 * (head & self._read(self._cq, self._cq_mask))
        _, result = struct.unpack_from("=Qi", self._cq, at)
        NUMBER.pack_into(self._cq, self._cq_head, head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)

    @staticmethod
    def _read(ring: mmap.mmap, offset: int) -> int:
        return int(NUMBER.unpack_from(ring, offset)[0])

    def close(self) -> None:
        """Give everything back."""
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


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


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
