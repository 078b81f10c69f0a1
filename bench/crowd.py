# SPDX-License-Identifier: Apache-2.0
"""What scrapes take while others misuse the web server, and what memory that costs.

Real processes that have each carried one datagram, served by TLS, with 200 idle connections, 40
stalled handshakes, and 40 clients each that send a few bytes now and then, read a few now and then,
or send headers without an end; meanwhile one client scrapes as before, and then fifty do at once.
Then a hundred processes are served plainly, while fuzzed requests come as fast as they are
answered.

    sudo .venv/bin/python bench/crowd.py [--samples N] [--scrapes N] [--fuzzed N]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common import compile_c, print_table
from exposition import CONFIGURATION, EACH, Peak, Target, running
from scrape import COMMAND, QUIET, Case, workload

sys.path.insert(0, str(Path(__file__).parents[1]))  # certificates and clients are the tests'

from tests.e2e.certificates import Authority
from tests.e2e.test_web_crowd import Crowd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IDLE: Final = 200
EACH_KIND: Final = 40
AT_ONCE: Final = 50
PATIENCE: Final = 60
REST: Final = 0.05


def scrape(target: Target, trust: ssl.SSLContext | None) -> float:
    """Scrape as Prometheus does; return how long it took, in seconds."""
    start = time.perf_counter()
    if trust:
        made = http.client.HTTPSConnection(
            "localhost", target.port, timeout=PATIENCE, context=trust
        )
    else:
        made = http.client.HTTPConnection("localhost", target.port, timeout=PATIENCE)
    with contextlib.closing(made):
        made.request("GET", "/metrics", headers={"Accept-Encoding": "gzip", "User-Agent": "bench"})
        answer = made.getresponse()
        assert answer.status == http.HTTPStatus.OK, answer.status
        answer.read()
    return time.perf_counter() - start


@contextlib.contextmanager
def slow(crowd: Crowd) -> Iterator[None]:
    """Have clients send and read a few bytes now and then, until the end of the block."""
    over = threading.Event()
    sending = [crowd.greet() for _ in range(EACH_KIND)]
    reading = [crowd.greet() for _ in range(EACH_KIND)]

    def go_on() -> None:
        for one in reading:
            one.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not over.wait(0.5):
            for one in sending:
                with contextlib.suppress(OSError):
                    one.sendall(b"G")
            for one in reading:
                with contextlib.suppress(OSError):
                    one.recv(997)

    worker = threading.Thread(target=go_on)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def measure(
    what: str, target: Target, trust: ssl.SSLContext | None, scrapes: int, base: float
) -> tuple[list[str], float]:
    """Scrape again and again; return a row, and the median."""
    with Peak(target) as peak:
        seconds = []
        for _ in range(scrapes):
            seconds.append(scrape(target, trust))
            time.sleep(REST)
        median = statistics.median(seconds)
    ratio = median / (base or median)
    row = [what, f"{1e3 * median:.0f}", f"{1e3 * max(seconds):.0f}", f"{ratio:.1f}"]
    return [*row, f"{peak.most:.0f}"], median


def measure_crowd(target: Target, trust: ssl.SSLContext, scrapes: int) -> list[list[str]]:
    """Scrape alone, among others, and fifty at once among others."""
    alone, base = measure("by TLS, alone", target, trust, scrapes, 0)
    with contextlib.ExitStack() as stack:
        crowd = Crowd(target.port, trust, stack)
        for _ in range(IDLE):
            crowd.connect()
        for _ in range(EACH_KIND):
            crowd.stall()
            crowd.boast()
        stack.enter_context(slow(crowd))
        among, _ = measure("among the others", target, trust, scrapes, base)
        with Peak(target) as peak, ThreadPoolExecutor(AT_ONCE) as pool:
            seconds = list(pool.map(lambda _: scrape(target, trust), range(AT_ONCE)))
        median = statistics.median(seconds)
        together = [
            f"{AT_ONCE} at once among them",
            f"{1e3 * median:.0f}",
            f"{1e3 * max(seconds):.0f}",
            f"{median / base:.1f}",
            f"{peak.most:.0f}",
        ]
    return [alone, among, together]


def measure_fuzz(target: Target, scrapes: int, fuzzed: int) -> list[list[str]]:
    """Scrape alone, and while nonsense comes."""
    alone, base = measure("plain, alone", target, None, scrapes, 0)
    words = ("-m", "tests.e2e.fuzz_http", f"127.0.0.1:{target.port}", str(fuzzed))
    folder = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, *words], cwd=folder) as process:
        time.sleep(1)
        among, _ = measure("fuzzed meanwhile", target, None, scrapes, base)
        assert process.wait() == 0
    return [alone, among]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--scrapes", type=int, default=23)
    parser.add_argument("--fuzzed", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Authority(folder).issue("server", "DNS:localhost")
        trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        configuration, web = folder / "netatop-exporter.yml", folder / "web.yml"
        configuration.write_text(CONFIGURATION)
        web.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
        program = compile_c("hold", folder)

        def words(*more: str) -> Callable[[int], list[str]]:
            where = "--web.listen-address=127.0.0.1"
            flags = (f"--config.file={configuration}", *QUIET, *more)
            return lambda port: [str(COMMAND), "serve", f"{where}:{port}", *flags]

        head = (
            f"{arguments.samples:,} samples",
            "median, ms",
            "most, ms",
            "ratio",
            "most PSS, MiB",
        )
        case = Case("", max(1, arguments.samples // EACH), 1)
        secured = words(f"--web.config.file={web}")
        with (
            running("ours", secured, lambda target: scrape(target, trust)) as target,
            workload(program, case),
        ):
            scrape(target, trust)
            print_table(head, measure_crowd(target, trust, arguments.scrapes))
        # Some of what is fuzzed is a good request for all metrics: let these be few.
        few = Case("", 100, 1)
        head = ("few samples", *head[1:])
        with running("ours", words()) as target, workload(program, few):
            scrape(target, None)
            print_table(head, measure_fuzz(target, arguments.scrapes, arguments.fuzzed))


if __name__ == "__main__":
    main()
