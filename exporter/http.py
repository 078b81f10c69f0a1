# SPDX-License-Identifier: Apache-2.0
"""The web server: /metrics, /healthz, /readyz and a page that links to them.

The standard library's threading server, with what it lacks: a queue that takes 50 scrapes at once,
a limit of connections, and time limits, so that idle and slow clients harm nobody but themselves.
"""

from __future__ import annotations

import contextlib
import gzip
import html
import logging
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from exporter import __version__, api
from exporter.api import connections
from exporter.errors import ConfigError, ServeError
from exporter.negotiation import OPENMETRICS, TEXT, wants_gzip, wants_openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from exporter.collector import Connections
    from exporter.config.flags import Address
    from exporter.model import Network, Report

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 10
POLL_SECONDS: Final = 0.1
"""How long the end may take to be noticed."""
GRACE_SECONDS: Final = 1
"""A client may take this long to say what it wants; then it has to make room if others wait."""
ANY_SIX: Final = "::"
CLIENT_LENGTH: Final = 200
"""Of what tells one client from another: address, parameters, and what it calls itself."""
GZIP_LEVEL: Final = 1
"""Level 6 costs 2.5 times as much for a third less."""

RELOAD: Final = "/-/reload"
"""As Prometheus has it."""

PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>netatop-exporter</title></head>
<body><h1>netatop-exporter</h1>
<p>Who is using the network on this host. Version {version}.</p>
<ul><li><a href="{path}">Metrics</a></li><li><a href="/api/v1/exits">Finished processes</a></li>
<li>Now: <a href="/api/v1/processes">processes</a>, <a href="/api/v1/threads">threads</a>,
<a href="/api/v1/sockets">sockets</a>, <a href="/api/v1/groups">groups</a></li>
<li><a href="/healthz">Alive?</a></li>
<li><a href="/readyz">Ready?</a></li></ul></body></html>
"""


class Server(ThreadingHTTPServer):
    """Listens from the start, and answers in its `with` block."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(
        self,
        address: Address,
        *,
        path: str,
        max_requests: int,
    ) -> None:
        self.path = path
        self._address = address
        self.report: Callable[[], Report | None] | None = None
        """Reads and attributes, without an exposition; None as `expose`."""
        self.connections: Callable[[Network | None], Connections | None] | None = None
        """Lists connections, of a prefix; None as `expose`."""
        self.expose: Callable[[bool, str], bytes] | None = None
        """Scrapes; as OpenMetrics or not, for whom. None until the kernel programs are attached."""
        self.unfit = ""
        """Why it is not ready though it answers: what is wrong with its counters."""
        self.reload: Callable[[], None] | None = None
        """Reads the configuration again. Raises ConfigError. None: nobody may ask for it."""
        self._slots = threading.BoundedSemaphore(max_requests)
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, float] = {}
        """Connections without a whole request, the oldest first, and since when."""
        try:
            family, host = _resolve(address)
            self.address_family = family
            super().__init__((host, address.port), Handler)
        except OSError as error:
            message = (
                f"cannot listen on {address}: {error.strerror or error}; "
                "choose another address with --web.listen-address"
            )
            raise ServeError(message) from error

    def __enter__(self) -> Self:
        """Begin to answer."""
        threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name="http").start()
        return self

    def __exit__(self, *_: object) -> None:
        """Answer no more and free the address; requests in progress are not waited for."""
        self.shutdown()
        self.server_close()

    @property
    def listens(self) -> Address:
        """Return where it listens: with port 0, the port that the kernel chose."""
        return self._address._replace(port=int(self.server_address[1]))

    def server_bind(self) -> None:
        """Bind, without the look-up of the host's own name that the base class makes."""
        if self.address_family == socket.AF_INET6 and self.server_address[0] == ANY_SIX:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or at once with 503 if too many are busy."""
        if self._slots.acquire(blocking=False) or self._make_room():
            try:
                super().process_request(request, client_address)
            except BaseException:
                self._slots.release()
                raise
            return
        with request:
            request.settimeout(1)
            request.sendall(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                b"Connection: close\r\nContent-Length: 0\r\n\r\n"
            )

    def _make_room(self) -> bool:
        """Hang up on the client that has let us wait longest, and take its slot."""
        with self._lock:
            client, since = next(iter(self._waiting.items()), (None, 0.0))
            if client is None or time.monotonic() - since < GRACE_SECONDS:
                return False
            del self._waiting[client]
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)  # its thread reads the end and gives the slot back
        return self._slots.acquire(timeout=GRACE_SECONDS)

    def expect(self, client: socket.socket) -> None:
        """Note that a client has to say what it wants."""
        with self._lock:
            self._waiting.pop(client, None)
            self._waiting[client] = time.monotonic()

    def attend(self, client: socket.socket) -> None:
        """Note that it has."""
        with self._lock:
            self._waiting.pop(client, None)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the slot back in any case."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.attend(request)
            self._slots.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log: a client that went away is not worth a stack trace on the terminal."""
        log.debug("request from %s failed", client_address, exc_info=sys.exc_info())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = f"netatop-exporter/{__version__}"
    sys_version = ""
    timeout = IDLE_SECONDS

    def handle_one_request(self) -> None:
        """Wait for a request and answer it."""
        self.server.expect(self.connection)
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer a request."""
        self.server.attend(self.connection)
        path, _, query = self.path.partition("?")
        if path == self.server.path:
            self._metrics(query)
        elif path == "/":
            page = PAGE.format(version=__version__, path=html.escape(self.server.path))
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())
        elif path in api.ANSWERS:
            self._report(api.ANSWERS[path], query)
        elif path == connections.PATH:
            self._connections(query)
        elif path == RELOAD:
            self._say(HTTPStatus.METHOD_NOT_ALLOWED, f"accepted is POST {RELOAD}")
        elif path == "/healthz":
            self._say(HTTPStatus.OK, "alive")
        elif path == "/readyz":
            if self.server.expose and not self.server.unfit:
                self._say(HTTPStatus.OK, "ready")
            else:
                self._say(HTTPStatus.SERVICE_UNAVAILABLE, self.server.unfit or "not ready yet")
        else:
            self._say(HTTPStatus.NOT_FOUND, f"nothing here; the metrics are at {self.server.path}")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Read the configuration again, where that is enabled; nothing else can be posted."""
        self.server.attend(self.connection)
        self.close_connection = True  # a body is not read
        if self.path != RELOAD:
            self._say(
                HTTPStatus.METHOD_NOT_ALLOWED, f"accepted are GET and HEAD, and POST {RELOAD}"
            )
        elif self.server.reload is None:
            self._say(HTTPStatus.FORBIDDEN, "start it with --web.enable-lifecycle to permit this")
        else:
            try:
                self.server.reload()
            except ConfigError as error:
                self._say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            else:
                self._say(HTTPStatus.OK, "applied")

    def _metrics(self, query: str) -> None:
        openmetrics = wants_openmetrics(self.headers.get("Accept", ""))
        if self.server.expose is None:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "not ready yet")
            return
        agent = self.headers.get("User-Agent", "")
        client = f"{self.command} {self.client_address[0]} {query} {agent}"
        body = self.server.expose(openmetrics, client[:CLIENT_LENGTH])
        if not body:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, "the exposition failed; the log says why")
            return
        self._answer(HTTPStatus.OK, OPENMETRICS if openmetrics else TEXT, body)

    def _report(self, answer: Callable[[Report, str], bytes], query: str) -> None:
        report = self.server.report and self.server.report()
        if not report:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "not ready yet")
            return
        try:
            self._answer(HTTPStatus.OK, "application/json", answer(report, query))
        except ConfigError as error:
            self._say(HTTPStatus.BAD_REQUEST, str(error))

    def _connections(self, query: str) -> None:
        find = self.server.connections or (lambda _: None)
        try:
            if body := connections.answer(find, query):
                self._answer(HTTPStatus.OK, "application/json", body)
            else:
                self._say(HTTPStatus.SERVICE_UNAVAILABLE, "not ready yet")
        except ConfigError as error:
            self._say(HTTPStatus.BAD_REQUEST, str(error))

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Vary", "Accept, Accept-Encoding")
        self.send_header("X-Content-Type-Options", "nosniff")
        if len(body) > 1000 and wants_gzip(self.headers.get("Accept-Encoding", "")):
            body = gzip.compress(body, GZIP_LEVEL)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log requests for those who ask for it."""
        log.debug("%s %s", self.client_address[0], format % args)


def _resolve(address: Address) -> tuple[socket.AddressFamily, str]:
    """Return family and numeric address; without a host, one that serves both families."""
    if not address.host:
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, ANY_SIX
        return socket.AF_INET, "0.0.0.0"  # noqa: S104 (that is what was asked for)
    family, _, _, _, target = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )[0]
    return family, str(target[0])
