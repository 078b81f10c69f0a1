# SPDX-License-Identifier: Apache-2.0
"""One connection: requests in, answers out, each step within its time (h11 knows HTTP/1.1)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import h11

from exporter.web.message import Request, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.web.message import Answer, Header

    Ask = Callable[[Request], Awaitable[Answer]]

VERSIONS: Final = (b"1.0", b"1.1")
VERSION: Final = "the version is another one"
HEAD_SECONDS: Final = 10
"""How long a request may take to come, from its first byte on, or from the beginning."""
IDLE_SECONDS: Final = 150
"""Between two requests: scrape intervals are up to two minutes."""
SEND_SECONDS: Final = 30
"""How long an answer may take to be taken: a scrape that takes longer is given up long before."""
LINGER_SECONDS: Final = 1
"""How long what a refused client still says is heard: it would not read our answer otherwise."""
HEAD_BYTES: Final = 16 * 1024
"""Of a request; Prometheus sends less than one thousand."""
READ_BYTES: Final = 4096
SMALL: Final = 16 * 1024
PIECE: Final = 256 * 1024
"""An answer is sent in pieces: of each client one waits, beside the body, which many may share."""


class Connection:
    """One of them, from its first request to its last."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str
    ) -> None:
        self._reader, self._writer = reader, writer
        self._client = client
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self.waiting_since: float | None = time.monotonic()
        """Since when we wait for a request; None: it is here."""
        self.body: bytes | None = None
        """What is being sent."""
        self.sending_since = 0.0
        self._is_first = True

    def abort(self) -> None:
        """Hang up, whatever is going on."""
        # One that is closed already may have forgotten its loop (asyncio, Python 3.11).
        with contextlib.suppress(AttributeError):
            self._writer.transport.abort()

    async def run(self, ask: Ask, headers: Callable[[], tuple[Header, ...]]) -> None:
        """Answer until the client leaves or has to."""
        with contextlib.suppress(OSError, TimeoutError, h11.LocalProtocolError):
            while await self._serve(ask, headers):
                self._http.start_next_cycle()
            self._writer.close()
            async with asyncio.timeout(SEND_SECONDS):
                await self._writer.wait_closed()
        self.abort()

    async def _serve(self, ask: Ask, headers: Callable[[], tuple[Header, ...]]) -> bool:
        """Answer one request; tell whether another may follow."""
        request, keeps = Request("", ""), False
        try:
            event = await self._hear()
            if not isinstance(event, h11.Request):
                return False
            request = self._request(event)
            # If it has a body, that is not read, and the connection can't go on.
            keeps = isinstance(self._http.next_event(), h11.EndOfMessage)
            answer = await ask(request)
        except h11.RemoteProtocolError as error:
            # Of some mistakes h11 says 501 (RFC 9112, 6.1); they are the client's nevertheless.
            is_client_error = error.error_status_hint < HTTPStatus.INTERNAL_SERVER_ERROR
            status = HTTPStatus(error.error_status_hint if is_client_error else 400)
            answer = say(status, f"accepted is a request of HTTP/1.1: {error}")
        self.sending_since = time.monotonic()
        async with asyncio.timeout(SEND_SECONDS):
            await self._tell(request, answer, headers(), keeps=keeps)
        if not keeps:
            await self._linger()
        return keeps and self._http.our_state is h11.DONE

    async def _hear(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """Wait for the next request, or the end. Raises TimeoutError."""
        self.waiting_since = time.monotonic()
        event = self._http.next_event()
        if event is h11.NEED_DATA and not self._is_first:
            async with asyncio.timeout(IDLE_SECONDS):
                event = await self._more()
        self._is_first = False
        async with asyncio.timeout(HEAD_SECONDS):
            while event is h11.NEED_DATA:
                event = await self._more()
        self.waiting_since = None
        return event

    async def _more(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        self._http.receive_data(await self._reader.read(READ_BYTES))
        return self._http.next_event()

    def _request(self, event: h11.Request) -> Request:
        if event.http_version not in VERSIONS:
            raise h11.RemoteProtocolError(VERSION)
        target = event.target.decode("ascii", "replace")
        if not target.startswith("/") and "://" in target:  # as a proxy is asked (RFC 9112, 3.2.2)
            target = f"/{target.partition('://')[2].partition('/')[2]}"
        path, _, query = target.partition("?")
        headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        return Request(event.method.decode("ascii"), path, query, headers, self._client)

    async def _tell(
        self, request: Request, answer: Answer, headers: tuple[Header, ...], *, keeps: bool
    ) -> None:
        """Send an answer."""
        lines = {
            "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Vary": "Accept, Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
            **dict(answer.headers),
            **dict(headers),
        }
        if answer.status is HTTPStatus.NOT_MODIFIED:
            del lines["Content-Length"]  # it would be that of what the client has
        if not keeps:
            lines["Connection"] = "close"
        head = h11.Response(
            status_code=answer.status,
            reason=answer.status.phrase.encode(),
            headers=[(name.encode(), value.encode()) for name, value in lines.items()],
        )
        first, rest = self._http.send(head) or b"", memoryview(b"")
        if request.method != "HEAD" and answer.body:
            self._http.send_with_data_passthrough(h11.Data(data=answer.body))  # counts its length
            self.body, rest = answer.body, memoryview(answer.body)
        self._writer.write(first + rest[:SMALL])  # in one packet, if it is small
        rest = rest[SMALL:]
        while rest:
            await self._writer.drain()
            self._writer.write(rest[:PIECE])
            rest = rest[PIECE:]
        self._http.send(h11.EndOfMessage())
        await self._writer.drain()
        self.body = None

    async def _linger(self) -> None:
        """Read for a moment what was not asked for: closing with it unread would cut our answer."""
        with contextlib.suppress(OSError, TimeoutError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(READ_BYTES):
                    pass
