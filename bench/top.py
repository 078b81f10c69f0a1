# SPDX-License-Identifier: Apache-2.0
"""What `top` costs at each refresh: the answer in the exporter, and each step in `top` itself.

The processes are made up; nothing is counted or attached.

    .venv/bin/python bench/top.py [--processes N] [--repeat N]
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from common import print_table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the builders of the tests

from exporter.api import live, processes
from exporter.api import top as api_top
from exporter.api.live import Live
from exporter.top import plain, table
from exporter.top.choice import Choice
from exporter.top.screen import Table, Top
from exporter.top.views import VIEWS
from tests.unit import facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.model import Report

PROCESSES = VIEWS["processes"]


def report(number: int, now: int) -> Report:
    """Return a report of processes that all have used more than before."""
    return facts.ledger().report(
        facts.snapshot(
            *(
                facts.process(
                    pid,
                    f"process{pid}",
                    counters=facts.counters(
                        tcp_receive_packets=pid * now, tcp_receive_bytes=1009 * pid * now
                    ),
                )
                for pid in range(1, number + 1)
            ),
            now=now,
        )
    )


def milliseconds(step: Callable[[], object], repeat: int) -> str:
    """Return the median of the times that a step takes."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return f"{statistics.median(times) * 1000:.1f}"


async def draw(rows: list[table.Row], choice: Choice, repeat: int) -> str:
    """Measure what a key costs: choice, order, and all lines of a large screen."""
    app = Top(lambda _: table.Answer(True, 1.0, 1, ()), choice, 3600)
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.pause(0.5)
        found = app.query_one(Table)

        def once() -> None:
            found.show(choice.select(rows), choice)
            for y in range(found.size.height):
                found.render_line(y)

        return milliseconds(once, repeat)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=7)
    chosen = parser.parse_args()
    reports = [report(chosen.processes, now) for now in (100, 107)]
    bodies = [processes.answer(found, "") for found in reports]
    before, now = (table.parse(PROCESSES, json.loads(body)) for body in bodies)
    rows = table.rows(before, now)
    first = live._compare(None, reports[0])  # noqa: SLF001
    look = Live(lambda: reports[1])
    ask = functools.partial(api_top.answer, "/api/v1/top/processes", look)
    choice = Choice.make("processes", None, wanted="", reverse=False)
    steps: dict[str, Callable[[], object]] = {
        "exporter: write the answer": lambda: processes.answer(reports[0], ""),
        "exporter: a sample for the page": lambda: live._compare(first, reports[1]),  # noqa: SLF001
        "exporter: 100 rows of it": lambda: ask("limit=100&history=150"),
        "exporter: 100 rows, searched": lambda: ask("search=process&limit=100&history=150"),
        "top: read it": lambda: table.parse(PROCESSES, json.loads(bodies[0])),
        "top: rates": lambda: table.rows(before, now),
        "top --batch: write the table": lambda: list(plain.lines(PROCESSES, rows)),
    }
    found = [[name, milliseconds(step, chosen.repeat)] for name, step in steps.items()]
    found.append(["top: draw", asyncio.run(draw(rows, choice, chosen.repeat))])
    print(f"{chosen.processes} processes, {len(bodies[0]) / 1e6:.1f} MB")
    print_table(["step", "ms"], found)


if __name__ == "__main__":
    main()
