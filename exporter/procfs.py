# SPDX-License-Identifier: Apache-2.0
"""What /proc says of a process that the kernel side has told of.

Everything is read below one open descriptor of /proc/PID: unlike a path, it never leads to another
process that was given the same pid. One that is gone is no error: nothing is known of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.model import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC: Final = Path("/proc")
COMMAND_LINE_BYTES: Final = 4096
"""A command line may have megabytes; this is what expressions see of it."""
FILE_BYTES: Final = 1 << 18
"""Of any other file: each of a dozen hierarchies may have a path of 4 kB."""
TICK_NS: Final = 10**9 // os.sysconf("SC_CLK_TCK")
NOTHING: Final = -1
"""No descriptor."""
SYSTEMD: Final = "name=systemd"
START_FIELD: Final = 19
"""Of /proc/PID/stat, after the command's closing bracket (proc_pid_stat(5): 22, counted from 1)."""

HOST_PIDS: Final = 0xEFFFFFFC
"""The number of the host's PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO)."""


def executable(pid: int, start_ns: int, root: Path = PROC) -> str:
    """Return the path of a process's executable as it sees it; empty if that can't be known.

    The process is the one with this id that started at that time since boot; here and below.
    """
    with _opened(pid, start_ns, root) as fd:
        try:
            path = os.readlink(b"exe", dir_fd=fd)
        except OSError:
            return ""
    return printable(path.decode(errors="replace").removesuffix(" (deleted)"))


def command_line(pid: int, start_ns: int, root: Path = PROC) -> str:
    """Return a process's words, joined by spaces; empty if they can't be known."""
    with _opened(pid, start_ns, root) as fd:
        words = _read(fd, "cmdline", COMMAND_LINE_BYTES).rstrip(b"\0").replace(b"\0", b" ")
    return printable(words.decode(errors="replace"))


def legacy_cgroups(pid: int, start_ns: int, root: Path = PROC) -> tuple[str, ...]:
    """Return paths in version 1 hierarchies (cgroups(7)), systemd's own first."""
    with _opened(pid, start_ns, root) as fd:
        text = _read(fd, "cgroup").decode(errors="replace")
    lines = [line.split(":", 2) for line in text.splitlines()]
    found = [(line[1], line[2]) for line in lines if len(line) == 3 and line[0] != "0"]
    return (
        *(printable(path) for name, path in found if name == SYSTEMD),
        *(printable(path) for name, path in found if name != SYSTEMD),
    )


@contextlib.contextmanager
def _opened(pid: int, start_ns: int, root: Path) -> Iterator[int]:
    """Open a process's directory; -1 if it is gone or another's, of which nothing can be read."""
    try:
        fd = os.open(f"{root}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield NOTHING
        return
    try:
        fields = _read(fd, "stat").rpartition(b")")[2].split()
        is_it = len(fields) > START_FIELD and int(fields[START_FIELD]) == start_ns // TICK_NS
        yield fd if is_it else NOTHING
    finally:
        os.close(fd)


def _read(directory: int, name: str, limit: int = FILE_BYTES) -> bytes:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return b""
    found = b""
    try:
        while len(found) < limit and (part := os.read(fd, limit - len(found))):
            found += part
    except OSError:  # it ended in between
        return b""
    finally:
        os.close(fd)
    return found


def booted_at() -> float:
    """Return when the host was started, in seconds since the epoch, by the clock as it is now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


@functools.lru_cache(maxsize=1024)
def user(uid: int) -> str:
    """Return a user's name; the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_own(pid: int, start_ns: int, name: str, root: Path = PROC) -> bool:
    """Tell whether a process is the calling one.

    In a PID namespace the kernel side has another number for us: there it is also who has our name
    and started in the same hundredth of a second.
    """
    if pid == os.getpid() or (root / "self/ns/pid").stat().st_ino == HOST_PIDS:
        return pid == os.getpid()
    fields = (root / "self/stat").read_bytes().rpartition(b")")[2].split()
    own_name = (root / "self/comm").read_text(errors="replace").removesuffix("\n")
    return int(fields[START_FIELD]) == start_ns // TICK_NS and printable(own_name) == name


def has_legacy_cgroups(path: Path = PROC / "self" / "cgroup") -> bool:
    """Tell whether this host has version 1 hierarchies too (cgroups(7): not number 0)."""
    return any(not line.startswith("0:") for line in path.read_text().splitlines())
