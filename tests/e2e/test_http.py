# SPDX-License-Identifier: Apache-2.0
"""The web server as clients see it: formats, paths, methods, and clients that misbehave."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.client
import os
import re
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.e2e import program, workers
from tests.e2e.exposition import Exposition
from tests.kernel.lab import alone
from tests.network import cable, run
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ACCEPTS = {
    "": TEXT,
    "*/*": TEXT,
    "text/html,application/xhtml+xml,*/*;q=0.8": TEXT,
    "text/plain": TEXT,
    "text/plain;version=0.0.4": TEXT,
    "text/plain;version=abc": TEXT,
    "application/json": TEXT,
    "application/openmetrics-text": OPENMETRICS,
    "application/openmetrics-text;version=1.0.0": OPENMETRICS,
    "application/openmetrics-text; version=0.0.1": OPENMETRICS,
    "application/openmetrics-text;version=abc": TEXT,
    "application/openmetrics-text;version=2.0.0,text/plain": TEXT,
    "APPLICATION/OpenMetrics-Text": OPENMETRICS,
    "application/openmetrics-text;q=0": TEXT,
    "application/openmetrics-text;q=0.2,text/plain;q=0.9": TEXT,
    "application/openmetrics-text;q=0.9,text/plain;q=0.2": OPENMETRICS,
    "application/openmetrics-text;q=abc": TEXT,
    ";;;,,q=": TEXT,
    PROMETHEUS_2: OPENMETRICS,
    PROMETHEUS_3: OPENMETRICS,
}
CLIENTS = 50
IDLE = 60


# Formats


@pytest.mark.parametrize(("accept", "kind"), ACCEPTS.items())
def test_negotiation(exporter: Program, accept: str, kind: str) -> None:
    """The client gets what it prefers, in a form that the format's own parser reads."""
    answer = exporter.ask(accept=accept)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == kind
    found = Exposition(answer.body.decode(), openmetrics=kind == OPENMETRICS)
    found.check_law()
    assert answer.body.endswith(b"\n# EOF\n") == (kind == OPENMETRICS)


def test_no_accept_header(exporter: Program) -> None:
    """Who does not say gets the text format, uncompressed."""
    answer = exporter.ask()
    assert answer.headers["Content-Type"] == TEXT
    assert answer.headers["Content-Encoding"] is None
    Exposition(answer.body.decode()).check_law()


def test_formats_agree(exporter: Program, name: str) -> None:
    """Both formats hold the same families with the same types."""
    with Process(workers.talker, name, 11) as talker:
        talker.hear()
        talker.tell(7)
        talker.hear()
        text, openmetrics = exporter.scrape(), exporter.scrape(openmetrics=True)
    # The text format has the suffix in the name of the family; its parser takes it off.
    assert openmetrics.types == text.types
    assert set(text.types.values()) == {"counter", "gauge", "histogram"}
    for found in (text, openmetrics):
        assert found.traffic("group_", group=name, protocol="udp") == workers.traffic(7, 11)


@pytest.mark.parametrize(
    ("accept", "coded"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("*, gzip;q=0", False),
        ("br", False),
    ],
)
def test_compression(exporter: Program, accept: str, coded: bool) -> None:
    """The answer is compressed for those who accept it, and is the same then."""
    answer = exporter.ask(accept_encoding=accept)
    assert (answer.headers["Content-Encoding"] == "gzip") is coded
    assert "Accept-Encoding" in answer.headers["Vary"]
    body = gzip.decompress(answer.body) if coded else answer.body
    Exposition(body.decode()).check_law()


# Paths and methods


def test_head(exporter: Program) -> None:
    """HEAD gets the headers of GET and nothing more; the connection goes on."""
    connection = http.client.HTTPConnection(program.LOCAL, exporter.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        for path in ("/metrics", "/", "/healthz", "/readyz"):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert answer.status == 200
            assert int(answer.headers["Content-Length"]) > 0
            assert answer.read() == b""


def test_connection_is_kept(exporter: Program) -> None:
    """Prometheus scrapes on one connection: each answer is whole and new."""
    connection = http.client.HTTPConnection(program.LOCAL, exporter.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        for _ in range(3):
            connection.request("GET", "/metrics")
            Exposition(connection.getresponse().read().decode()).check_law()


def test_page(exporter: Program) -> None:
    """The page links to the metrics."""
    answer = exporter.ask("/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<a href="metrics">' in answer.body


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health(exporter: Program, path: str) -> None:
    """A running exporter is alive and ready, and says so to programs and people."""
    answer = exporter.ask(path)
    assert answer.status == 200
    assert answer.body.decode().strip()


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/metricsx", "/../metrics", "/%2e"])
def test_unknown_path(exporter: Program, path: str) -> None:
    """It is not found, and the answer says where the metrics are."""
    answer = exporter.ask(path)
    assert answer.status == 404
    assert b"/metrics" in answer.body


def test_other_parameters(exporter: Program) -> None:
    """Prometheus may add parameters."""
    answer = exporter.ask("/metrics?target=anything&module=")
    assert answer.status == 200
    Exposition(answer.body.decode()).check_law()


@pytest.mark.parametrize(
    ("query", "subjects"),
    [
        ("collect[]=total", {""}),
        ("collect%5B%5D=groups&collect[]=unidentified", {"group_", "unidentified_"}),
        ("collect[]=processes&a=b", {"process_"}),
        ("collect[]=exporter", set()),
    ],
)
def test_collect(exporter: Program, query: str, subjects: set[str]) -> None:
    """A scrape may be for some collectors only, and has their families then."""
    answer = exporter.ask(f"/metrics?{query}")
    assert answer.status == 200
    found = Exposition(answer.body.decode())
    counted = {name for name in found.types if re.fullmatch("netatop_.*transmit_packets", name)}
    assert counted == {f"netatop_{subject}transmit_packets" for subject in subjects}


@pytest.mark.parametrize("name", ["anything", "", "Total", "total,groups"])
def test_collect_of_what_there_is_not(exporter: Program, name: str) -> None:
    """It is named, and so are those that there are."""
    answer = exporter.ask(f"/metrics?collect[]=total&collect[]={name}")
    assert answer.status == 400
    said = f"collect[]: found {name!r}; accepted are total, unidentified, groups, "
    assert answer.body.decode().startswith(said)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods(exporter: Program, method: str) -> None:
    """There is nothing to change here."""
    assert exporter.ask(method=method).status in {405, 501}
    assert exporter.ask().status == 200


@pytest.mark.parametrize(
    "request_line",
    [
        b"nonsense\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 4000 + b"\r\n",
        b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
        b"\r\n\r\n",
    ],
    ids=["words", "version", "headers", "long", "tls", "empty"],
)
def test_nonsense(exporter: Program, request_line: bytes) -> None:
    """Whatever is sent, it is refused and the server goes on."""
    with socket.create_connection((program.LOCAL, exporter.port), timeout=PATIENCE) as client:
        client.sendall(request_line)
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            said = client.recv(1 << 16)
            assert b" 200 " not in said.partition(b"\r\n")[0]
    assert exporter.ask().status == 200
    assert "Traceback" not in exporter.log


def test_another_path() -> None:
    """The path of the metrics can be chosen; the usual one is unknown then."""
    with program.serve(path="/netatop/all") as exporter:
        exporter.scrape()
        assert exporter.ask("/metrics").status == 404
        assert (
            b'<a href="netatop/all">' in exporter.ask("/").body
        )  # relative: a proxy may add to it


# Many clients


def _attempt(exporter: Program) -> tuple[int, str]:
    answer = exporter.ask()
    if answer.status == 503:
        assert answer.headers["Retry-After"]
        return answer.status, ""
    Exposition(answer.body.decode()).check_law()
    return answer.status, answer.body.decode()


def test_fifty_scrapes_at_once(name: str) -> None:
    """Each gets a whole exposition or a clean 503; afterwards nothing is lost or stuck."""
    with program.serve() as exporter, Process(workers.talker, name, 5) as talker:
        talker.hear()
        talker.tell(89)
        talker.hear()
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(_attempt, [exporter] * CLIENTS))
        assert {status for status, _ in answers} <= {200, 503}
        whole = [Exposition(text) for status, text in answers if status == 200]
        assert whole
        for found in whole:
            assert found.traffic("group_", group=name, protocol="udp") == workers.traffic(89, 5)
        found = exporter.scrape()
        assert found.traffic("group_", group=name, protocol="udp") == workers.traffic(89, 5)
        assert set(found.series("netatop_scrape_stage_success").values()) == {1.0}


def test_more_scrapes_than_slots() -> None:
    """With room for one, a scrape while one is busy gets 503, and a later one works."""
    with program.serve("--web.max-requests", "1") as exporter, ThreadPoolExecutor(CLIENTS) as pool:

        def statuses() -> set[int]:
            return {status for status, _ in pool.map(_attempt, [exporter] * CLIENTS)}

        wait_until(lambda: 503 in statuses(), "some are sent away")
        wait_until(lambda: exporter.ask().status == 200, "the slot is free again")


def test_idle_connections() -> None:
    """Connections that say nothing are closed in time: scrapes work again by themselves."""
    with program.serve() as exporter, contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection((program.LOCAL, exporter.port)))
            for _ in range(IDLE)
        ]
        wait_until(lambda: exporter.ask().status == 200, "a scrape works in spite of them")
        exporter.scrape()
        assert all(connection.fileno() >= 0 for connection in idle)


def test_slow_clients() -> None:
    """Clients that never finish their request do not keep others out, however busy they look."""
    with program.serve() as exporter, contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection((program.LOCAL, exporter.port)))
            for _ in range(IDLE)
        ]

        def scrape_works() -> bool:
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"G")
            return exporter.ask().status == 200

        wait_until(scrape_works, "a scrape works in spite of them")
        exporter.scrape()


def test_client_that_does_not_read(exporter: Program) -> None:
    """A client that asks and goes away, or never reads, harms nobody."""
    with contextlib.ExitStack() as stack:
        for leave in (True, False) * 5:
            client = socket.create_connection((program.LOCAL, exporter.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
            if leave:
                client.close()
            else:
                stack.enter_context(client)
        exporter.scrape()
    assert "Traceback" not in exporter.log


# Where it listens


@pytest.mark.parametrize(
    ("listen", "clients"),
    [("127.0.0.1:{}", ["127.0.0.1"]), ("[::1]:{}", ["::1"]), (":{}", ["127.0.0.1", "::1"])],
)
def test_listen_address(listen: str, clients: list[str]) -> None:
    """It listens where it is told, in either family or both."""
    port = program.free_port()
    with program.start("--web.listen-address", listen.format(port)) as exporter:
        for host in clients:
            wait_until(functools.partial(_is_ready, exporter, host, port), f"{host} answers")
        assert exporter.end() == 0


def _is_ready(exporter: Program, host: str, port: int) -> bool:
    assert exporter.process.poll() is None, exporter.log
    if not program.listens(port):
        return False
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def test_any_port() -> None:
    """With port 0 the kernel chooses; the log tells which port it is."""
    with program.start("--web.listen-address", f"{program.LOCAL}:0") as exporter:
        wait_until(lambda: " serves http://" in exporter.log, "it says where it serves")
        port = int(exporter.log.partition(f"http://{program.LOCAL}:")[2].partition("/")[0])
        assert port > 0
        assert _is_ready(exporter, program.LOCAL, port)
        assert exporter.end() == 0


def test_several_addresses(tmp_path: Path) -> None:
    """Each is served, and told in the log; a socket with a name goes when the exporter ends."""
    ports = (program.free_port(), program.free_port())
    path = tmp_path / "netatop.sock"
    listen = (f"{program.LOCAL}:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{path}")
    words = [word for address in listen for word in ("--web.listen-address", address)]
    with program.start(*words) as exporter:
        wait_until(lambda: exporter.log.count(" serves ") == 3, "it serves")
        assert _is_ready(exporter, program.LOCAL, ports[0])
        assert _is_ready(exporter, "::1", ports[1])
        assert path.stat().st_mode & 0o777 == 0o660
        for address in (f"http://{listen[0]}", f"http://{listen[1]}", listen[2]):
            assert f" serves {address}/metrics" in exporter.log
        for address in listen:
            done = program.run("status", "--web.listen-address", address)
            assert (done.returncode, done.stderr) == (0, "")
        curl = subprocess.run(
            ("curl", "-fsS", "--unix-socket", path, "http://localhost/metrics"),
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        Exposition(curl.stdout).check_law()
        message = program.refusal(program.run("serve", "--web.listen-address", listen[2]), 1)
        assert f"{path}: another program answers there" in message
        assert exporter.end() == 0
    assert not path.exists()


def test_socket_that_was_left(tmp_path: Path) -> None:
    """What a killed exporter has left is replaced; what is no socket is not."""
    path = tmp_path / "netatop.sock"
    address = f"unix:{path}"
    with program.start("--web.listen-address", address) as exporter:
        wait_until(lambda: " serves " in exporter.log, "it serves")
        exporter.end(signal.SIGKILL)
    assert path.exists()
    with program.start("--web.listen-address", address) as exporter:
        wait_until(lambda: " serves " in exporter.log, "it serves")
        assert exporter.end() == 0
    path.write_text("precious")
    message = program.refusal(program.run("serve", "--web.listen-address", address), 1)
    assert f"{path}: found a file that is no socket" in message
    assert path.read_text() == "precious"
    message = program.refusal(program.run("status", "--web.listen-address", address), 1)
    assert f"no exporter answers at {address} (/metrics): " in message


# Under which name


def _status(exporter: Program, host: str, path: str = "/metrics", near: str = program.LOCAL) -> int:
    connection = http.client.HTTPConnection(near, exporter.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        said = answer.read()
    refused = answer.status == 421
    assert refused == said.startswith(f"Host: found '{host}'; accepted on a loopback".encode())
    assert len(said) < 200 or not refused
    return answer.status


def test_names() -> None:
    """A name that a hostile site lets resolve to this host gets nothing, on either family."""
    port = program.free_port()
    words = ("--web.listen-address", f":{port}", "--web.allowed-host", "proxy.example.org")
    with program.start(*words) as exporter:
        exporter.port = port
        wait_until(exporter.is_ready, "it is ready")
        for near in (program.LOCAL, "::1"):
            for host in (program.LOCAL, "[::1]:1", f"localhost:{port}", socket.gethostname()):
                assert _status(exporter, host, near=near) == 200
            assert _status(exporter, "Proxy.example.org", near=near) == 200
            for path in ("/metrics", "/", "/top", "/api/v1/groups", "/healthz", "/nowhere"):
                assert _status(exporter, "hostile.example.org", path, near) == 421
        assert _status(exporter, f"{program.LOCAL}.example.org:{port}") == 421
        # Resolves to 127.0.0.1 (inet_aton(3)), and is no address to whoever reads `Host`.
        command = program.run("status", "--web.listen-address", f"127.1:{port}")
        assert f"/metrics: Host: found '127.1:{port}'; accepted on" in program.refusal(command, 1)
        assert exporter.end() == 0


def test_names_on_other_addresses() -> None:
    """Who comes over the network may call the host what it is called there."""
    with alone(), cable() as ends:
        into = ("nsenter", f"--net=/run/netns/{ends.left.namespace.name}")
        port = program.free_port()
        with program.start("--web.listen-address", f":{port}", prefix=into) as exporter:
            wait_until(lambda: " serves " in exporter.log, "it serves")
            for address in (ends.left.ipv4, f"[{ends.left.ipv6}]"):
                url = f"http://{address}:{port}/metrics"
                curl = ("curl", "-fsSg", "--header", "Host: host.example.org", url)
                into = ("ip", "netns", "exec", ends.right.namespace.name)
                Exposition(run(*into, *curl)).check_law()
            assert exporter.end() == 0


HANDED = ("bash", "-c", 'exec 3<&"$0"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"')
"""Starts a program as systemd does with a socket unit (sd_listen_fds(3))."""


def test_sockets_of_systemd() -> None:
    """It serves on a socket that it is handed, and leaves it as it is."""
    with socket.create_server((program.LOCAL, 0)) as server:
        port = server.getsockname()[1]
        for _ in range(2):
            os.set_inheritable(server.fileno(), True)
            prefix = (*HANDED, str(server.fileno()))
            with program.start("--web.systemd-socket", prefix=prefix, passed=server) as exporter:
                wait_until(lambda e=exporter: _is_ready(e, program.LOCAL, port), "it answers")
                assert exporter.end() == 0
                assert f" serves http://{program.LOCAL}:{port}/metrics" in exporter.log
        with socket.create_connection((program.LOCAL, port)):
            pass  # whoever comes now waits for the next start


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--web.systemd-socket",), 1, "found no sockets from systemd (LISTEN_FDS)"),
        (
            ("--web.systemd-socket", "--web.listen-address", ":0"),
            2,
            "--web.systemd-socket: found with --web.listen-address; accepted is one of them",
        ),
        (("--web.listen-address", "unix:here"), 2, "accepted is an absolute path"),
        (("--web.listen-address", f"unix:/{'x' * 107}"), 2, "of up to 107 bytes"),
        (("--web.listen-address", "unix:/nowhere/sock"), 1, "cannot listen on unix:/nowhere/sock"),
    ],
)
def test_no_socket(words: tuple[str, ...], status: int, said: str) -> None:
    """The flag is named, and what would be accepted."""
    assert said in program.refusal(program.run("serve", *words), status)


def test_what_is_no_listener() -> None:
    """A descriptor that is something else is refused."""
    with socket.socket() as other:
        os.set_inheritable(other.fileno(), True)
        prefix = (*HANDED, str(other.fileno()))
        with program.start("--web.systemd-socket", prefix=prefix, passed=other) as exporter:
            assert exporter.process.wait(PATIENCE) == 1
            assert "--web.systemd-socket: found something else at descriptor 3" in exporter.log
