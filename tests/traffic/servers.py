# SPDX-License-Identifier: Apache-2.0
"""Servers of many processes: one listener for all, or one each."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Final

from tests.traffic import tcp
from tests.workload import PATIENCE, PORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

SO_REUSEPORT: Final = 15
GREETING: Final = b"!"


def _work(listener: socket.socket, talk: Connection, size: int, most: int) -> None:
    """Accept, greet and read to the end, until it is enough or we are told so; say how many."""
    served = 0
    listener.setblocking(False)
    either = [listener.fileno(), talk.fileno()]
    while served < most and listener.fileno() in select.select(either, [], [])[0]:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue  # another worker was faster
        connection.settimeout(PATIENCE)
        with connection:
            connection.sendall(GREETING)
            tcp.drain(connection, size)
        served += 1
    talk.recv()
    talk.send(served)
    talk.recv()


def own_listener(talk: Connection, address: str, size: int, most: int) -> None:
    """Be one of several that listen at the same port."""
    listener = socket.socket(tcp.family_of(address), socket.SOCK_STREAM)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
        listener.bind((address, PORT))
        listener.listen(1024)
        talk.send("ready")
        _work(listener, talk, size, most)


def pre_fork(talk: Connection, address: str, size: int, most: int, pipes: list[Connection]) -> None:
    """Listen, and let children accept, each so many at most; the parent never does."""
    with tcp.listen(address) as listener:
        children = [_child(lambda pipe=pipe: _work(listener, pipe, size, most)) for pipe in pipes]
        talk.send(children)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0


def _child(action: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        status = 70
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return child


def greeted(connection: socket.socket, size: int) -> None:
    """Wait until somebody serves the connection, then send."""
    assert connection.recv(1) == GREETING
    tcp.pour(connection, size)
