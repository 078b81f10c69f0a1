# SPDX-License-Identifier: Apache-2.0
"""What the exporter itself costs: memory, time to the first scrape, time of each stage of a scrape.

Starts the installed command on a free port of 127.0.0.1, as a user would, and reads what it says of
itself. The large cases are idle processes and sockets that have each carried one datagram.

    sudo .venv/bin/python bench/scrape.py [--starts N] [--scrapes N]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil
from common import compile_c, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND: Final = Path(sys.executable).with_name("netatop-exporter")
STAGE: Final = re.compile(
    r'^netatop_scrape_stage_duration_seconds\{stage="(\w+)"\} (\S+)$', re.MULTILINE
)
FAILED: Final = re.compile(r"^netatop_scrape_stage_success\{.*\} 0", re.MULTILINE)
STAGES: Final = ("settle", "read", "attribute", "programs", "families", "exposition")
QUIET: Final = ("--log.level", "error")
PATIENCE: Final = 10.0
MEBIBYTE: Final = 1 << 20


class Case(NamedTuple):
    """What the exporter looks at."""

    name: str
    processes: int
    sockets: int
    """In each process."""
    flags: tuple[str, ...] = ()


CASES: Final = (
    Case("1,000 processes", 1000, 1),
    Case("10,000 sockets", 1, 10_000),
    Case("10,000 sockets, listed", 1, 10_000, ("--collector.sockets",)),
    Case("26,000 sockets", 2, 13_000),
    Case("100,000 sockets", 10, 10_000),
)


class Exporter(NamedTuple):
    """A running exporter."""

    process: subprocess.Popen[bytes]
    port: int
    started: float

    def scrape(self) -> str:
        """Return one exposition; raises ConnectionError if the exporter is not ready."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode()
        if answer.status != http.HTTPStatus.OK:
            raise ConnectionError(text)
        assert not FAILED.search(text), FAILED.search(text)
        return text

    def first_scrape(self) -> float:
        """Try until a scrape succeeds; return how long that took since the start, in seconds."""
        while time.perf_counter() - self.started < PATIENCE:
            with contextlib.suppress(ConnectionError):
                self.scrape()
                return time.perf_counter() - self.started
            assert self.process.poll() is None, "the exporter has ended"
            time.sleep(0.005)
        message = f"no scrape in {PATIENCE} s"
        raise TimeoutError(message)

    def memory(self) -> float:
        """Return the proportional set size in MiB: what is shared counts in part."""
        pss: int = psutil.Process(self.process.pid).memory_full_info().pss
        return pss / MEBIBYTE


@contextlib.contextmanager
def exporter(*flags: str) -> Iterator[Exporter]:
    """Run `netatop-exporter serve` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    words = [str(COMMAND), "serve", "--web.listen-address", f"127.0.0.1:{port}", *QUIET, *flags]
    process = subprocess.Popen(words)
    try:
        yield Exporter(process, port, started)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def workload(program: Path, case: Case) -> Iterator[None]:
    """Keep the case's processes and sockets alive."""
    process = subprocess.Popen(
        [program, str(case.processes), str(case.sockets)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield
        # Its standard input ends with this block.


def measure_starts(starts: int) -> list[list[str]]:
    """Return the time of a start and the memory after it."""
    seconds, before, after = [], [], []
    for _ in range(starts):
        with exporter() as running:
            seconds.append(running.first_scrape())
            before.append(running.memory())
            for _ in range(100):
                running.scrape()
            after.append(running.memory())
    return [
        ["first scrape, s", f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", "1"],
        ["PSS after it, MiB", f"{statistics.median(before):.1f}", f"{max(before):.1f}", "40"],
        ["PSS after 100 more", f"{statistics.median(after):.1f}", f"{max(after):.1f}", "40"],
    ]


def measure_case(program: Path, case: Case, scrapes: int) -> list[str]:
    """Return medians in milliseconds: the whole as the client sees it, then each stage."""
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    whole, text = [], ""
    with exporter(*case.flags) as running:
        running.first_scrape()
        with workload(program, case):
            # `exposition` is the time of the scrape before: let there be one.
            running.scrape()
            for _ in range(scrapes):
                start = time.perf_counter()
                text = running.scrape()
                whole.append(time.perf_counter() - start)
                for stage, seconds in STAGE.findall(text):
                    stages[stage].append(float(seconds))
            memory = running.memory()
    medians = [1000 * statistics.median(values) for values in (whole, *stages.values())]
    return [
        case.name,
        *(f"{value:.1f}" for value in medians),
        str(text.count("\n")),
        f"{memory:.1f}",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--scrapes", type=int, default=15)
    arguments = parser.parse_args()
    rows = measure_starts(arguments.starts)
    print_table((f"{arguments.starts} starts", "median", "most", "aim"), rows)
    with tempfile.TemporaryDirectory() as name:
        program = compile_c("hold", Path(name))
        rows = [measure_case(program, case, arguments.scrapes) for case in CASES]
    head = (f"ms, median of {arguments.scrapes}", "whole", *STAGES, "lines", "PSS, MiB")
    print_table(head, rows)


if __name__ == "__main__":
    main()
