# SPDX-License-Identifier: Apache-2.0
"""The installed program, run as a process and looked at from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.e2e.exposition import Exposition
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COMMAND: Final = (sys.executable, "-m", "exporter")
LOCAL: Final = "127.0.0.1"
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"


def environment(**more: str) -> dict[str, str]:
    """Return ours, but for what changes how Python treats standard output."""
    return {name: v for name, v in os.environ.items() if name != "PYTHONUNBUFFERED"} | more


def run(
    *words: str | Path, prefix: Sequence[str] = (), more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return subprocess.run(
        (*prefix, *COMMAND, *map(str, words)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd="/",  # not the checkout: what is installed runs
        env=environment(**(more or {})),
    )


def first_line(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose reader leaves after one line; the status is the reader's."""
    return subprocess.run(
        ("sh", "-c", '"$@" | head -1', "sh", *COMMAND, *words),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd="/",
        env=environment(),
    )


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return its messages, but those about network namespaces, which others may have made."""
    lines = done.stderr.splitlines()
    return [line for line in lines if ' level=warn msg="network namespaces ' not in line]


def refusal(done: subprocess.CompletedProcess[str], status: int) -> str:
    """Return the message of a command that failed as it should: one, for people, to the point."""
    assert done.returncode == status, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    first, *rest = done.stderr.splitlines()
    assert first.startswith("netatop-exporter: ")
    assert all(line.startswith("libbpf: ") for line in rest), done.stderr
    return first


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server((LOCAL, 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Answer(NamedTuple):
    """What the web server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Program:
    """A running `serve`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, path: str) -> None:
        self.process = process
        self.port = port
        self._log = log
        self._path = path
        self._last: Exposition | None = None
        self.is_ours = True
        """Nobody else scrapes it: what one scrape has seen, the next one does not see as new."""

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    @property
    def address(self) -> str:
        """Return where it serves, as --web.listen-address takes it."""
        return f"{LOCAL}:{self.port}"

    @property
    def log(self) -> str:
        """Return what it has written to standard error."""
        return self._log.read_text()

    def ask(self, path: str = "/metrics", method: str = "GET", **headers: str) -> Answer:
        """Make a request on a connection of its own; `accept_encoding` is `Accept-Encoding`."""
        connection = http.client.HTTPConnection(LOCAL, self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            named = {name.replace("_", "-").title(): text for name, text in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def scrape(self, *, openmetrics: bool = False) -> Exposition:
        """Scrape, and check what holds for every scrape."""
        answer = self.ask(self._path, accept=OPENMETRICS if openmetrics else "text/plain")
        assert answer.status == 200, answer
        found = Exposition(answer.body.decode(), openmetrics=openmetrics)
        found.check_law()
        found.check_series()
        found.check_remotes()
        if self._last:
            found.check_growth(self._last)
            if self.is_ours:
                found.check_members(self._last)
        self._last = found
        return found

    def is_ready(self) -> bool:
        """Tell whether it answers that it is ready; an error if it has ended."""
        assert self.process.poll() is None, f"status {self.process.returncode}: {self.log}"
        if not listens(int(self.address.rpartition(":")[2])):
            return False
        try:
            return self.ask("/readyz").status == 200
        except OSError:
            return False

    def reload(self) -> None:
        """Have it read its configuration again, and wait until that is applied."""
        before = self.log.count(": applied")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log.count(": applied") > before, "the configuration is applied")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def listens(port: int) -> bool:
    """Tell whether somebody listens there, without a packet: other tests count all strays."""
    state = re.compile(rf":{port:04X} 0+:0000 0A ")  # proc_pid_net(5)
    return any(state.search(Path("/proc/net", file).read_text()) for file in ("tcp", "tcp6"))


@contextlib.contextmanager
def start(
    *words: str,
    path: str = "/metrics",
    prefix: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
    passed: socket.socket | None = None,
) -> Iterator[Program]:
    """Start `serve` with these flags, on a free port if they don't tell where.

    It is killed at the end of the block, if need be. passed: a descriptor that it gets.
    """
    port = free_port()
    chosen = {"--web.listen-address", "--web.systemd-socket"} & set(words)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as stderr:
            where = () if chosen else ("--web.listen-address", f"{LOCAL}:{port}")
            process = subprocess.Popen(
                (*prefix, *COMMAND, "serve", *where, "--web.telemetry-path", path, *words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd="/",
                env=environment(**(more or {})),
                pass_fds=(passed.fileno(),) if passed else (),
            )
        try:
            yield Program(process, port, log, path)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def serve(
    *words: str,
    path: str = "/metrics",
    prefix: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Start it, wait until it is ready, and expect it to end well."""
    with start(*words, path=path, prefix=prefix, more=more) as program:
        wait_until(program.is_ready, "the exporter is ready")
        yield program
        assert program.end() == 0, program.log
        assert "Traceback" not in program.log
