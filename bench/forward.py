# SPDX-License-Identifier: Apache-2.0
"""Packets through the programs at a device: none, empty ones, those that count what is behind it.

On the loopback device of a network namespace of its own, which every datagram leaves and enters:
two runs each. Nanoseconds by the kernel's own statistics, above the empty programs at the same
place in the same run; datagrams a second, and a second of processor time, with one of the three.

    sudo .venv/bin/python bench/forward.py [--rounds N] [--seconds S]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common import compile_c, compile_empty, print_table, run_load

from exporter.kernel import tc
from exporter.kernel.bpf_call import LINK_CREATE, bpf
from exporter.kernel.forwarder import Forwarder
from exporter.kernel.holding import program_info
from exporter.kernel.libbpf import open_library

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET: Final = 0x40000000
LOOPBACK: Final = 1
"""Its index, in every namespace."""
LOADS: Final = ("udp", "udp6", "hosts", "bulk")


def fail(code: int) -> OSError:
    """Make the error of a failed call."""
    return OSError(code, os.strerror(code))


@contextlib.contextmanager
def empty(path: Path) -> Iterator[int]:
    """Attach the empty program both ways; its descriptor."""
    library = open_library()
    opened = library.pointer("bpf_object__open_file", bytes(path), None, error=fail)
    with contextlib.ExitStack() as stack:
        stack.callback(library.bpf_object__close, opened)
        program = library.bpf_object__next_program(opened, None)
        chosen = 0
        while program:
            is_ours = library.bpf_program__section_name(program) == b"tc"
            library.bpf_program__set_autoload(program, is_ours)
            chosen = program if is_ours else chosen
            program = library.bpf_object__next_program(opened, program)
        library.call("bpf_object__load", opened, error=fail)
        fd = library.bpf_program__fd(chosen)
        for attach in tc.TCX_ATTACH.values():
            request = tc.LinkCreate(
                prog_fd=fd, target_ifindex=LOOPBACK, attach_type=attach, flags=tc.BEFORE
            )
            stack.callback(os.close, bpf(LINK_CREATE, request))
        yield fd


def runs(fds: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return how often each program has run, and how long."""
    infos = {name: program_info(fd, name) for name, fd in fds.items()}
    return {name: (info.run_cnt, info.run_time_ns) for name, info in infos.items()}


def measure(
    load: Path, nothing: Path, seconds: float, figures: dict[tuple[str, str], list[float]]
) -> None:
    """Run each load with none, with the empty ones, with ours, and with both and the statistics."""
    for mode in LOADS:
        with contextlib.ExitStack() as stack:
            for what in ("none", "empty", "ours", "ours, addresses alone"):
                with contextlib.ExitStack() as attached:
                    if what == "empty":
                        attached.enter_context(empty(nothing))
                    elif what != "none":
                        connections = 0 if "alone" in what else 65536
                        attached.enter_context(Forwarder(("lo",), 4099, connections))
                    moved = run_load(load, mode, seconds)
                figures[mode, f"{what}: a second"].append(moved.per_second)
                figures[mode, f"{what}: of processor time"].append(moved.per_processor_second)
            ours = stack.enter_context(Forwarder(("lo",), 4099, 65536))
            fds = {"empty": stack.enter_context(empty(nothing)), **ours.attached_programs}
            stats = open_library().call("bpf_enable_stats", 0, error=fail)
            stack.callback(os.close, stats)
            before = runs(fds)
            run_load(load, mode, seconds)
            after = runs(fds)
            per_run = {
                name: (after[name][1] - before[name][1]) / (after[name][0] - before[name][0])
                for name in fds
            }
            for name in fds:
                if name != "empty":
                    figures[mode, f"{name}: ns a run above empty"].append(
                        per_run[name] - per_run["empty"]
                    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each load in each round")
    arguments = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    figures: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        load, nothing = compile_c("load", Path(name)), compile_empty(Path(name))
        for _ in range(arguments.rounds):
            measure(load, nothing, arguments.seconds, figures)
    rows = [
        [
            f"{mode} {what}",
            f"{statistics.median(found):.1f}",
            f"{min(found):.1f} to {max(found):.1f}",
        ]
        for (mode, what), found in figures.items()
    ]
    print_table(["load", "median", "spread"], rows)


if __name__ == "__main__":
    main()
