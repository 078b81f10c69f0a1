# SPDX-License-Identifier: Apache-2.0
"""What the watchdog is to notice is noticed: who is stuck does not go round."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from exporter.collector import Collector
from exporter.config.flags import Address
from exporter.config.settings import Settings
from exporter.exposition.rendering import Rendering
from exporter.listeners import Listeners
from exporter.metrics import Build
from exporter.web.policy import Policies
from exporter.web.server import Server
from exporter.web.site import Site
from tests.unit.facts import FakeTracer, ledger, process

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.model import SocketWalk

SHORT = 0.05
LONG = 60.0


class Stuck(FakeTracer):
    """A kernel that does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__(process(10))
        self.is_asked = threading.Event()
        self.let_go = threading.Event()

    def settle(self, *, list_sockets: bool = False) -> SocketWalk:
        self.is_asked.set()
        assert self.let_go.wait(LONG)
        return super().settle(list_sockets=list_sockets)


def test_collector() -> None:
    """While a scrape is stuck the main loop, which keeps the collector up, is stuck too."""
    tracer = Stuck()
    target = Collector(tracer, ledger(), Settings(), Build("0", "3", "fake", "0", "6"))
    scrape = threading.Thread(target=target.report)
    loop = threading.Thread(target=target.keep_up, args=(LONG,))
    scrape.start()
    assert tracer.is_asked.wait(LONG)
    loop.start()
    loop.join(SHORT)
    assert loop.is_alive()
    tracer.let_go.set()
    for thread in (loop, scrape):
        thread.join(LONG)
        assert not thread.is_alive()


def test_web_server(tmp_path: Path) -> None:
    """One whose thread is busy with one thing for ever, or has ended, does not go round."""
    listeners = Listeners.open([Address(path=str(tmp_path / "sock"))])
    server = Server(Site("/metrics"), listeners, Policies(None), 7)
    let_go = threading.Event()
    with server:
        assert server.goes_round(LONG)
        server._loop.call_soon_threadsafe(let_go.wait, LONG)
        assert not server.goes_round(SHORT)
        let_go.set()
        assert server.goes_round(LONG)
    assert not server.goes_round(SHORT)


def test_finish(tmp_path: Path) -> None:
    """Who has asked is answered, who asks later is not taken; an idle client is not waited for."""
    site, path = Site("/metrics"), str(tmp_path / "sock")
    asked, let_go = threading.Event(), threading.Event()

    def expose(_: object) -> Rendering:
        asked.set()
        assert let_go.wait(LONG)
        return Rendering(b"a 1\n")

    site.expose = expose
    listeners = Listeners.open([Address(path=path)])
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    with contextlib.ExitStack() as ends, Server(site, listeners, Policies(None), 7) as server:
        idle, asking, late = map(ends.enter_context, clients)
        idle.connect(path)
        asking.connect(path)
        asking.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert asked.wait(LONG)
        begun = time.monotonic()
        server.finish(SHORT)
        assert time.monotonic() - begun >= SHORT
        late.connect(path)  # the queue takes it, and nobody else
        late.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        threading.Timer(SHORT, let_go.set).start()
        server.finish(LONG)
        assert asking.recv(4099).startswith(b"HTTP/1.1 200 OK")
        assert time.monotonic() - begun < LONG / 2
        late.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            late.recv(4099)


def test_health() -> None:
    """What `systemctl status` shows is what the kernel side says now."""
    tracer = FakeTracer(process(10))
    target = Collector(tracer, ledger(), Settings(), Build("0", "3", "fake", "0", "6"))
    assert str(target.health()) == "1 programs attached; lost: nothing"
    tracer.failures["read"] = ZeroDivisionError("x")
    assert str(target.health()) == "1 programs attached; lost: nothing; failed: read"
    target.close()
    assert target.health() is None
