# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds per run of each kernel program, above an empty program at the same hook.

Both are attached together and timed by the kernel's own statistics, so they see the same packets.
"one call" is a program that calls one helper and does nothing else. No program is cheaper than its
calls: counting a packet takes one, comparing a socket's user with the current task takes two.
The programs count for the whole host: run it while nothing else does much.
With several objects (built from the same layouts), they take turns: before and after in one run.

    sudo .venv/bin/python bench/packets.py [--rounds N] [--seconds S] [--remotes PREFIX=CLASS ...]
        [--portable] [OBJECT ...]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from common import compile_c, compile_empty, print_table, run_load

from exporter.kernel import cgroups
from exporter.kernel.choice import open_tracer
from exporter.kernel.core_object import OBJECT, Options
from exporter.kernel.libbpf import ProgramInfo, open_library

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from exporter.kernel.tracer import Tracer

BPF_STATS_RUN_TIME: Final = 0
MODES: Final = ("udp", "bulk", "bytes", "connect", "udp6", "hosts")
AIMS: Final = {
    "cgroup_skb/ingress": 20,
    "cgroup_skb/egress": 20,
    "tp_btf/sock_send_length": 15,
    "tp_btf/sock_recv_length": 15,
}
ONE_CALL: Final = "one call, tp_btf/net_dev_queue"
FEW: Final = 1000
"""Hooks that run less often in a round say nothing."""


class Runs(NamedTuple):
    """The kernel's statistics of one program."""

    runs: int
    time_ns: int

    def per_run(self, before: Runs) -> float:
        """Return nanoseconds per run since `before`."""
        return (self.time_ns - before.time_ns) / max(self.runs - before.runs, 1)


class Figure(NamedTuple):
    """One hook in one round."""

    runs: int
    real_ns: float
    empty_ns: float


def fail(code: int) -> OSError:
    """Make the error of a failed call."""
    return OSError(code, os.strerror(code))


class Empty:
    """The empty programs, attached."""

    def __init__(self, path: Path, cgroup_fd: int) -> None:
        self._bpf = bpf = open_library()
        self._stack = contextlib.ExitStack()
        opened = bpf.pointer("bpf_object__open_file", bytes(path), None, error=fail)
        self._stack.callback(bpf.bpf_object__close, opened)
        bpf.call("bpf_object__load", opened, error=fail)
        self._fds: dict[str, int] = {}
        program = bpf.bpf_object__next_program(opened, None)
        while program:
            hook = bpf.bpf_program__section_name(program).decode()
            if hook == "tc":  # of forward.py
                program = bpf.bpf_object__next_program(opened, program)
                continue
            if hook.startswith("cgroup"):
                link = bpf.pointer("bpf_program__attach_cgroup", program, cgroup_fd, error=fail)
            else:
                link = bpf.pointer("bpf_program__attach", program, error=fail)
            self._stack.callback(bpf.bpf_link__destroy, link)
            called = bpf.bpf_program__name(program) == b"one_call"
            self._fds[ONE_CALL if called else hook] = bpf.bpf_program__fd(program)
            program = bpf.bpf_object__next_program(opened, program)

    def runs(self) -> dict[str, Runs]:
        """Return the statistics by hook."""
        result = {}
        for hook, fd in self._fds.items():
            info = ProgramInfo()
            size = ctypes.c_uint32(ctypes.sizeof(info))
            arguments = (fd, ctypes.byref(info), ctypes.byref(size))
            self._bpf.call("bpf_obj_get_info_by_fd", *arguments, error=fail)
            result[hook] = Runs(info.run_cnt, info.run_time_ns)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def read(tracer: Tracer, nothing: Empty) -> dict[str, tuple[Runs, Runs]]:
    """Return the statistics of (real, empty) by hook."""
    empty = nothing.runs()
    elsewhere = empty[ONE_CALL.rpartition(" ")[2]]
    pairs = {ONE_CALL: (empty[ONE_CALL], elsewhere)}
    for program in sorted(tracer.programs(), key=lambda program: program.hook):
        runs = Runs(program.runs, program.run_time_ns)
        if program.hook in empty:
            pairs[program.hook] = (runs, empty[program.hook])
        else:
            pairs[f"{program.name} *"] = (runs, elsewhere)
    return pairs


def measure(
    real: Options, empty: Path, load: Path, modes: list[str], seconds: float
) -> Mapping[tuple[str, str], Figure]:
    """Attach both, run every load, and return a figure for each (mode, hook)."""
    figures = {}
    with contextlib.ExitStack() as stack:
        cgroup = cgroups.open_cgroup(None)
        stack.callback(os.close, cgroup.fd)
        nothing = stack.enter_context(Empty(empty, cgroup.fd))
        tracer = stack.enter_context(open_tracer(real))
        for mode in modes:
            before = read(tracer, nothing)
            run_load(load, mode, seconds)
            for hook, (after, after_empty) in read(tracer, nothing).items():
                runs = after.runs - before[hook][0].runs
                figures[mode, hook] = Figure(
                    runs, after.per_run(before[hook][0]), after_empty.per_run(before[hook][1])
                )
    return figures


def rows(found: Mapping[tuple[str, str], list[Figure]]) -> list[list[str]]:
    """Return medians over the rounds."""
    result = []
    for (mode, hook), figures in found.items():
        runs, real, empty = (statistics.median(column) for column in zip(*figures, strict=True))
        if runs < FEW:
            continue
        # The difference within each round: noise that hits both falls out.
        above = [figure.real_ns - figure.empty_ns for figure in figures]
        cells = [f"{runs:.0f}", f"{real:.1f}", f"{empty:.1f}", f"{statistics.median(above):.1f}"]
        spread = f"{min(above):.1f} to {max(above):.1f}"
        result.append(
            [f"{mode} {hook}", *cells, spread, "" if mode == "connect" else str(AIMS.get(hook, ""))]
        )
    return result


def remote(text: str) -> tuple[str, int]:
    """Read a prefix and its class."""
    prefix, _, number = text.partition("=")
    return prefix, int(number)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("objects", nargs="*", type=Path, default=[OBJECT], metavar="OBJECT")
    parser.add_argument("--loads", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--remotes", nargs="+", type=remote, default=[], metavar="PREFIX=CLASS")
    parser.add_argument("--hosts", action="store_true", help="count by IP address, too")
    parser.add_argument("--compat", action="store_true", help="nothing waits in the sockets")
    parser.add_argument("--portable", action="store_true", help="the portable kernel object")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each load in each round")
    arguments = parser.parse_args()
    found: dict[Path, dict[tuple[str, str], list[Figure]]] = {
        path: collections.defaultdict(list) for path in arguments.objects
    }
    statistics_fd = open_library().call("bpf_enable_stats", BPF_STATS_RUN_TIME, error=fail)
    try:
        with tempfile.TemporaryDirectory() as name:
            load, empty = compile_c("load", Path(name)), compile_empty(Path(name))
            for _ in range(arguments.rounds):
                for path, figures in found.items():
                    options = Options(
                        object_path=path,
                        remotes=tuple(arguments.remotes),
                        max_hosts=4099 * arguments.hosts,
                        compat=arguments.compat,
                        layout="portable" if arguments.portable else "main",
                    )
                    measured = measure(options, empty, load, arguments.loads, arguments.seconds)
                    for key, figure in measured.items():
                        figures[key].append(figure)
    finally:
        os.close(statistics_fd)
    for path, figures in found.items():
        head = ("runs", "ns", "empty ns", "above empty", "least to most", "aim")
        print_table((path.name, *head), rows(figures))
    print("* There is no empty program at this hook: above the one at net_dev_queue.")


if __name__ == "__main__":
    main()
