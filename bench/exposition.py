# SPDX-License-Identifier: Apache-2.0
"""One scrape from end to end, many at once, and one each 15 s; beside others that do the same.

Real processes that have each carried one datagram; each has a group and series of its own. The same
exporter is started twice, once with prometheus_client's renderer. A third one is written in Go:
prometheus-process-exporter as Debian has it (or --go PATH), which tells other things of the same
processes, read from /proc. All three are asked in turn: their times can be held against each other.

    sudo .venv/bin/python bench/exposition.py [--samples N ...] [--scrapes N] [--clients N]
                                              [--seconds N]
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil
from common import compile_c, print_table
from scrape import COMMAND, MEBIBYTE, QUIET, Case, workload

sys.path.insert(0, str(Path(__file__).parents[1]))  # prometheus_client's side, as the tests have it

from exporter import cli, collector
from tests.unit import clients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from exporter.exposition.table import Families

GO: Final = "prometheus-process-exporter"
EACH: Final = 21
"""Samples of one process with its group."""
LIMIT: Final = 10_000
CONFIGURATION: Final = f"""\
groups: [{{name: 'g{{{{.PID}}}}'}}]
limits: {{groups: {LIMIT}, processes: {LIMIT}}}
"""
GO_CONFIGURATION: Final = """\
process_names: [{name: '{{.PID}}', cmdline: ['.+']}]
"""
# Not what costs most in it, and has nothing to do with text.
GO_FLAGS: Final = ("-threads=false", "-gather-smaps=false", "-children=false")
SERVE: Final = "serve-with-prometheus-client"
ASK: Final = (
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nConnection: close\r\n"
)
REQUEST: Final = {False: ASK + b"\r\n", True: ASK + b"Accept-Encoding: gzip\r\n\r\n"}
"""Whether it wants gzip."""
REST: Final = 15
"""Seconds between two scrapes."""
PATIENCE: Final = 60


class ClientRenderer:
    """prometheus_client's, in the place of ours; its families are made anew for each scrape."""

    def render(self, tables: Iterable[Families], *, openmetrics: bool = False) -> bytes:
        """Return the same text."""
        return clients.render(tables, openmetrics=openmetrics)


class Got(NamedTuple):
    """An answer."""

    seconds: float
    size: int
    samples: int
    digest: int


def receive(client: socket.socket, start: float) -> Got:
    """Read an answer, which is looked at after the time is taken."""
    parts = []
    while part := client.recv(MEBIBYTE):
        parts.append(part)
    seconds = time.perf_counter() - start
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    assert b" 200 OK" in head.partition(b"\r\n")[0], head
    samples = body.count(b"\n") - body.count(b"\n#")
    return Got(seconds, len(body), samples, zlib.crc32(body))


class Target(NamedTuple):
    """A running exporter."""

    name: str
    process: psutil.Process
    port: int

    def scrape(self, *, gzip: bool = False) -> Got:
        """Ask once, on a connection of its own."""
        start = time.perf_counter()
        with self.connect() as client:
            client.sendall(REQUEST[gzip])
            return receive(client, start)

    def connect(self) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def processor_seconds(self) -> float:
        """Return what it has used."""
        used = self.process.cpu_times()
        return used.user + used.system

    def memory(self) -> float:
        """Return the proportional set size in MiB."""
        pss: int = self.process.memory_full_info().pss
        return pss / MEBIBYTE


@contextlib.contextmanager
def running(
    name: str,
    words: Callable[[int], list[str]],
    ask: Callable[[Target], object] = Target.scrape,
) -> Iterator[Target]:
    """Run a server on a free port of 127.0.0.1, until it answers and to the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(words(port), stderr=subprocess.DEVNULL if name == GO else None)
    try:
        target = Target(name, psutil.Process(process.pid), port)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert process.poll() is None, f"{name} has ended"
            with contextlib.suppress(OSError, AssertionError):
                ask(target)
                break
            time.sleep(0.05)
        yield target
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def all_targets(folder: Path, arguments: argparse.Namespace) -> Iterator[list[Target]]:
    """Run ours, ours with prometheus_client's renderer, and the one in Go, if it is there."""
    ours, theirs = folder / "netatop-exporter.yml", folder / "process-exporter.yml"
    ours.write_text(CONFIGURATION)
    theirs.write_text(GO_CONFIGURATION)

    def flags(port: int) -> list[str]:
        return [
            f"--web.listen-address=127.0.0.1:{port}",
            f"--web.max-requests={arguments.clients + 10}",
            f"--config.file={ours}",
            *QUIET,
        ]

    with contextlib.ExitStack() as ends:
        found = [
            ends.enter_context(running("ours", lambda port: [str(COMMAND), "serve", *flags(port)])),
            ends.enter_context(
                running(
                    "generate_latest",
                    lambda port: [sys.executable, __file__, SERVE, *flags(port)],
                )
            ),
        ]
        if arguments.go:
            words = [arguments.go, "-config.path", str(theirs), *GO_FLAGS]
            found.append(
                ends.enter_context(
                    running(GO, lambda port: [*words, "-web.listen-address", f"127.0.0.1:{port}"])
                )
            )
        else:
            print(f"{GO} is not there: apt-get install {GO}, or --go PATH\n")
        yield found


def measure_one(targets: list[Target], scrapes: int) -> list[list[str]]:
    """Ask all in turn; return medians, and what a sample takes against one of ours."""
    ways = [(target, gzip) for target in targets for gzip in (False, True)]
    got: dict[tuple[Target, bool], list[Got]] = {way: [] for way in ways}
    used = dict.fromkeys(ways, 0.0)
    for _ in range(scrapes):
        for target, gzip in ways:
            before = target.processor_seconds()
            got[target, gzip].append(target.scrape(gzip=gzip))
            used[target, gzip] += target.processor_seconds() - before
    rows, base = [], 0.0
    for target, gzip in ways:
        # What is compressed can't be counted: it is what the scrape before had.
        samples = got[target, False][-1].samples
        seconds = statistics.median(one.seconds for one in got[target, gzip])
        each = seconds / samples
        base = base or each
        rows.append(
            [
                target.name + (", gzip" if gzip else ""),
                f"{samples:,}",
                f"{got[target, gzip][-1].size / 1024:,.0f}",
                f"{1e3 * seconds:.0f}",
                f"{1e3 * used[target, gzip] / scrapes:.0f}",
                f"{1e6 * each:.2f}",
                f"{each / base:.1f}",
                f"{target.memory():.0f}",
            ]
        )
    return rows


class Peak:
    """Looks at the memory of a process all the time."""

    def __init__(self, target: Target) -> None:
        self.most = 0.0
        self._target = target
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._target.memory())


def measure_many(target: Target, clients_at_once: int, *, gzip: bool) -> list[str]:
    """Let so many ask at once: they are connected already."""
    before = target.memory()
    with (
        Peak(target) as peak,
        ThreadPoolExecutor(clients_at_once) as pool,
        contextlib.ExitStack() as ends,
    ):
        connected = [ends.enter_context(target.connect()) for _ in range(clients_at_once)]
        start = time.perf_counter()
        for client in connected:
            client.sendall(REQUEST[gzip])
        got = list(pool.map(lambda client: receive(client, start), connected))
    seconds = sorted(one.seconds for one in got)
    return [
        target.name + (", gzip" if gzip else ""),
        f"{seconds[0]:.2f}",
        f"{statistics.median(seconds):.2f}",
        f"{seconds[-1]:.2f}",
        str(len({one.digest for one in got})),
        f"{before:.0f}",
        f"{peak.most:.0f}",
        f"{target.memory():.0f}",
    ]


def share(target: Target, seconds: float, scrapes: int) -> float:
    """Return how much of a core it uses with so many scrapes in this time."""
    start, before = time.perf_counter(), target.processor_seconds()
    for number in range(scrapes):
        time.sleep(max(0, start + seconds * number / scrapes - time.perf_counter()))
        target.scrape(gzip=True)
    time.sleep(max(0, start + seconds - time.perf_counter()))
    return (target.processor_seconds() - before) / (time.perf_counter() - start)


def measure_share(seconds: int, folder: Path) -> list[str]:
    """Scrape now and then, at the default settings; return what that takes of a core."""
    words = [str(COMMAND), "serve", *QUIET, "--web.listen-address"]
    with (
        running("ours", lambda port: [*words, f"127.0.0.1:{port}"]) as target,
        workload(compile_c("hold", folder), Case("", 1000, 1)),
    ):
        samples = target.scrape().samples
        shares = [share(target, seconds // 2, 0), share(target, seconds, seconds // REST)]
        return [f"{samples:,}", *(f"{100 * one:.2f}" for one in shares), f"{target.memory():.1f}"]


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == [SERVE]:
        collector.Renderer = ClientRenderer  # type: ignore[assignment,misc]
        sys.exit(cli.main(["serve", *sys.argv[2:]]))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--scrapes", type=int, default=9)
    parser.add_argument("--clients", type=int, default=50, help="at once; 0: not measured")
    parser.add_argument("--seconds", type=int, default=120, help="one each 15 s; 0: not measured")
    parser.add_argument("--go", default=shutil.which(GO), help=f"where {GO} is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for samples in arguments.samples:
            program = compile_c("hold", folder)
            # What was sent before is not counted: the workload comes second.
            with (
                all_targets(folder, arguments) as targets,
                workload(program, Case("", max(1, samples // EACH), 1)),
            ):
                rows = measure_one(targets, arguments.scrapes)
                head = ("one scrape", "samples", "KiB", "ms", "CPU, ms", "µs a sample", "ratio")
                print_table((*head, "PSS, MiB"), rows)
                if arguments.clients:
                    rows = [
                        measure_many(target, arguments.clients, gzip=gzip)
                        for target in targets[:2]
                        for gzip in (False, True)
                    ]
                    head = (
                        f"{arguments.clients} at once",
                        "first, s",
                        "median",
                        "last",
                        "different",
                    )
                    print_table((*head, "PSS before", "most", "after"), rows)
        if arguments.seconds >= REST:
            row = measure_share(arguments.seconds, folder)
            head = ("samples", "% of a core, idle", f"one scrape each {REST} s", "PSS, MiB")
            print_table(("", *head), [["1,000 processes", *row]])


if __name__ == "__main__":
    main()
