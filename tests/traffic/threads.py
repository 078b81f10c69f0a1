# SPDX-License-Identifier: Apache-2.0
"""Threads that use the network, each in its way."""

from __future__ import annotations

import os
import socket
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.workers import call_myself
from tests.traffic import tcp, udp
from tests.traffic.passing import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable


def _thread(action: Callable[[], None]) -> threading.Thread:
    started = threading.Thread(target=action)
    started.start()
    return started


def many(talk: Connection, address: str, port: int, count: int) -> None:
    """Let thread number n of so many send n + 1 datagrams; all live until the last has sent."""
    gate, tids = threading.Barrier(count), [0] * count

    def work(number: int) -> None:
        tids[number] = threading.get_native_id()
        _send(address, port, number + 1)
        gate.wait()

    threads = [_thread(lambda number=number: work(number)) for number in range(count)]
    for thread in threads:
        thread.join()
    talk.send(tids)


def _send(address: str, port: int, datagrams: int) -> None:
    with socket.socket(tcp.family_of(address), socket.SOCK_DGRAM) as sender:
        for _ in range(datagrams):
            sender.sendto(bytes(SIZE), (address, port))


def reader_and_writer(talk: Connection, address: str, exchanges: int) -> None:
    """Connect; one thread sends and another one receives, and both end before the connection."""
    with tcp.connect(address) as own:
        talk.send("connected")
        talk.recv()
        go_on = threading.Event()

        def write() -> None:
            talk.send(threading.get_native_id())
            own.sendall(bytes(SIZE))
            go_on.wait()
            own.sendall(bytes(SIZE * exchanges))

        def read() -> None:
            talk.send(threading.get_native_id())
            tcp.receive(own, SIZE)
            talk.send("once")
            tcp.receive(own, SIZE * exchanges)

        reader = _thread(read)
        talk.recv()
        writer = _thread(write)
        talk.recv()
        go_on.set()
        writer.join()
        reader.join()
        talk.send("done")
        talk.recv()


def exec_from_thread(talk: Connection, address: str, port: int, shares: tuple[int, ...]) -> None:
    """Send as the main thread, as another one, and as the program that this one turns into."""
    first, second, third = shares
    _send(address, port, first)

    def become() -> None:
        _send(address, port, second)
        talk.send(threading.get_native_id())
        talk.recv()
        os.set_inheritable(talk.fileno(), True)
        os.chdir(Path(__file__).parents[2])
        words = (talk.fileno(), address, port, third)
        os.execv(sys.executable, (sys.executable, "-m", __name__, *map(str, words)))  # noqa: S606

    _thread(become).join()


def renamed(talk: Connection, address: str, port: int, names: tuple[str, ...], share: int) -> None:
    """Send from one thread under one name after the other."""

    def work() -> None:
        for name in names:
            call_myself(name)
            _send(address, port, share)
            talk.send(threading.get_native_id())
            talk.recv()

    _thread(work).join()


def leave_receiving(talk: Connection, address: str, first: int, later: int) -> None:
    """Receive one and more in a thread, which ends; what comes later the main thread receives."""
    with udp.bound(address) as own:
        talk.send("ready")

        def work() -> None:
            own.recv(SIZE)
            talk.send(threading.get_native_id())
            for _ in range(first):
                own.recv(SIZE)

        _thread(work).join()
        talk.send("thread ended")
        talk.recv()
        for _ in range(later):
            own.recv(SIZE)
        talk.send("done")
        talk.recv()


def main() -> None:
    """Be the program that a thread has turned into: send, again and again, through one socket."""
    talk, address, port, datagrams = Connection(int(sys.argv[1])), *sys.argv[2:]
    with socket.socket(tcp.family_of(address), socket.SOCK_DGRAM) as sender:
        told = ""
        while told != "end":
            for _ in range(int(datagrams)):
                sender.sendto(bytes(SIZE), (address, int(port)))
            talk.send("sent")
            told = talk.recv()


if __name__ == "__main__":
    main()
