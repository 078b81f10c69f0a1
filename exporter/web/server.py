# SPDX-License-Identifier: Apache-2.0
"""The web server: one thread for all connections, so that idle and slow ones cost next to nothing.

Whoever makes others wait has to make room: for a connection, the client that has let us wait
longest; for memory, the one that takes its answer most slowly. Answers that have to be worked for
are made in threads of their own, and no more at once than `--web.max-requests`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import re
import socket
import threading
import time
from asyncio.sslproto import SSLProtocol
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.web import access, authority
from exporter.web.connection import Connection
from exporter.web.message import busy, say

if TYPE_CHECKING:
    from typing import Self

    from exporter.listeners import Listener, Listeners
    from exporter.web.message import Answer, Request
    from exporter.web.policy import Policies, Policy
    from exporter.web.site import Site

log = logging.getLogger(__name__)

SSLProtocol.max_size = 16 * 1024
"""A TLS record. The standard library's 256 KiB would be taken by each connection, idle or not."""

MOST_CONNECTIONS: Final = 512
MOST_SENDING: Final = 128 * 1024 * 1024
"""Bytes of different answers that are being sent."""
THREADS: Final = 64
"""Scrapes that come together share their work: more threads would only wait. One costs little."""
GRACE_SECONDS: Final = 1
"""A client may take this long to say what it wants; then it has to make room if others wait."""
COMING_SECONDS: Final = 0.25
"""Who has come may take this long to be heard when the end has come."""
HANDSHAKE_SECONDS: Final = 5
TIMEOUT: Final = "x-prometheus-scrape-timeout-seconds"
PATIENCE_SECONDS: Final = 60
"""Of a client that does not say how long it waits."""
CLIENT_HELLO: Final = b"\x16"
"""The first byte of TLS (RFC 8446, section 5.1)."""
TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)
NOT_TLS: Final = b"this port speaks TLS: ask https://\n"
PLAIN_TO_TLS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(NOT_TLS), NOT_TLS)
)
CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="netatop-exporter", charset="UTF-8"')


class Client(NamedTuple):
    """What is known of who asks."""

    names: frozenset[str] | None
    """Those of its certificate; None: it has shown none."""
    is_local: bool
    """It has come to a loopback address."""


class Server:
    """Answers in its `with` block; what listens does so before, and is closed with it."""

    def __init__(
        self,
        site: Site,
        listeners: Listeners,
        policies: Policies,
        max_requests: int,
        names: frozenset[str] = frozenset(),
    ) -> None:
        """Take the names under which it may be asked on loopback addresses (web/authority.py)."""
        self.site = site
        self._listeners = listeners
        self._policies = policies
        self._max_requests = max_requests
        self._names = names
        self._working = 0
        """Answers that are being made."""
        self._connections: dict[Connection, None] = {}
        """The oldest first."""
        self._opening = 0
        """Connections that have not yet got so far."""
        self._leaving = 0
        """Those for which there was no room, and which have not yet gone."""
        self._pool = concurrent.futures.ThreadPoolExecutor(min(max_requests, THREADS), "answer")
        self._loop = asyncio.new_event_loop()
        self._closing, self._over = asyncio.Event(), asyncio.Event()
        self._closed = False
        """Nobody is accepted any more."""
        self._tasks: set[asyncio.Task[None]] = set()
        """One for each client: the loop itself does not keep them."""
        self._thread = threading.Thread(target=self._run, name="http")

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def goes_round(self, seconds: float) -> bool:
        """Tell whether its thread can still do something, within this time."""
        done = threading.Event()
        try:
            self._loop.call_soon_threadsafe(done.set)
        except RuntimeError:  # it has ended
            return False
        return done.wait(seconds)

    def finish(self, seconds: float) -> None:
        """Take no more connections, and wait so long for those who have asked, or just come."""
        self._loop.call_soon_threadsafe(self._closing.set)
        deadline = time.monotonic() + seconds
        while self._is_busy() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _is_busy(self) -> bool:
        recent = time.monotonic() - COMING_SECONDS
        since = [one.waiting_since for one in list(self._connections)]
        return not self._closed or self._opening > 0 or any(s is None or s > recent for s in since)

    def __exit__(self, *_: object) -> None:
        """Answer no more and free the addresses; requests in progress are not waited for."""
        for event in (self._closing, self._over):
            self._loop.call_soon_threadsafe(event.set)
        self._thread.join()
        self._listeners.close()
        self._policies.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def urls(self) -> list[str]:
        """Return where it answers."""
        scheme = self._policies.scheme
        return [
            str(listener.address)
            if listener.address.path
            else f"{scheme}://{listener.address.reachable}"
            for listener in self._listeners
        ]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._accept(listener)) for listener in self._listeners]
            await self._closing.wait()
            for task in tasks:
                task.cancel()
        self._closed = True
        await self._over.wait()
        # Connections are tasks of the loop: the runner cancels them.

    async def _accept(self, listener: Listener) -> None:
        listener.socket.setblocking(False)
        while True:
            try:
                client, name = listener.socket.accept()
            except BlockingIOError:
                await self._readable(listener.socket)  # at the end nobody is lost who was accepted
                continue
            except OSError as error:  # no descriptors left, or the client has gone already
                log.debug("accept: %s", error)
                self._make_room()
                await asyncio.sleep(0.05)
                continue
            client.setblocking(False)
            address = str(name[0]) if isinstance(name, tuple) else ""
            task = self._loop.create_task(self._serve(client, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # however many come, those who are here have their turn

    async def _serve(self, client: socket.socket, address: str) -> None:
        """Answer one client until it leaves."""
        policy = self._policies.current()
        if len(self._connections) + self._opening >= MOST_CONNECTIONS and not self._make_room():
            with client, contextlib.suppress(OSError):
                await self._send_away(client, policy)
            return
        self._opening += 1
        try:
            reader, writer = await self._open(client, policy)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is one
            log.debug("%s: %s", address, error)
            client.close()
            return
        finally:
            self._opening -= 1
        who = Client(
            access.names(writer.get_extra_info("peercert")),
            authority.is_loopback(writer.get_extra_info("sockname")),
        )
        connection = Connection(reader, writer, address)
        self._connections[connection] = None

        async def ask(request: Request) -> Answer:
            answer = await self._answer(request, who)
            log.debug("%s %s %s: %d", address, request.method, request.path, answer.status)
            self._limit_sending(connection, answer.body)
            return answer

        try:
            await connection.run(ask, lambda: self._policies.current().headers)
        finally:
            del self._connections[connection]
            connection.abort()

    async def _send_away(self, client: socket.socket, policy: Policy) -> None:
        """Say that there is no room; who is heard before he is hung up on can read that."""
        if policy.context:
            return
        client.send(TOO_MANY)
        client.shutdown(socket.SHUT_WR)
        if self._leaving < MOST_CONNECTIONS:
            self._leaving += 1
            try:
                await asyncio.wait_for(self._loop.sock_recv(client, 4096), GRACE_SECONDS)
            except TimeoutError:
                pass
            finally:
                self._leaving -= 1

    async def _open(
        self, client: socket.socket, policy: Policy
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return streams, after the handshake if there is one to be made. Raises OSError."""
        how: dict[str, Any] = {}
        if policy.context:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._expect_tls(client)
            how = {
                "ssl": policy.context,
                "ssl_handshake_timeout": HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": 1,
            }
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, **how)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _readable(self, sock: socket.socket) -> None:
        """Wait until there is something."""
        is_there = asyncio.Event()
        self._loop.add_reader(sock, is_there.set)
        try:
            await is_there.wait()
        finally:
            self._loop.remove_reader(sock)

    async def _expect_tls(self, client: socket.socket) -> None:
        """Wait for the first byte; tell who does not speak TLS. Raises OSError."""
        client.setblocking(False)
        await self._readable(client)
        if client.recv(1, socket.MSG_PEEK) not in {CLIENT_HELLO, b""}:
            client.send(PLAIN_TO_TLS)
            client.shutdown(socket.SHUT_WR)
            message = "no TLS"
            raise ConnectionError(message)

    async def _answer(self, request: Request, who: Client) -> Answer:
        """Answer a request, if the client may ask and there is time for it."""
        policy = self._policies.current()
        refused = await self._refuse(policy, request, who)
        if refused:
            return refused
        if not self.site.is_slow(request):
            return self.site.answer(request)
        if self._working >= self._max_requests:
            return busy("too many requests at once (--web.max-requests)")
        self._working += 1
        work = self._loop.run_in_executor(self._pool, self.site.answer, request)
        work.add_done_callback(self._finish)
        seconds = patience(request.header(TIMEOUT))
        try:
            return await asyncio.wait_for(asyncio.shield(work), seconds)
        except TimeoutError:
            return busy(f"no answer within the {seconds:g} s that the client waits")
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return say(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the log says why")

    def _finish(self, work: asyncio.Future[Answer]) -> None:
        self._working -= 1
        if not work.cancelled():
            work.exception()  # seen, also where nobody waits any more

    async def _refuse(self, policy: Policy, request: Request, who: Client) -> Answer | None:
        """Return why a client may not ask; None: it may."""
        if policy.is_broken:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            return say(status, "the web configuration can't be read; the log says why")
        if not policy.bucket.take():
            return say(HTTPStatus.TOO_MANY_REQUESTS, "more than rate_limit permits")
        if policy.is_open and who.is_local:
            reason = authority.refusal(request.header("host"), self._names)
            return say(HTTPStatus.MISDIRECTED_REQUEST, reason) if reason else None
        if request.path in policy.excluded:
            return None
        if reason := access.may_connect(policy.chosen, who.names):
            return say(HTTPStatus.FORBIDDEN, reason)
        return await _challenge(policy, request)

    def _make_room(self) -> bool:
        """Hang up on the client that has let us wait longest; tell whether there is one."""
        waiting = [one for one in self._connections if one.waiting_since is not None]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda one: one.waiting_since or 0)
        if time.monotonic() - (oldest.waiting_since or 0) < GRACE_SECONDS:
            return False
        oldest.waiting_since = None
        oldest.abort()
        return True

    def _limit_sending(self, new: Connection, body: bytes) -> None:
        """Hang up on those that take their answers most slowly, if these are too much together."""
        sending = [one for one in self._connections if one.body is not None and one is not new]
        sending.sort(key=lambda one: -one.sending_since)
        while sending:
            bodies = {id(one.body): len(one.body or b"") for one in sending} | {id(body): len(body)}
            if sum(bodies.values()) <= MOST_SENDING:
                return
            sending.pop().abort()


async def _challenge(policy: Policy, request: Request) -> Answer | None:
    """Return that user and password are needed; None: they are right, or there are none."""
    try:
        if policy.users and not await policy.users.admit(request.header("authorization")):
            return say(HTTPStatus.UNAUTHORIZED, "user and password are needed", CHALLENGE)
    except access.BusyError:
        return busy("too many passwords are being tried")
    return None


def patience(text: str) -> float:
    """Return how many seconds a client waits, less what it takes to send the answer."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text) or float(text) <= 0:
        return PATIENCE_SECONDS
    return min(float(text) * 0.95, PATIENCE_SECONDS)
