# SPDX-License-Identifier: Apache-2.0
"""What a loader costs: until it is ready, in memory, and each packet; side by side, medians.

`core` is the main object, `core, portable` what it takes where a kernel is too old for that, `bcc`
the same source compiled at start. Start-up and memory (PSS) are those of `serve` as a process of
its own, the compiler included. Nanoseconds are above an empty program at the same hook, as in
packets.py, of UDP datagrams over loopback.

    sudo .venv/bin/python bench/loaders.py [--rounds N] [--seconds S]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from common import compile_c, compile_empty, print_table, run_load
from packets import BPF_STATS_RUN_TIME, Empty, Runs, fail

from exporter.kernel import cgroups
from exporter.kernel.choice import open_tracer
from exporter.kernel.core_object import Options
from exporter.kernel.libbpf import open_library

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.kernel.tracer import Tracer

LOADERS: Final = {
    "core": (Options(), "core"),
    "core, portable": (Options(layout="portable"), "core"),
    "bcc": (Options(), "bcc"),
}
PROCESSES: Final = ("core", "bcc")
"""As whom `serve` can be started."""
HOOKS: Final = {
    "count_receive": "cgroup_skb/ingress",
    "count_transmit": "cgroup_skb/egress",
    "own_sender": "tp_btf/sock_send_length",
    "own_receiver": "tp_btf/sock_recv_length",
}
PATIENCE: Final = 60.0


def start(loader: str) -> tuple[float, float, float]:
    """Start `serve`; return seconds until it is ready, MB then, and the most MB until then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    begun = time.monotonic()
    command = ("-m", "exporter", "--loader", loader, "--web.listen-address", f"127.0.0.1:{port}")
    with subprocess.Popen((sys.executable, *command), stderr=subprocess.DEVNULL) as process:
        own, most = psutil.Process(process.pid), 0.0
        while not is_ready(port):
            assert process.poll() is None, f"{loader}: ended with status {process.returncode}"
            assert time.monotonic() - begun < PATIENCE, f"{loader}: not ready"
            most = max(most, sum(map(size, (own, *own.children()))))
            time.sleep(0.005)
        seconds = time.monotonic() - begun
        settled = size(own)
        process.terminate()
    return seconds, settled, max(most, settled)


def size(process: psutil.Process) -> float:
    """Return its share of memory (PSS) in MB."""
    with contextlib.suppress(psutil.Error):
        return float(process.memory_full_info().pss) / 1e6
    return 0.0


def is_ready(port: int) -> bool:
    """Ask it."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as asked:
        try:
            asked.request("GET", "/readyz")
            return asked.getresponse().status == 200
        except OSError:
            return False


def runs(tracer: Tracer) -> dict[str, Runs]:
    """Return the kernel's statistics of the programs that a datagram meets."""
    return {
        program.name: Runs(program.runs, program.run_time_ns)
        for program in tracer.programs()
        if program.name in HOOKS
    }


def packet(name: str, empty: Path, load: Path, seconds: float) -> Mapping[str, float]:
    """Run a load; return nanoseconds above empty, by program."""
    options, loader = LOADERS[name]
    with contextlib.ExitStack() as stack:
        cgroup = cgroups.open_cgroup(None)
        stack.callback(os.close, cgroup.fd)
        nothing = stack.enter_context(Empty(empty, cgroup.fd))
        tracer = stack.enter_context(open_tracer(options, loader))
        before, before_empty = runs(tracer), nothing.runs()
        run_load(load, "udp", seconds)
        after, after_empty = runs(tracer), nothing.runs()
        return {
            program: found.per_run(before[program])
            - after_empty[HOOKS[program]].per_run(before_empty[HOOKS[program]])
            for program, found in after.items()
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load in each round")
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for _ in range(arguments.rounds):
        for name in PROCESSES:
            for what, number in zip(("s", "MB", "MB at start"), start(name), strict=True):
                found[name][what].append(number)
    statistics_fd = open_library().call("bpf_enable_stats", BPF_STATS_RUN_TIME, error=fail)
    try:
        with tempfile.TemporaryDirectory() as folder:
            load, empty = compile_c("load", Path(folder)), compile_empty(Path(folder))
            for _ in range(arguments.rounds):
                for name in LOADERS:
                    for program, ns in packet(name, empty, load, arguments.seconds).items():
                        found[name][program].append(ns)
    finally:
        os.close(statistics_fd)
    columns = ("s", "MB", "MB at start", *HOOKS)
    rows = [
        [name, *(f"{statistics.median(of[c]):.1f}" if of.get(c) else "" for c in columns)]
        for name, of in ((name, found[name]) for name in LOADERS)
    ]
    print_table(("loader", "ready: s", "MB", "MB at start", *HOOKS), rows)


if __name__ == "__main__":
    main()
