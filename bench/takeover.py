# SPDX-License-Identifier: Apache-2.0
"""Time until packets are counted: anew, taken over from a run before, and moved to another version.

The cases are idle processes that have used the network. "Moved" is by other flags: programs are
replaced and records copied, as for another version.

    sudo .venv/bin/python bench/takeover.py [--rounds N]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common import compile_c, print_table
from scrape import Case, workload

from exporter.kernel.core_loader import CoreTracer, Options
from exporter.kernel.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES: Final = (Case("1 process", 1, 1), Case("5,000 processes", 5000, 1))


@contextlib.contextmanager
def bpf_file_system() -> Iterator[Path]:
    """Mount one for a while."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "bpf", "bpf", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def start(path: Path, *, threads: bool) -> tuple[float, int]:
    """Return how long a start takes, in seconds, and how many records it finds."""
    began = time.perf_counter()
    with CoreTracer(Options(pin_path=str(path), count_threads=threads)) as tracer:
        seconds = time.perf_counter() - began
        return seconds, len(tracer.read().tasks)


def measure(program: Path, case: Case, rounds: int) -> list[str]:
    """Return medians in milliseconds: anew, taken over, moved."""
    found: tuple[list[float], ...] = ([], [], [])
    with bpf_file_system() as place, workload(program, case):
        path = place / "netatop"
        for _ in range(rounds):
            for times, threads in zip(found, (False, False, True), strict=True):
                seconds, records = start(path, threads=threads)
                assert records >= case.processes
                times.append(seconds)
            with Pins(str(path)) as pins:
                pins.remove()
    return [case.name, *(f"{1000 * statistics.median(times):.0f}" for times in found)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        program = compile_c("hold", Path(name))
        rows = [measure(program, case, arguments.rounds) for case in CASES]
    print_table((f"ms, median of {arguments.rounds}", "anew", "taken over", "moved"), rows)


if __name__ == "__main__":
    main()
