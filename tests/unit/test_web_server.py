# SPDX-License-Identifier: Apache-2.0
"""The web server by itself, on a Unix socket: who has to wait, who has to go, what is refused."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from exporter.config.flags import Address
from exporter.exposition.rendering import Rendering
from exporter.listeners import Listeners
from exporter.web import connection, server
from exporter.web.message import Request, busy
from exporter.web.policy import Policies
from exporter.web.server import Server, patience
from exporter.web.site import Site
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = Rendering(b"a 1\n")
OTHER = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


class Served:
    """A server whose expositions take as long as the test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.site = Site("/metrics")
        self.site.expose = lambda _: SMALL

    def connect(self) -> socket.socket:
        """Return a client."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(str(self.path))
        return client

    def say(self, *said: bytes) -> bytes:
        """Return all that is answered to what one client says before it is silent."""
        with self.connect() as client:
            for part in said:
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            return read(client)

    def status(self, said: bytes) -> int:
        """Return the first status that is answered."""
        return int(self.say(said).split(b" ", 2)[1])


def read(client: socket.socket) -> bytes:
    """Return everything until the end."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            found += part
    return found


@pytest.fixture
def max_requests() -> int:
    """Return how many answers may be worked for at once."""
    return 7


@pytest.fixture
def served(tmp_path: Path, max_requests: int) -> Iterator[Served]:
    """Serve on a socket of the test's own."""
    made = Served(tmp_path / "sock")
    listeners = Listeners.open([Address(path=str(made.path))])
    with Server(made.site, listeners, Policies(None), max_requests):
        yield made


def test_one_after_the_other(served: Served) -> None:
    """Requests on one connection are answered in order, also if all come at once."""
    found = served.say(OTHER * 3 + SCRAPE + OTHER)
    assert [part[:3] for part in found.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 5
    bodies = [part.partition(b"\r\n\r\n")[2] for part in found.split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"alive\n"] * 3 + [b"a 1\n", b"alive\n"]


def test_in_pieces(served: Served) -> None:
    """It may come byte by byte."""
    found = served.say(*(bytes((byte,)) for byte in OTHER))
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET http://host:1/healthz HTTP/1.1\r\nHost: host\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /healthz?a=b&c HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /health\0z HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nA b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 21_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"b" * 21_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 403),
        (b"GET /-/reload HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /%2e%2e/metrics HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    ],
)
def test_requests(served: Served, said: bytes, status: int) -> None:
    """What is a request is answered; the rest is refused."""
    assert served.status(said) == status
    assert served.status(OTHER) == 200


def test_body_is_not_read(served: Served) -> None:
    """Who sends a body is answered, and hung up on: what follows is no request."""
    said = b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\n"
    found = served.say(said + SCRAPE)
    assert found.count(b"HTTP/1.1") == 1
    assert b"Connection: close\r\n" in found


def test_what_the_client_has(served: Served) -> None:
    """It is not sent again, and the connection goes on."""
    page = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"
    head, _, body = served.say(page % b"").partition(b"\r\n\r\n")
    validator = head.partition(b"\r\nETag: ")[2].partition(b"\r\n")[0]
    assert body.startswith((b"<!doctype html>", b"<!DOCTYPE html>"))
    known = page % (b"If-None-Match: %b\r\n" % validator)
    first, second = served.say(known + OTHER).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"304 ")
    assert b"Content-Length" not in first
    assert first.endswith(b"\r\n\r\n")
    assert second.startswith(b"200 ")


def test_time_of_the_scraper(served: Served) -> None:
    """Who has no more time gets 503 before he leaves; the work is not done twice."""
    go, runs = threading.Event(), itertools.count()
    served.site.expose = lambda _: (next(runs), go.wait(PATIENCE), SMALL)[2]
    hurried = SCRAPE.replace(b"\r\n\r\n", b"\r\nX-Prometheus-Scrape-Timeout-Seconds: 0.23\r\n\r\n")
    found = served.say(hurried)
    assert found.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in found
    assert b"no answer within the 0.2185 s that the client waits\n" in found
    assert served.status(OTHER) == 200
    go.set()
    assert served.status(hurried) == 200
    assert next(runs) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 9.5), ("0.5", 0.475), ("1000", 60), ("", 60), ("0", 60), ("-1", 60), ("nan", 60)],
)
def test_patience(text: str, seconds: float) -> None:
    """A little less than the client's, and never more than a minute."""
    assert patience(text) == seconds


@pytest.mark.parametrize("max_requests", [2])
def test_more_than_may_be_worked_for(served: Served) -> None:
    """They are sent away; what costs nothing is answered all the same."""
    go = threading.Event()
    served.site.expose = lambda _: (go.wait(PATIENCE), SMALL)[1]
    with served.connect() as first, served.connect() as second:
        first.sendall(SCRAPE)
        second.sendall(SCRAPE)
        wait_until(lambda: served.status(SCRAPE) == 503, "there is no room")
        assert served.status(OTHER) == 200
        go.set()
        for client in (first, second):
            client.shutdown(socket.SHUT_WR)
            assert read(client).endswith(b"\r\n\r\na 1\n")
    assert served.status(SCRAPE) == 200


def test_failure(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """What fails unexpectedly is in the log, and nowhere else."""

    def fail(_: object) -> Rendering:
        message = "secret"
        raise RuntimeError(message)

    served.site.expose = fail
    found = served.say(SCRAPE)
    assert found.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in found
    assert "RuntimeError: secret" in caplog.text
    assert served.status(OTHER) == 200


def test_idle_clients_make_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all places are taken, the one that has been silent longest goes."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 11)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(served.connect()) for _ in range(11)]

        def is_answered() -> bool:
            found = served.say(OTHER)
            assert found.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 "))
            return found.startswith(b"HTTP/1.1 200 ")

        wait_until(is_answered, "there is room")
        assert idle[0].recv(1) == b""
        idle[-1].sendall(OTHER)
        idle[-1].shutdown(socket.SHUT_WR)
        assert read(idle[-1]).startswith(b"HTTP/1.1 200 ")


def test_slow_senders(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has to be there in time, however steadily it comes."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    with served.connect() as client:
        client.settimeout(0.05)
        for _ in range(100):
            try:
                client.sendall(b"G")
                assert client.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                pass  # what was not read yet makes it a reset
            return
    pytest.fail("nobody hung up")


def test_idle_between_requests(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two requests there is more time than for one."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.9)
    with served.connect() as client:
        client.sendall(OTHER)
        assert client.recv(4099).endswith(b"alive\n")
        client.settimeout(0.4)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.sendall(OTHER)
        client.settimeout(PATIENCE)
        assert client.recv(4099).endswith(b"alive\n")
        assert client.recv(1) == b""


def test_slow_readers(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest goes, when too much waits to be sent; a body that is shared counts once."""
    body = b"x" * 8_000_000
    rendering = Rendering(body)
    monkeypatch.setattr(server, "MOST_SENDING", 2.5 * len(body))
    shared = threading.Event()
    served.site.expose = lambda _: (
        rendering if shared.is_set() else Rendering(bytes(bytearray(body)))
    )
    with contextlib.ExitStack() as stack:

        def ask() -> socket.socket:
            client = stack.enter_context(served.connect())
            client.sendall(SCRAPE)
            assert client.recv(8) == b"HTTP/1.1"
            return client

        slow = [ask() for _ in range(3)]
        assert len(read(slow[0])) < len(body)
        shared.set()
        together = [ask() for _ in range(5)]  # one more body: the oldest goes
        assert len(read(slow[1])) < len(body)
        for client in (*together, slow[2]):
            client.shutdown(socket.SHUT_WR)
            assert read(client).endswith(body)


def test_answer_that_is_not_taken(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a time within which it has to be."""
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.3)
    served.site.expose = lambda _: Rendering(b"x" * 8_000_000)
    with served.connect() as client:
        client.sendall(SCRAPE)
        wait_until(lambda: _is_over(client), "the server has hung up")
        assert len(read(client)) < 8_000_000


def _is_over(client: socket.socket) -> bool:
    try:
        client.send(b"")
        client.sendall(b"G")
    except OSError:
        return True
    return False


def test_end_with_clients(served: Served) -> None:
    """The end waits for nobody."""
    client = served.connect()
    client.sendall(b"G")
    served.site.expose = lambda _: Rendering(b"x" * 8_000_000)
    reader = served.connect()
    reader.sendall(SCRAPE)
    assert reader.recv(8) == b"HTTP/1.1"
    for one in (client, reader):
        one.close()


def test_site_by_itself() -> None:
    """It answers without a server."""
    site = Site("/metrics")
    assert site.answer(Request("GET", "/metrics")) == busy("not ready yet")
    assert site.answer(Request("GET", "/-/ready")).status == 503
    assert site.answer(Request("GET", "/-/healthy")).status == 200
