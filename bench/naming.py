# SPDX-License-Identifier: Apache-2.0
"""What names cost: for each new process, and at each scrape; and what is exposed in the end.

Real processes that have each carried one datagram, read from the kernel; then each step by itself.

    sudo .venv/bin/python bench/naming.py [--processes N] [--repeat N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common import compile_c, print_table
from scrape import Case, workload

from exporter import metrics, reload
from exporter.attribution.bounds import Bounds
from exporter.attribution.ledger import Ledger
from exporter.attribution.namer import Namer
from exporter.collector import Collector
from exporter.config import document
from exporter.config.settings import Settings
from exporter.kernel.core_loader import CoreTracer, Options

if TYPE_CHECKING:
    from collections.abc import Callable

ONLY_2: Final = "no rules, version 2 cgroups only"
RULES: Final = {
    "no rules": "",
    ONLY_2: "",
    "20 rules, by command and user": "".join(
        f"- {{comm: [c{n}], user: [u{n}], name: g{n}}}\n" for n in range(20)
    ),
    "20 rules, by executable": "".join(f"- {{exe: [/bin/e{n}], name: g{n}}}\n" for n in range(20)),
    "20 rules, by command line": "".join(
        f"- {{cmdline: ['--port[= ](?P<p>{n}\\d+)'], name: 'g{{{{.Matches.p}}}}'}}\n"
        for n in range(20)
    ),
}
FULL: Final = {
    "one group": "",
    "as many groups as there may be": "groups: [{name: 'g{{.PID}}'}]",
}
KIBIBYTE: Final = 1024


def timed(step: Callable[[], object], repeat: int) -> float:
    """Return the median time of a step in milliseconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def measure(tracer: CoreTracer, rules: str, repeat: int, *, legacy: bool) -> list[str]:
    """Return the costs with these rules; names are found anew each time, then kept."""
    settings = document.parse(f"groups:\n{rules}".encode(), "rules") if rules else Settings()
    tracer.settle()
    snapshot = tracer.read()
    processes = [task for task in snapshot.tasks if task.is_process]
    sources = reload.sources(settings, tracer.cgroup_path)
    namer = Namer(settings, sources._replace(has_legacy_cgroups=legacy))

    def name_all() -> None:
        for process in processes:
            namer.name(process)

    def name_anew() -> None:
        namer.keep(())
        name_all()

    anew, kept = timed(name_anew, repeat), timed(name_all, repeat)
    ledger, bounds = Ledger(namer, settings.limits.groups), Bounds(settings.series_limits)
    report = timed(lambda: ledger.report(snapshot), repeat)
    facts = ledger.report(snapshot)
    choose = timed(lambda: bounds.choose(facts, snapshot.now_ns), repeat)
    return [
        f"{1000 * anew / len(processes):.1f}",
        *(f"{cost:.1f}" for cost in (kept, report, choose)),
    ]


def exposed(tracer: CoreTracer, rules: str) -> list[str]:
    """Return what a scrape has at the default limits."""
    settings = document.parse(rules.encode(), "rules")
    ledger = Ledger(reload.namer(settings, tracer.cgroup_path), settings.limits.groups)
    collector = Collector(tracer, ledger, settings, metrics.Build("", "", "", "", ""))
    rendering = collector.expose()
    assert rendering
    series = sum(not line.startswith(b"#") for line in rendering.body.splitlines())
    sizes = (len(text) / KIBIBYTE for text in (rendering.body, rendering.compressed))
    return [str(series), *(f"{size:.0f}" for size in sizes)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, CoreTracer(Options()) as tracer:
        program = compile_c("hold", Path(name))
        with workload(program, Case("", arguments.processes, 1)):
            rows = [
                [what, *measure(tracer, rules, arguments.repeat, legacy=what != ONLY_2)]
                for what, rules in RULES.items()
            ]
            head = (f"{arguments.processes} processes", "name, µs each", "kept, ms", "report, ms")
            print_table((*head, "choose, ms"), rows)
            head = ("at the default limits", "series", "KiB", "KiB, gzip")
            print_table(head, [[what, *exposed(tracer, rules)] for what, rules in FULL.items()])


if __name__ == "__main__":
    main()
