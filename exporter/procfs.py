# SPDX-License-Identifier: Apache-2.0
"""What /proc says of a process that the kernel side has told of.

Everything is read below one open descriptor of /proc/PID: unlike a path, it never leads to another
process that was given the same pid. One that is gone is no error: nothing is known of it.
"""

from __future__ import annotations

import functools
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.model import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC: Final = Path("/proc")
COMMAND_LINE_BYTES: Final = 4096
"""A command line may have megabytes; this is what expressions see of it."""
TICK_NS: Final = 10**9 // os.sysconf("SC_CLK_TCK")
START_FIELD: Final = 19
"""Of /proc/PID/stat, after the command's closing bracket (proc_pid_stat(5): 22, counted from 1)."""


class Files(NamedTuple):
    """What was read; empty where it was not permitted, or the process had ended."""

    executable: str = ""
    """A path, as the process itself sees it."""
    command_line: str = ""
    """Its words, joined by spaces."""
    cgroups: tuple[str, ...] = ()
    """Paths in version 1 hierarchies, systemd's own first."""


NOTHING: Final = Files()


def read(pid: int, start_ns: int, root: Path = PROC) -> Files:
    """Read of the process with this id that started at that time since boot; never fails."""
    try:
        fd = os.open(root / str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return NOTHING
    try:
        fields = _read(fd, "stat").rpartition(b")")[2].split()
        if len(fields) <= START_FIELD or int(fields[START_FIELD]) != start_ns // TICK_NS:
            return NOTHING
        words = _read(fd, "cmdline").rstrip(b"\0").replace(b"\0", b" ")
        return Files(
            _executable(fd),
            printable(words.decode(errors="replace")),
            tuple(_legacy(_read(fd, "cgroup"))),
        )
    finally:
        os.close(fd)


def _read(directory: int, name: str) -> bytes:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return b""
    try:
        return os.read(fd, COMMAND_LINE_BYTES)
    except OSError:  # it ended in between
        return b""
    finally:
        os.close(fd)


def _executable(directory: int) -> str:
    try:
        path = os.readlink(b"exe", dir_fd=directory)
    except OSError:
        return ""
    return printable(path.decode(errors="replace").removesuffix(" (deleted)"))


def _legacy(text: bytes) -> Iterator[str]:
    """Yield the paths of /proc/PID/cgroup in version 1 hierarchies (cgroups(7))."""
    lines = [line.split(":", 2) for line in text.decode(errors="replace").splitlines()]
    found = [(controllers, path) for number, controllers, path in lines if number != "0"]
    yield from (printable(path) for name, path in found if name == "name=systemd")
    yield from (printable(path) for name, path in found if name != "name=systemd")


@functools.lru_cache(maxsize=1024)
def user(uid: int) -> str:
    """Return a user's name; the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def has_legacy_cgroups(path: Path = PROC / "self" / "cgroup") -> bool:
    """Tell whether this host has version 1 hierarchies too (cgroups(7): not number 0)."""
    return any(not line.startswith("0:") for line in path.read_text().splitlines())
