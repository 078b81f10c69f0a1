# SPDX-License-Identifier: Apache-2.0
"""netatop-bpf's stream socket, which atop 2.10 and later asks: every process at once.

A client sends one `struct netpertask`, whatever is in it, and gets one of each process that has
used the network, then one of zeros. It may ask again on the same connection.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import struct
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ServeError
from exporter.listeners import make_way, remove
from exporter.netpertask import RECORD, record
from exporter.procfs import booted_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from exporter.model import Report

log = logging.getLogger(__name__)

MODE: Final = 0o666
"""Whoever may enter the directory may ask, as with netatop-bpf: /metrics tells him no less."""
MOST_CLIENTS: Final = 64
MOST_OF_USER: Final = 16
"""So that nobody takes the places of others; root has places of his own, beside MOST_CLIENTS."""
STALL_SECONDS: Final = 5
"""How long the rest of a request, and all of an answer, may take. Between requests there is no
limit: atop asks every ten minutes where it writes a log."""
CHUNK_BYTES: Final = 23 * RECORD.size
"""The kernel cuts a stream where half of the smallest send buffer (4,608 bytes) is full."""
POLL_SECONDS: Final = 0.1
CREDENTIALS: Final = struct.Struct("=iii")
"""struct ucred: pid, uid, gid."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens from the start, and answers in its `with` block."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str) -> None:
        """Raise ServeError if it can't be listened on, or another program listens there."""
        self.report: Callable[[], Report | None] | None = None
        """Reads and attributes. None until the kernel programs are attached: nobody is answered."""
        self.booted = booted_at()
        self._path = path
        self._lock = threading.Lock()
        self._clients: Counter[int] = Counter()
        """By user."""
        try:
            make_way(path, "--compat.netatop-bpf")
            super().__init__(path, Client)
            self._inode = os.stat(path).st_ino  # noqa: PTH116 (a name as it was given)
            os.chmod(path, MODE)  # noqa: PTH101
        except OSError as error:
            message = (
                f"cannot listen on {path}: {error.strerror or error}; choose another path with "
                "--compat.netatop-bpf=PATH"
            )
            raise ServeError(message) from error

    def __enter__(self) -> Self:
        """Begin to answer."""
        name = "netatop-bpf"
        threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name=name).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Answer no more and remove the file, unless another one has put his there."""
        self.shutdown()
        self.server_close()
        remove(self._path, self._inode)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or hang up if there are too many."""
        user = _user(request)
        if not self._admit(user):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._dismiss(user)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back in any case."""
        user = _user(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._dismiss(user)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Log: a client that went away is not worth a stack trace on the terminal."""
        log.debug("client of netatop-bpf failed", exc_info=sys.exc_info())

    def _admit(self, user: int) -> bool:
        with self._lock:
            others = self._clients.total() - self._clients[0]
            if self._clients[user] >= MOST_OF_USER or (user and others >= MOST_CLIENTS):
                return False
            self._clients[user] += 1
            return True

    def _dismiss(self, user: int) -> None:
        with self._lock:
            self._clients[user] -= 1
            if not self._clients[user]:
                del self._clients[user]


class Client(socketserver.BaseRequestHandler):
    """One connection."""

    server: Server
    request: socket.socket
    _next: int | None = None
    """The first of the exit list that this client has not been told; None: it is new."""

    def handle(self) -> None:
        """Answer until it leaves, or is too slow."""
        while self._hear():
            report = self.server.report and self.server.report()
            if not report:
                return  # atop tries again with its next sample
            say(self.request, self._answer(report))

    def _hear(self) -> bool:
        """Wait for a request; tell whether there is one. Raises TimeoutError."""
        self.request.settimeout(None)
        wanted = RECORD.size
        deadline = None
        while wanted:
            part = self.request.recv(wanted)
            if not part:
                return False
            wanted -= len(part)
            deadline = deadline or time.monotonic() + STALL_SECONDS
            self.request.settimeout(_left(deadline))
        return True

    def _answer(self, report: Report) -> bytes:
        """Return those that ended since this client last asked, then all that live.

        netatop-bpf told of the ended ones too, and atop takes their last counts from there. The
        living come last: atop keeps the last of those that have the same pid.
        """
        first = report.next_exit if self._next is None else self._next
        self._next = report.next_exit
        tasks = [entry.task for entry in report.exit_list if entry.number >= first]
        tasks += [p.task for p in report.processes.values() if not p.task.end_ns]
        end = bytes(RECORD.size)
        return b"".join([*(record(task, self.server.booted) for task in tasks), end])


def say(client: socket.socket, data: bytes) -> None:
    """Send all of it, each struct whole in one buffer of the kernel. Raises OSError.

    atop takes what the kernel has as a struct, however short it is.
    """
    deadline = time.monotonic() + STALL_SECONDS
    for at in range(0, len(data), CHUNK_BYTES):
        client.settimeout(_left(deadline))
        client.sendall(data[at : at + CHUNK_BYTES])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _user(client: socket.socket) -> int:
    """Return who has connected."""
    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(raw)
    return int(user)
