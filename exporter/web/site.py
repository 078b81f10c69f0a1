# SPDX-License-Identifier: Apache-2.0
"""What is there: a path and a query in, an answer out. Knows nothing of connections."""

from __future__ import annotations

import gzip
import urllib.parse
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from exporter import api, page
from exporter.api import connections, openapi, top
from exporter.api.live import Live
from exporter.errors import ConfigError
from exporter.exposition.rendering import LEVEL, Scrape
from exporter.metrics import COLLECTORS
from exporter.negotiation import OPENMETRICS, TEXT, wants_gzip, wants_openmetrics
from exporter.web.message import JSON, Answer, busy, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.collector import Connections
    from exporter.exposition.rendering import Rendering
    from exporter.model import Network, Report
    from exporter.web.message import Request

    Handle = Callable[[Request], Answer]

RELOAD: Final = "/-/reload"
"""As Prometheus has it."""
HEALTHY: Final = ("/healthz", "/-/healthy")
READY: Final = ("/readyz", "/-/ready")
NOT_YET: Final = "not ready yet"
CLIENT_LENGTH: Final = 200
"""Of what tells one client from another: address, parameters, and what it calls itself."""
SMALL_BYTES: Final = 1000
"""Not worth compressing."""
COLLECT: Final = "collect[]"
"""As node_exporter has it; other parameters are those of who scrapes, and tell clients apart."""


class Site:
    """Answers by what others have put in its attributes; safe for threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        """Of the metrics."""
        self.report: Callable[[], Report | None] | None = None
        """Reads and attributes, without an exposition; None as `expose`."""
        self.connections: Callable[[Network | None], Connections | None] | None = None
        """Lists connections, of a prefix; None as `expose`."""
        self.expose: Callable[[Scrape], Rendering | None] | None = None
        """Scrapes. None until the kernel programs are attached."""
        self.unfit = ""
        """Why it is not ready though it answers: what is wrong with its counters."""
        self.reload: Callable[[], None] | None = None
        """Reads the configuration again. Raises ConfigError. None: nobody may ask for it."""

        self._live = Live(lambda: self.report() if self.report else None)
        self._pages = page.assets(path)
        self._slow: dict[str, Handle] = {
            path: self._metrics,
            connections.PATH: partial(self._tell, self._connections),
            **{
                where: partial(self._tell, partial(top.answer, where, self._live))
                for where in top.PATHS
            },
            **{
                where: partial(self._tell, partial(self._report, answer))
                for where, answer in api.ANSWERS.items()
            },
        }
        """What has to be worked for."""
        self._routes: dict[str, Handle] = {
            **dict.fromkeys(self._pages, self._page),
            openapi.PATH: partial(self._tell, openapi.answer),
            **dict.fromkeys(HEALTHY, self._alive),
            **dict.fromkeys(READY, self._ready),
            **self._slow,
        }

    def is_slow(self, request: Request) -> bool:
        """Tell whether the answer has to be worked for."""
        return request.path in self._slow or request.path == RELOAD

    def answer(self, request: Request) -> Answer:
        """Answer, compressed for who accepts that."""
        answer = self._answer(request)
        if len(answer.body) <= SMALL_BYTES or not wants_gzip(request.header("accept-encoding")):
            return answer
        return answer._replace(
            body=answer.compressed() if answer.compressed else gzip.compress(answer.body, LEVEL),
            headers=(*answer.headers, ("Content-Encoding", "gzip")),
        )

    def _answer(self, request: Request) -> Answer:
        if request.path == RELOAD:
            return self._reload(request)
        if request.method not in {"GET", "HEAD"}:
            return say(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"accepted are GET and HEAD, and POST {RELOAD}",
                ("Allow", "GET, HEAD"),
            )
        handle = self._routes.get(request.path)
        if handle is None:
            return say(HTTPStatus.NOT_FOUND, f"nothing here; the metrics are at {self.path}")
        try:
            return handle(request)
        except ConfigError as error:
            return say(HTTPStatus.BAD_REQUEST, str(error))

    def _page(self, request: Request) -> Answer:
        found = self._pages[request.path]
        is_known = request.header("if-none-match") == found.validator
        headers = (*page.HEADERS.items(), ("ETag", found.validator))
        if is_known:
            return Answer(HTTPStatus.NOT_MODIFIED, found.kind, b"", headers)
        return Answer(HTTPStatus.OK, found.kind, found.body, headers)

    def _alive(self, _: Request) -> Answer:
        return say(HTTPStatus.OK, "alive")

    def _ready(self, _: Request) -> Answer:
        if self.expose is None or self.unfit:
            return busy(self.unfit or NOT_YET)
        return say(HTTPStatus.OK, "ready")

    def _metrics(self, request: Request) -> Answer:
        if self.expose is None:
            return busy(NOT_YET)
        collectors = _collectors(request)
        openmetrics = wants_openmetrics(request.header("accept"))
        agent = request.header("user-agent")
        client = f"{request.method} {request.client} {request.query} {agent}"
        rendering = self.expose(Scrape(openmetrics, client[:CLIENT_LENGTH], collectors))
        if not rendering:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            return say(status, "the exposition failed; the log says why")
        kind = OPENMETRICS if openmetrics else TEXT
        return Answer(HTTPStatus.OK, kind, rendering.body, compressed=lambda: rendering.compressed)

    def _report(self, answer: Callable[[Report, str], bytes], query: str) -> bytes:
        report = self.report and self.report()
        return answer(report, query) if report else b""

    def _connections(self, query: str) -> bytes:
        return connections.answer(self.connections or (lambda _: None), query)

    def _tell(self, answer: Callable[[str], bytes], request: Request) -> Answer:
        body = answer(request.query)
        return Answer(HTTPStatus.OK, JSON, body) if body else busy(NOT_YET)

    def _reload(self, request: Request) -> Answer:
        if request.method != "POST":
            status = HTTPStatus.METHOD_NOT_ALLOWED
            return say(status, f"accepted is POST {RELOAD}", ("Allow", "POST"))
        if self.reload is None:
            return say(HTTPStatus.FORBIDDEN, "start it with --web.enable-lifecycle to permit this")
        try:
            self.reload()
        except ConfigError as error:
            return say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        return say(HTTPStatus.OK, "applied")


def _collectors(request: Request) -> frozenset[str]:
    """Return those that the query names; none: all. Raises ConfigError."""
    wanted = urllib.parse.parse_qs(request.query, keep_blank_values=True).get(COLLECT, ())
    for name in wanted:
        if name not in COLLECTORS:
            message = f"{COLLECT}: found {name!r}; accepted are {', '.join(COLLECTORS)}"
            raise ConfigError(message)
    return frozenset(wanted)
