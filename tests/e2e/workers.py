# SPDX-License-Identifier: Apache-2.0
"""Processes with names of their own that use the network by a known amount."""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.network import LIBC, checked, run
from tests.workload import PATIENCE, Process

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PR_SET_NAME: Final = 15
HEADERS: Final = 28
"""Bytes of the IPv4 and UDP headers."""
LOCAL: Final = "127.0.0.1"
CROWD: Final = str(Path(__file__).with_name("crowd.py"))
NUMBERS = itertools.count(1)


def new_name() -> str:
    """Return a command name that no other process has."""
    return f"w{os.getpid():x}-{next(NUMBERS)}"


def call_myself(name: bytes | str) -> None:
    """Set the command name of the calling thread; the kernel takes 15 bytes of it."""
    raw = name.encode() if isinstance(name, str) else name
    checked(LIBC.prctl(PR_SET_NAME, ctypes.c_char_p(raw), 0, 0, 0))


def udp_socket() -> socket.socket:
    """Return a socket that is bound to some port of the loopback address."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.settimeout(PATIENCE)
    bound.bind((LOCAL, 0))
    return bound


def send_to_itself(own: socket.socket, datagrams: int, size: int) -> None:
    """Send datagrams to the socket itself and receive each: exact in both directions."""
    for _ in range(datagrams):
        own.sendto(bytes(size), own.getsockname())
        assert len(own.recv(1 << 16)) == size


def traffic(datagrams: int, size: int) -> dict[str, float]:
    """Return what `send_to_itself` amounts to, as Exposition.traffic has it."""
    count, length = float(datagrams), float(datagrams * (HEADERS + size))
    return {
        "receive_packets": count,
        "receive_bytes": length,
        "transmit_packets": count,
        "transmit_bytes": length,
    }


def talker(talk: Connection, name: bytes | str, size: int) -> None:
    """Send to itself as many datagrams as it is told, each time; end when told 0."""
    call_myself(name)
    with udp_socket() as own:
        talk.send(own.getsockname()[1])
        while datagrams := talk.recv():
            send_to_itself(own, datagrams, size)
            talk.send("done")


def live(name: str, datagrams: int, size: int, cgroup: Path | None = None) -> int:
    """Run a process that sends to itself and ends; return its pid."""
    with Process(talker, name, size, cgroup=cgroup) as started:
        started.hear()
        started.tell(datagrams)
        started.hear()
        started.tell(0)
        started.wait()
    return started.pid


def pacer(talk: Connection, name: str, prelude: int, datagrams: int, seconds: float) -> None:
    """Send a few datagrams, and when told, so many spread evenly over some seconds."""
    call_myself(name)
    with udp_socket() as own:
        send_to_itself(own, prelude, 0)
        talk.send("sent")
        talk.recv()
        start = time.monotonic()
        for number in range(datagrams):
            time.sleep(max(0, start + number * seconds / datagrams - time.monotonic()))
            send_to_itself(own, 1, 0)
        talk.send("sent")
        talk.recv()


def crowd(talk: Connection, name: str, processes: int, size: int) -> None:
    """Start processes; each sends one datagram here and exits at once. Says how many bytes came."""
    words = (name, str(processes), str(size))
    talk.send(int(run(sys.executable, "-I", "-S", CROWD, *words)))


def team(talk: Connection, name: str, shares: dict[str, int], size: int) -> None:
    """Run one thread per share, all at once; each sends from a socket of its own.

    Says the ids of the threads by name, and ends them when told.
    """
    call_myself(name)
    tids: dict[str, int] = {}
    over = threading.Event()
    done = threading.Barrier(len(shares) + 1)

    def work(thread: str, datagrams: int) -> None:
        call_myself(thread)
        tids[thread] = threading.get_native_id()
        with udp_socket() as own:
            send_to_itself(own, datagrams, size)
            done.wait(PATIENCE)
            over.wait(PATIENCE)

    threads = [threading.Thread(target=work, args=share) for share in shares.items()]
    for thread in threads:
        thread.start()
    done.wait(PATIENCE)
    talk.send(tids)
    talk.recv()
    over.set()
    for thread in threads:
        thread.join()
    talk.send("over")
    talk.recv()


def stream(talk: Connection, name: str) -> None:
    """Begin when told, send to itself until told again, and say how many datagrams it was."""
    call_myself(name)
    sent = 0
    with udp_socket() as own:
        talk.recv()
        while not talk.poll(0.0005):
            send_to_itself(own, 7, 0)
            sent += 7
        talk.recv()
        talk.send(sent)
        talk.recv()


def leave(talk: Connection, name: str, how: int) -> None:
    """Send one datagram and end: by exit status `how`, or by the signal `-how`."""
    call_myself(name)
    with udp_socket() as own:
        send_to_itself(own, 1, 0)
    talk.send("sent")
    if how < 0:
        os.kill(os.getpid(), -how)
    raise SystemExit(how)


def changer(talk: Connection, name: str, renamed: str, datagrams: int, size: int) -> None:
    """Send to itself under one name, and when told, as many under another."""
    with udp_socket() as own:
        for called in (name, renamed):
            call_myself(called)
            send_to_itself(own, datagrams, size)
            talk.send("done")
            talk.recv()
