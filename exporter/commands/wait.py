# SPDX-License-Identifier: Apache-2.0
"""`wait`: the end of any process, whoever has started it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.api.exits import signal_name
from exporter.errors import ProcessError
from exporter.kernel.watcher import Filter, Watcher

if TYPE_CHECKING:
    import argparse

POLL_SECONDS: Final = 0.5


def run(parsed: argparse.Namespace) -> int:
    """Wait for a process; end as it has."""
    status = wait_for(parsed.pid)
    number = status & 0x7F
    said = f"killed by {signal_name(number)}" if number else f"exit status {status >> 8}"
    print(f"{parsed.pid}: {said}")
    return 128 + number if number else status >> 8


def wait_for(pid: int) -> int:
    """Return the status of any process, as wait(2) gives it, when it ends.

    Raises ProcessError if there is none, KernelError if it can't be watched.
    """
    with Watcher(Filter(events=("exit", "abort"), pid=pid)) as watcher:
        # Watched first: whatever ends from now on is heard of.
        status = _ended(pid)
        while status is None:
            for event in watcher.poll(POLL_SECONDS):
                status = event.wait_status
    return status


def _ended(pid: int) -> int | None:
    """Return the status of a process that nobody has waited for yet; None if it lives."""
    try:
        os.close(os.pidfd_open(pid))
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError as error:
        known = Path(f"/proc/{pid}").exists()
        what = "a thread of another process" if known else "no process with this id"
        message = f"wait: found {pid}, {what}; accepted is the pid of a process that lives"
        raise ProcessError(message) from error
    if stat[0] not in "ZX":
        return None
    # proc_pid_stat(5), counted from the state on: 52 is the status; 0 for those who may not know.
    status = int(stat[49])
    if not status and not _may_know(pid):
        message = (
            f"wait: {pid} has ended, and to be told how takes CAP_SYS_PTRACE; run as root, or wait "
            "before it ends"
        )
        raise ProcessError(message)
    return status


def _may_know(pid: int) -> bool:
    """Tell whether the kernel lets us look into a process: whose end we are told (ptrace(2))."""
    try:
        Path(f"/proc/{pid}/exe").readlink()
    except PermissionError:
        return False
    except OSError:  # it has none any more
        return True
    return True
