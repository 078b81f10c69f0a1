# SPDX-License-Identifier: Apache-2.0
"""What two ends of a TCP connection can do with it; each function is one end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final

from tests.workload import FAMILIES, PATIENCE, PORT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from typing import TypeAlias

    End: TypeAlias = Callable[..., None]

SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000
"""Of Linux on x86-64 and arm64 (include/uapi/asm-generic/socket.h, include/linux/socket.h)."""
LINGER_0: Final = struct.pack("ii", 1, 0)
"""close(2) resets the connection (socket(7), SO_LINGER)."""
PART: Final = 1 << 16
PAUSE, STORM = 0.05, 1000
"""So long lets each end the other one wait, who tries at least so often meanwhile."""
IPPROTO_MPTCP, SOL_MPTCP, MPTCP_INFO = 262, 284, 1


def family_of(address: str) -> int:
    """Return AF_INET or AF_INET6."""
    return FAMILIES[6 if ":" in address else 4]


def listen(address: str, port: int = PORT, protocol: int = 0) -> socket.socket:
    """Return a socket that listens."""
    listener = socket.socket(family_of(address), socket.SOCK_STREAM, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.settimeout(PATIENCE)
    listener.bind((address, port))
    listener.listen(1024)
    return listener


def connect(address: str, port: int = PORT, protocol: int = 0) -> socket.socket:
    """Return a connection."""
    connection = socket.socket(family_of(address), socket.SOCK_STREAM, protocol)
    connection.settimeout(PATIENCE)
    connection.connect((address, port))
    return connection


def serve(
    talk: Connection,
    address: str,
    end: End,
    *arguments: Any,
    port: int = PORT,
    connections: int = 1,
    protocol: int = 0,
) -> None:
    """Accept connections one by one, and be one end of each."""
    with listen(address, port, protocol) as listener:
        talk.send("ready")
        for _ in range(connections):
            connection, _ = listener.accept()
            connection.settimeout(PATIENCE)
            with connection:
                end(connection, *arguments)


def call(
    _talk: Connection,
    address: str,
    end: End,
    *arguments: Any,
    port: int = PORT,
    connections: int = 1,
    protocol: int = 0,
) -> None:
    """Connect, again and again, and be the other end."""
    for _ in range(connections):
        with connect(address, port, protocol) as connection:
            end(connection, *arguments)


# Ends. One that sends awaits the peer's FIN before it closes: nothing arrives for TIME_WAIT.


def drain(connection: socket.socket, expected: int) -> None:
    """Read to the end."""
    received = 0
    while part := connection.recv(PART):
        received += len(part)
    assert received == expected


def receive(connection: socket.socket, size: int) -> None:
    """Read so much, and no more."""
    while size:
        part = connection.recv(min(PART, size))
        assert part, f"the peer ended {size} bytes too early"
        size -= len(part)


def finish(connection: socket.socket) -> None:
    """Say that no more will come, and await the same of the peer."""
    connection.shutdown(socket.SHUT_WR)
    drain(connection, 0)


def pour(connection: socket.socket, size: int) -> None:
    """Send so much."""
    connection.sendall(bytes(size))
    finish(connection)


def exchange(connection: socket.socket, size: int) -> None:
    """Send and receive so much, both at the same time."""
    connection.setblocking(False)
    waiting, received, over = memoryview(bytes(size)), 0, False
    while waiting or not over:
        reads, writes = [] if over else [connection], [connection] if waiting else []
        ready, able, _ = select.select(reads, writes, [], PATIENCE)
        if able:
            waiting = waiting[connection.send(waiting) :]
            if not waiting:
                connection.shutdown(socket.SHUT_WR)
        if ready:
            part = connection.recv(PART)
            received += len(part)
            over = not part
    assert received == size


def drip(connection: socket.socket, parts: int, seconds: float) -> None:
    """Send single bytes with pauses between them."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(parts):
        connection.sendall(b"x")
        time.sleep(seconds)
    finish(connection)


def answer(connection: socket.socket, asked: int, answered: int) -> None:
    """Read to the end, and only then send: the connection is half closed by then."""
    drain(connection, asked)
    connection.sendall(bytes(answered))


def ask(connection: socket.socket, asked: int, answered: int) -> None:
    """Send, close one half, and read the answer through the other."""
    connection.sendall(bytes(asked))
    connection.shutdown(socket.SHUT_WR)
    drain(connection, answered)


def reset(connection: socket.socket, size: int) -> None:
    """Receive so much and end by a RST."""
    receive(connection, size)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)


def pour_until_reset(connection: socket.socket, size: int) -> None:
    """Send so much and await the peer's RST."""
    connection.sendall(bytes(size))
    with contextlib.suppress(ConnectionResetError):
        connection.recv(1)
        message = "the connection was not reset"
        raise AssertionError(message)


def send_file(connection: socket.socket, size: int) -> None:
    """sendfile(2)."""
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        sent = 0
        while sent < size:
            select.select([], [connection], [], PATIENCE)
            sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)
    finish(connection)


def splice_out(connection: socket.socket, size: int) -> None:
    """splice(2) from a pipe."""
    with tempfile.TemporaryFile() as file, _pipe() as (reading, writing):
        connection.setblocking(True)
        file.truncate(size)
        while size:
            moved = os.splice(file.fileno(), writing, min(size, PART))
            size -= moved
            while moved:
                moved -= os.splice(reading, connection.fileno(), moved)
    connection.settimeout(PATIENCE)
    finish(connection)


def splice_in(connection: socket.socket, size: int) -> None:
    """splice(2) to a pipe: the one way to receive that the kernel tells us nothing of."""
    received = 0
    with open(os.devnull, "wb") as nothing, _pipe() as (reading, writing):  # noqa: PTH123
        connection.setblocking(True)
        while moved := os.splice(connection.fileno(), writing, PART):
            received += moved
            while moved:
                moved -= os.splice(reading, nothing.fileno(), moved)
    assert received == size


@contextlib.contextmanager
def _pipe() -> Any:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def zero_copy(connection: socket.socket, size: int) -> None:
    """MSG_ZEROCOPY: the pages themselves are sent; the error queue tells when."""
    connection.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    rest = memoryview(bytes(size))
    calls = 0
    while rest:
        rest = rest[connection.send(rest[:PART], MSG_ZEROCOPY) :]
        calls += 1
    done = 0
    while done < calls:
        errors = select.poll()
        errors.register(connection, 0)
        errors.poll(PATIENCE * 1000)
        _, ancillary, _, _ = connection.recvmsg(1, 100, socket.MSG_ERRQUEUE)
        # The calls from ee_info to ee_data (include/uapi/linux/errqueue.h)
        first, last = struct.unpack_from("=II", ancillary[0][2], 8)
        done += last - first + 1
    finish(connection)


def peek_and_wait(connection: socket.socket, size: int, part: int) -> None:
    """Look at each part before it is read whole."""
    connection.setblocking(True)
    for at in range(0, size, part):
        length = min(part, size - at)
        assert connection.recv(1, socket.MSG_PEEK)
        assert len(connection.recv(length, socket.MSG_PEEK | socket.MSG_WAITALL)) == length
        assert len(connection.recv(length, socket.MSG_WAITALL)) == length
    drain(connection, 0)


def insist(connection: socket.socket, size: int) -> None:
    """Receive without waiting, again and again: most calls fail with EAGAIN."""
    connection.setblocking(False)
    time.sleep(PAUSE)
    refused = received = 0
    while True:
        try:
            part = connection.recv(PART)
        except BlockingIOError:
            refused += 1
            continue
        if not part:
            break
        received += len(part)
    assert received == size
    assert refused > STORM


def insist_on_sending(connection: socket.socket, size: int) -> None:
    """Send without waiting, through a small buffer: most calls fail with EAGAIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.setblocking(False)
    rest = memoryview(bytes(size))
    refused = 0
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except BlockingIOError:
            refused += 1
    time.sleep(PAUSE)
    connection.settimeout(PATIENCE)
    finish(connection)
    assert refused > STORM


def short_lived(
    talk: Connection, address: str, processes: int, size: int, port: int = PORT
) -> None:
    """Start processes; each connects, sends, awaits the end, and exits. Says their ids."""
    children = []
    for _ in range(processes):
        child = os.fork()
        if not child:
            status = 70
            try:
                call(talk, address, pour, size, port=port)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
        assert os.waitpid(child, 0)[1] == 0
    talk.send(children)


def ask_twice(connection: socket.socket, size: int, subflows: int) -> None:
    """Send a part, wait until there are so many subflows, and send the rest."""
    connection.sendall(bytes(size))
    assert connection.recv(1) == b"!"
    wait_until(lambda: _subflows(connection) == subflows, f"{subflows} subflows")
    connection.sendall(bytes(size))
    finish(connection)


def answer_each(connection: socket.socket, size: int) -> None:
    """Read two parts; answer the first."""
    receive(connection, size)
    connection.sendall(b"!")
    drain(connection, size)


def _subflows(connection: socket.socket) -> int:
    """Return how many there are (include/uapi/linux/mptcp.h, struct mptcp_info; Linux 5.16)."""
    if connection.proto != IPPROTO_MPTCP:
        return 1
    try:
        info = connection.getsockopt(SOL_MPTCP, MPTCP_INFO, 4)
    except OSError:
        return 1  # the peer speaks plain TCP
    return info[0] + 1
