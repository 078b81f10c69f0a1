# SPDX-License-Identifier: Apache-2.0
"""What `--compat.netatop` costs: each getsockopt(2), a question of netatop's, and each packet.

Attached and detached take turns; medians, and the range of the middle half.

    sudo .venv/bin/python bench/getsockopt.py [--pairs N] [--calls N]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common import compile_c, compile_empty, print_table, run_load
from packets import Empty

from exporter.kernel import cgroups
from exporter.kernel.core_loader import CoreTracer, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

SO_TYPE: Final = (socket.SOL_SOCKET, socket.SO_TYPE, 4)
GETCNT_TGID: Final = (socket.SOL_IP, 15665, 96)


def per_call(program: Path, option: tuple[int, int, int], calls: int) -> float:
    """Return nanoseconds per call."""
    done = subprocess.run(
        [program, *map(str, option), str(calls)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def row(what: str, values: Sequence[float]) -> list[str]:
    """Return a row: median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return [what, f"{middle:.0f}", f"{low:.0f} to {high:.0f}"]


def measure(program: Path, load: Path, nothing: Path, pairs: int, calls: int) -> None:
    """Take turns, and print."""
    plain, empty, without, attached, asked = [], [], [], [], []
    cgroup = cgroups.open_cgroup(None)
    packets: dict[str, list[float]] = {"udp": [], "bulk": []}
    for _ in range(pairs):
        plain.append(per_call(program, SO_TYPE, calls))
        with Empty(nothing, cgroup.fd):
            empty.append(per_call(program, SO_TYPE, calls))
        with CoreTracer(Options()):
            without.append(per_call(program, SO_TYPE, calls))
            before = {mode: run_load(load, mode, 0.5) for mode in packets}
        with CoreTracer(Options(compat=True)):
            attached.append(per_call(program, SO_TYPE, calls))
            asked.append(per_call(program, GETCNT_TGID, calls))
            for mode, values in packets.items():
                moved = run_load(load, mode, 0.5)
                values.append(100 * moved.per_processor_second / before[mode].per_processor_second)
    cgroup.close()
    differences = [b - a for a, b in zip(without, attached, strict=True)]
    print_table(
        ("one getsockopt", "ns, median", "middle half"),
        [
            row("SO_TYPE, nothing attached", plain),
            row("SO_TYPE, an empty program at the hook", empty),
            row("SO_TYPE, without --compat.netatop", without),
            row("SO_TYPE, with it", attached),
            row("the difference", differences),
            row("GETCNT_TGID", asked),
        ],
    )
    print_table(
        ("load moved with it, of that without", "%, median", "middle half"),
        [row(mode, values) for mode, values in packets.items()],
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1_000_000)
    arguments = parser.parse_args()
    assert os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        program, load = compile_c("getsockopt", Path(name)), compile_c("load", Path(name))
        measure(program, load, compile_empty(Path(name)), arguments.pairs, arguments.calls)


if __name__ == "__main__":
    main()
