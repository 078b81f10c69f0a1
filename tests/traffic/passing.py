# SPDX-License-Identifier: Apache-2.0
"""A socket that goes from one process to another, by each of the ways that Unix knows."""

from __future__ import annotations

import os
import signal
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.network import LIBC, checked
from tests.traffic import tcp, udp
from tests.workload import PATIENCE, PORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Use: TypeAlias = Callable[[socket.socket], None]
    Way: TypeAlias = Callable[[Connection, socket.socket], int]

PIDFD_GETFD: Final = 438
"""pidfd_getfd(2): the same number everywhere."""
PR_SET_PDEATHSIG: Final = 1
SIZE: Final = 101
BEFORE, AFTER = 23, 13


class Calls(NamedTuple):
    """How somebody sends datagrams."""

    datagrams: int
    options: bool = False
    """With a longer IP header."""
    fill: bool = False
    """A call only fills the buffer (MSG_MORE)."""
    complete: bool = True
    """And another one sends it."""


def use(own: socket.socket, exchanges: int) -> None:
    """Ask and await the answer, one at a time."""
    for _ in range(exchanges):
        own.sendall(bytes(SIZE))
        tcp.receive(own, SIZE)


def take_over(talk: Connection, own: socket.socket) -> None:
    """Be the new owner: use it once, say so, and when told for the rest."""
    use(own, 1)
    talk.send("once")
    talk.recv()
    use(own, AFTER)
    talk.send("done")
    talk.recv()


def echo_stream(connection: socket.socket) -> None:
    """Send back whatever comes."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while part := connection.recv(SIZE):
        connection.sendall(part)


def echo_datagrams(talk: Connection, address: str) -> None:
    """Send back whatever comes, until killed."""
    with udp.bound(address) as receiver:
        talk.send("ready")
        while True:
            receiver.sendto(*receiver.recvfrom(1 << 16))


# The first owner


def open_and_pass(talk: Connection, address: str, kind: int, way: Way, protocol: int = 0) -> None:
    """Open a socket, use it, and pass it on when told; say who has it then."""
    own = socket.socket(tcp.family_of(address), kind, protocol)
    own.settimeout(PATIENCE)
    own.connect((address, PORT))
    _pass(talk, own, way)


def accept_and_pass(talk: Connection, address: str, way: Way) -> None:
    """Accept a connection, and do the same."""
    with tcp.listen(address) as listener:
        talk.send("ready")
        own, _ = listener.accept()
        own.settimeout(PATIENCE)
        _pass(talk, own, way)


def _pass(talk: Connection, own: socket.socket, way: Way) -> None:
    use(own, BEFORE)
    talk.send("used")
    talk.recv()
    child = way(talk, own)
    # Otherwise it would still be open when the child has closed it.
    own.close()
    os.waitpid(child, 0)


def connect_and_echo(_talk: Connection, address: str) -> None:
    """Be the peer of an accepted connection."""
    with tcp.connect(address) as connection:
        echo_stream(connection)


# The ways


def by_fork(talk: Connection, own: socket.socket) -> int:
    """Let a child inherit it."""
    return _child(talk, lambda: take_over(talk, own))


def by_message(talk: Connection, own: socket.socket) -> int:
    """SCM_RIGHTS (unix(7)), to a process that never had it."""
    ours, theirs = socket.socketpair()

    def receive() -> None:
        own.close()
        _, (fd, *_), _, _ = socket.recv_fds(theirs, 1, 1)
        _adopt(talk, fd)

    child = _child(talk, receive)
    socket.send_fds(ours, [b"x"], [own.fileno()])
    return child


def by_pidfd(talk: Connection, own: socket.socket) -> int:
    """pidfd_getfd(2): taken, not given."""
    parent, fd = os.getpid(), own.fileno()

    reading, writing = os.pipe()

    def take() -> None:
        own.close()
        pidfd = os.pidfd_open(parent)
        taken = checked(LIBC.syscall(PIDFD_GETFD, pidfd, fd, 0))
        os.close(writing)
        _adopt(talk, taken)

    child = _child(talk, take)
    os.close(writing)
    os.read(reading, 1)  # the end: it has been taken
    os.close(reading)
    return child


def by_exec(talk: Connection, own: socket.socket) -> int:
    """As inetd does: another program finds it as its standard input and output."""

    def become() -> None:
        os.dup2(own.fileno(), 0)
        os.dup2(own.fileno(), 1)
        os.set_inheritable(talk.fileno(), True)
        os.chdir(Path(__file__).parents[2])
        os.execv(sys.executable, (sys.executable, "-m", __name__, str(talk.fileno())))  # noqa: S606

    return _child(talk, become)


WAYS: Final = (by_fork, by_message, by_pidfd, by_exec)


def _child(talk: Connection, action: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        status = 70
        try:
            talk.send(os.getpid())
            action()
            status = 0
        except BaseException as error:  # noqa: BLE001 the test is to see it, whatever it is
            talk.send(RuntimeError(repr(error)))
        finally:
            os._exit(status)
    return child


def _adopt(talk: Connection, fd: int) -> None:
    with socket.socket(fileno=fd) as own:
        own.settimeout(PATIENCE)
        take_over(talk, own)


# Calls that the size of the last packet does not tell


def hand_over(talk: Connection, address: str, port: int, first: Calls, second: Calls) -> None:
    """Make calls, and have a child make others through the same socket."""
    with socket.socket(tcp.family_of(address), socket.SOCK_DGRAM) as own:
        if first.options:
            _add_options(own)
        _call(own, first, (address, port))
        child = os.fork()
        if not child:
            _call(own, second, (address, port))
            os._exit(0)
        os.waitpid(child, 0)
    talk.send(child)


def _add_options(own: socket.socket) -> None:
    """Make the IP header longer: Router Alert (RFC 2113), or padding (RFC 8200, section 4.2)."""
    if own.family == socket.AF_INET:
        own.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes((148, 4, 0, 0)))
    else:
        header = bytes((0, 0, 1, 4, 0, 0, 0, 0))
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, header)


def _call(own: socket.socket, calls: Calls, to: tuple[str, int]) -> None:
    for _ in range(calls.datagrams):
        own.sendto(bytes(SIZE), socket.MSG_MORE if calls.fill else 0, to)
        if calls.fill and calls.complete:
            own.sendto(bytes(SIZE), to)


def pass_to_cat(talk: Connection, address: str) -> None:
    """Echo some datagrams, then leave the rest to a program that knows nothing of sockets."""
    with udp.bound(address) as own:
        talk.send("ready")
        _, peer = own.recvfrom(SIZE, socket.MSG_PEEK)
        own.connect(peer)
        for _ in range(BEFORE):
            own.send(own.recv(SIZE))
        own.setblocking(True)  # cat takes EAGAIN for an error
        child = os.fork()
        if not child:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(own.fileno(), 0)
            os.dup2(own.fileno(), 1)
            os.execv("/bin/cat", ("cat",))  # noqa: S606
        talk.send(child)
        talk.recv()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def ask(talk: Connection, address: str, exchanges: int) -> None:
    """Send datagrams and await the answer to each."""
    with socket.socket(tcp.family_of(address), socket.SOCK_DGRAM) as own:
        own.settimeout(PATIENCE)
        own.connect((address, PORT))
        use(own, exchanges)
    talk.send("done")


# Both at the same time


def share(talk: Connection, address: str, exchanges: int) -> None:
    """Connect; a child sends and this process receives."""
    with tcp.connect(address) as own:
        talk.send("connected")
        talk.recv()
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGSTOP)
            own.sendall(bytes(SIZE))
            talk.recv()
            own.sendall(bytes(SIZE * exchanges))
            os._exit(0)
        talk.send(child)
        os.waitpid(child, os.WUNTRACED)
        os.kill(child, signal.SIGCONT)
        tcp.receive(own, SIZE)
        talk.send("once")
        tcp.receive(own, SIZE * exchanges)
        os.waitpid(child, 0)
        talk.send("done")
        talk.recv()


def leave_in_flight(talk: Connection, address: str, port: int, datagrams: int) -> None:
    """Send a socket to a child, which takes it out of the message only when told."""
    ours, theirs = socket.socketpair()
    with socket.socket(tcp.family_of(address), socket.SOCK_DGRAM) as own:
        socket.send_fds(ours, [b"x"], [own.fileno()])
    child = os.fork()
    if not child:
        talk.send(os.getpid())
        talk.recv()
        _, (fd, *_), _, _ = socket.recv_fds(theirs, 1, 1)
        with socket.socket(fileno=fd) as taken:
            for _ in range(datagrams):
                taken.sendto(bytes(SIZE), (address, port))
        os._exit(0)
    os.waitpid(child, 0)


def accept_late(talk: Connection, address: str, size: int) -> None:
    """Listen; accept and serve the connection that waits only when told."""
    with tcp.listen(address) as listener:
        talk.send("ready")
        talk.recv()
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        with connection:
            connection.sendall(b"!")
            tcp.drain(connection, size)


if __name__ == "__main__":
    _adopt(Connection(int(sys.argv[1])), 0)
