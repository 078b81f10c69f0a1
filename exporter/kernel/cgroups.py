# SPDX-License-Identifier: Apache-2.0
"""Finds the version 2 cgroup hierarchy, or mounts it where nobody else sees it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NamedTuple

from exporter.errors import CgroupError
from exporter.kernel.libbpf import describe
from exporter.kernel.mounts import MOUNTINFO, Mount, mounts

# System calls of Linux 5.2, with the same numbers on every architecture
# (include/uapi/asm-generic/unistd.h); the C library has names for them since glibc 2.36 only.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = FSOPEN_CLOEXEC = 1


class Cgroup(NamedTuple):
    """An open cgroup directory; the caller closes it."""

    fd: int
    cgroup_id: int
    level: int
    """Distance from the root; 0: the root, which is the whole host."""
    path: str

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def open_cgroup(path: str | None, mountinfo: Path = MOUNTINFO) -> Cgroup:
    """Open the cgroup that the programs are attached to: `path`, or the root of the hierarchy.

    Raises CgroupError.
    """
    found = [mount for mount in mounts(mountinfo) if mount.kind == "cgroup2"]
    if path is not None:
        return _open_below(Path(path), found)
    for mount in found:
        if mount.root == "/":
            return _open_directory(mount.point, 0)
    return _mount_privately()


def _open_directory(path: str, level: int) -> Cgroup:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        message = f"cgroup {path}: {error.strerror}; name a directory of the version 2 hierarchy"
        raise CgroupError(message) from error
    # The id of a cgroup is the inode number of its directory (kernel/cgroup, 64-bit hosts).
    return Cgroup(fd, os.fstat(fd).st_ino, level, path)


def _open_below(path: Path, found: list[Mount]) -> Cgroup:
    cgroup = _open_directory(str(path), 0)
    status = os.fstat(cgroup.fd)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    real = path.resolve()
    for mount in found:
        if mount.device == device and real.is_relative_to(mount.point):
            below = Path(mount.root) / real.relative_to(mount.point)
            return cgroup._replace(level=len(below.parts) - 1)
    cgroup.close()
    points = ", ".join(mount.point for mount in found) or "none is mounted"
    message = (
        f"cgroup {path}: not in a version 2 hierarchy ({points}); "
        "name a directory below one, or leave --cgroup-path out"
    )
    raise CgroupError(message)


def _mount_privately() -> Cgroup:
    """Make a mount that is attached nowhere: it ends with its descriptor (fsmount(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def call(number: int, *arguments: int | bytes | None) -> int:
        values = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
        result: int = libc.syscall(ctypes.c_long(number), *values)
        if result < 0:
            message = (
                "no version 2 cgroup hierarchy is mounted, and mounting one privately failed: "
                f"{describe(ctypes.get_errno())}; run as root, or mount -t cgroup2 none /mnt"
            )
            raise CgroupError(message)
        return result

    context = call(FSOPEN, b"cgroup2", FSOPEN_CLOEXEC)
    try:
        call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        fd = call(FSMOUNT, context, FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)
    return Cgroup(fd, os.fstat(fd).st_ino, 0, "(mounted privately)")
