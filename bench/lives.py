# SPDX-License-Identifier: Apache-2.0
"""What it costs to count, or to watch, the lives of processes: nanoseconds per event in the kernel.

From the kernel's own statistics, while processes are made as fast as two processors can; and what
that makes of a core at 5,000 processes a second. Of a watcher also what Python needs per event.

    sudo .venv/bin/python bench/lives.py [--seconds S]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common import compile_c, print_table, run_load

from exporter.kernel.libbpf import ProgramInfo, open_library
from exporter.kernel.watcher import Filter, LifeCounter, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

BPF_STATS_RUN_TIME: Final = 0
FORKS: Final = 5000


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """Have the kernel time its programs."""
    fd = open_library().bpf_enable_stats(BPF_STATS_RUN_TIME)
    try:
        yield
    finally:
        os.close(fd)


def runs(attached: LifeCounter | Watcher) -> dict[str, tuple[int, int]]:
    """Return runs and nanoseconds of each program."""
    bpf, found = open_library(), {}
    program = bpf.bpf_object__next_program(attached.handle, None)
    while program:
        info, size = ProgramInfo(), ctypes.c_uint32(ctypes.sizeof(ProgramInfo))
        fd = bpf.bpf_program__fd(program)
        bpf.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
        name = bpf.bpf_program__name(program).decode()
        found[name] = info.run_cnt, info.run_time_ns
        program = bpf.bpf_object__next_program(attached.handle, program)
    return found


def costs(attached: LifeCounter | Watcher, load: Path, seconds: float) -> dict[str, float]:
    """Return nanoseconds per run of each program."""
    with statistics():
        before = runs(attached)
        run_load(load, "exits", seconds)
        after = runs(attached)
    return {
        name: (time_ns - before[name][1]) / max(count - before[name][0], 1)
        for name, (count, time_ns) in after.items()
    }


def python_per_event(seconds: float, load: Path) -> float:
    """Return microseconds of Python per event: read, decode, hand over."""
    with Watcher(Filter()) as watcher:
        process = subprocess.Popen([load, "exits", str(seconds)], stdout=subprocess.DEVNULL)
        events, begin = 0, time.process_time()
        while process.poll() is None:
            events += len(watcher.poll(0.1))
        spent = time.process_time() - begin
    return 1e6 * spent / max(events, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    rows = []
    with tempfile.TemporaryDirectory() as name:
        load = compile_c("load", Path(name))
        for what, attached in (("counted", LifeCounter()), ("watched", Watcher(Filter()))):
            with attached:
                found = costs(attached, load, seconds)
            fork, end = found["watch_fork"], found["watch_exit"]
            core = FORKS * (fork + end) / 1e9
            rows.append([what, f"{fork:.0f}", f"{end:.0f}", f"{core:.2%}"])
        print_table(("ns each", "fork", "exit", f"of a core at {FORKS} a second"), rows)
        print(f"Python, watched: {python_per_event(seconds, load):.1f} µs per event")


if __name__ == "__main__":
    main()
