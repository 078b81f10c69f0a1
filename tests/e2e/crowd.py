# SPDX-License-Identifier: Apache-2.0
"""Processes that send one datagram each and end: `python -I -S crowd.py NAME PROCESSES SIZE`.

A program of its own, for a fork copies the tables of all the memory that there is. It says how many
bytes have come.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

SO_RCVBUFFORCE = 33
"""A receive buffer beyond net.core.rmem_max (socket(7))."""


def send_one(name: str, address: tuple[str, int], size: int) -> int:
    """Start a process that sends one datagram and ends; return its pid."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        Path("/proc/self/comm").write_text(name, encoding="utf-8")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(bytes(size), address)
        status = 0
    finally:
        os._exit(status)


def main(name: str, processes: int, size: int) -> None:
    """Start them all, and receive what they send."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.settimeout(10)
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        sink.bind(("127.0.0.1", 0))
        children = [send_one(name, sink.getsockname(), size) for _ in range(processes)]
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
        sys.stdout.write(str(sum(len(sink.recv(1 << 16)) for _ in children)))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
