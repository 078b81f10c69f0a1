# SPDX-License-Identifier: Apache-2.0
"""Throughput with the programs attached against detached: over loopback, in interleaved pairs.

Loopback is the hard case: no wire and no device slow the packets down, so the programs show most.
"echo" is harder still: one byte there and back, a packet for every system call. "exits" are
processes that live for one datagram. With --without netfilter, all programs are compared with all
but the netfilter links.

    sudo .venv/bin/python bench/tcp.py [--pairs N] [--seconds S] [--loads LOAD ...]
        [--without netfilter]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Final

from common import Moved, compile_c, print_table, run_load

from exporter.kernel.core_loader import CoreTracer, Options

UNITS: Final = {
    "bulk": ("GB", 1e9),
    "echo": ("1000 round trips", 1e3),
    "udp": ("1000 datagrams", 1e3),
    "exits": ("1000 processes", 1e3),
}
AIMS: Final = {"bulk": "99 %"}
STATISTICS: Final = Path("/proc/sys/kernel/bpf_stats_enabled")


def attached(load: Path, mode: str, seconds: float, *, netfilter: bool = True) -> Moved:
    """Return what moved while the programs count, settled once as a scrape would."""
    with CoreTracer(Options(netfilter=netfilter)) as tracer:
        moved = run_load(load, mode, seconds)
        tracer.settle()
        lost = {what: count for what, count in tracer.read().lost.items() if count}
    assert not lost, lost
    return moved


def pair(
    load: Path, mode: str, seconds: float, *, first: bool, without: str
) -> tuple[Moved, Moved]:
    """Return (with, without), measured one after the other; `first`: with first."""

    def less() -> Moved:
        if without == "netfilter":
            return attached(load, mode, seconds, netfilter=False)
        return run_load(load, mode, seconds)

    if first:
        with_it = attached(load, mode, seconds)
        return with_it, less()
    without_it = less()
    return attached(load, mode, seconds), without_it


def row(pairs: list[tuple[Moved, Moved]], mode: str, field: str) -> list[str]:
    """Return the medians, their ratio, and the median of the pairs' ratios."""
    values = [(getattr(a, field), getattr(b, field)) for a, b in pairs]
    with_it, without = (statistics.median(column) for column in zip(*values, strict=True))
    ratios = sorted(a / b for a, b in values)
    unit, scale = UNITS[mode]
    return [
        f"{mode}, {unit} {field.replace('_', ' ')}",
        f"{with_it / scale:.2f}",
        f"{without / scale:.2f}",
        f"{with_it / without:.1%}",
        f"{statistics.median(ratios):.1%}",
        f"{ratios[0]:.1%} to {ratios[-1]:.1%}",
        AIMS.get(mode, ""),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--loads", nargs="+", choices=UNITS, default=["bulk", "echo"])
    parser.add_argument("--without", choices=("all", "netfilter"), default="all")
    arguments = parser.parse_args()
    if STATISTICS.read_text(encoding="ascii").strip() != "0":
        parser.error("kernel.bpf_stats_enabled is set: the statistics cost more than the programs")
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        load = compile_c("load", Path(name))
        for mode in arguments.loads:
            run_load(load, mode, 0.5)  # warms up
            # Turn and turn about: a drift of the machine favours neither.
            pairs = [
                pair(
                    *(load, mode, arguments.seconds),
                    first=bool(number % 2),
                    without=arguments.without,
                )
                for number in range(arguments.pairs)
            ]
            rows += [row(pairs, mode, field) for field in Moved._fields]
    head = (
        "with",
        f"without {arguments.without}",
        "ratio",
        "median of pairs",
        "least to most",
        "aim",
    )
    print_table((f"{arguments.pairs} pairs of {arguments.seconds:g} s", *head), rows)


if __name__ == "__main__":
    main()
