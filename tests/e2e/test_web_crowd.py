# SPDX-License-Identifier: Apache-2.0
"""Many clients at once, most of them a nuisance: those that scrape get all they ask for."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.e2e import fuzz_http, program, workers
from tests.e2e.certificates import Authority
from tests.e2e.exposition import Exposition
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SCRAPES = 50
IDLE = 200
STALLED = 40
FUZZED = 2_003
MEBIBYTE = 1 << 20


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Program]:
    """Serve by TLS and, on a second port, without."""
    Authority(tmp_path).issue("server", "DNS:localhost")
    configuration = tmp_path / "web.yml"
    configuration.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    with program.start("--web.config.file", str(configuration), "--collector.sockets") as made:
        wait_until(lambda: " serves https://" in made.log, "the exporter is ready")
        yield made
        assert made.end() == 0
        assert "Traceback" not in made.log


@pytest.fixture
def trust(exporter: Program, tmp_path: Path) -> ssl.SSLContext:
    """Return what a client needs."""
    assert exporter.port
    return ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))


class Crowd:
    """Clients that cost something and want nothing."""

    def __init__(self, port: int, trust: ssl.SSLContext, stack: contextlib.ExitStack) -> None:
        self._port, self._trust, self._stack = port, trust, stack

    def connect(self) -> socket.socket:
        """Connect and say nothing."""
        made = socket.create_connection((program.LOCAL, self._port), timeout=PATIENCE)
        return self._stack.enter_context(made)

    def stall(self) -> None:
        """Begin a handshake that does not go on."""
        self.connect().sendall(b"\x16\x03\x01\x02\x00\x01")

    def greet(self) -> ssl.SSLSocket:
        """Make the handshake and say nothing."""
        made = self._trust.wrap_socket(self.connect(), server_hostname="localhost")
        return self._stack.enter_context(made)

    def dawdle(self) -> None:
        """Begin a request."""
        self.greet().sendall(b"GET /metrics HTTP/1.1\r\nHost: loc")

    def ignore(self) -> None:
        """Ask, and never read the answer."""
        self.greet().sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)

    def boast(self) -> None:
        """Send headers without an end."""
        with contextlib.suppress(OSError):
            self.greet().sendall(b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 9_001)


def memory(exporter: Program) -> int:
    """Return its proportional set size in bytes."""
    return int(psutil.Process(exporter.pid).memory_full_info().pss)


def scrape(exporter: Program, trust: ssl.SSLContext) -> Exposition:
    """Scrape by TLS."""
    made = http.client.HTTPSConnection("localhost", exporter.port, timeout=PATIENCE, context=trust)
    with contextlib.closing(made):
        made.request("GET", "/metrics", headers={"User-Agent": "crowd"})
        answer = made.getresponse()
        assert answer.status == 200
        found = Exposition(answer.read().decode())
        found.check_law()
        return found


def test_crowd(exporter: Program, trust: ssl.SSLContext, name: str) -> None:
    """All scrapes are answered; memory stays bounded; what was counted is right afterwards."""
    before = memory(exporter)
    with Process(workers.talker, name, 13) as talker, contextlib.ExitStack() as stack:
        talker.hear()
        talker.tell(101)
        talker.hear()
        crowd = Crowd(exporter.port, trust, stack)
        for _ in range(STALLED):
            crowd.stall()
            crowd.greet()
            crowd.dawdle()
            crowd.ignore()
            crowd.boast()
        for _ in range(IDLE):
            crowd.connect()
        with ThreadPoolExecutor(SCRAPES) as pool:
            found = list(pool.map(lambda _: scrape(exporter, trust), range(SCRAPES)))
        for each in found:
            assert each.traffic("group_", group=name, protocol="udp") == workers.traffic(101, 13)
        assert memory(exporter) - before < 64 * MEBIBYTE
        assert psutil.Process(exporter.pid).num_threads() < 50
        after = scrape(exporter, trust)
        assert after.traffic("group_", group=name, protocol="udp") == workers.traffic(101, 13)
    wait_until(
        lambda: psutil.Process(exporter.pid).num_fds() < IDLE, "nothing is kept for who has gone"
    )


def test_fuzzed_requests(name: str) -> None:
    """Nothing but refusals for what is no request, in the middle of which scrapes go on."""
    with (
        program.serve() as exporter,
        Process(workers.talker, name, 13) as talker,
    ):
        talker.hear()
        over = threading.Event()
        before = memory(exporter)

        def scrape_on() -> int:
            count = 0
            while not over.is_set():
                assert exporter.ask().status == 200
                count += 1
            return count

        with ThreadPoolExecutor(1) as pool:
            going_on = pool.submit(scrape_on)
            try:
                found = fuzz_http.fuzz((program.LOCAL, exporter.port), FUZZED, 7)
            finally:
                over.set()
            assert going_on.result() > 10
        assert found.total() == FUZZED
        assert {400, 404, 405, 421, 431} <= set(found)
        assert memory(exporter) - before < 32 * MEBIBYTE
        talker.tell(101)
        talker.hear()
        exporter.is_ours = False
        after = exporter.scrape()
        assert after.traffic("group_", group=name, protocol="udp") == workers.traffic(101, 13)
        assert "Traceback" not in exporter.log
