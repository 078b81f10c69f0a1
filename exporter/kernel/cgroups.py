# SPDX-License-Identifier: Apache-2.0
"""Finds the version 2 cgroup hierarchy, or mounts it where nobody else sees it.

A container may have a cgroup namespace of its own. There its own cgroup looks like the root, also
in mountinfo; the host's root, where it is mounted too, is told by its number alone.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final, NamedTuple

from exporter.errors import CgroupError
from exporter.kernel.libbpf import describe
from exporter.kernel.mounts import MOUNTINFO, Mount, mounts

# System calls of Linux 5.2, with the same numbers on every architecture
# (include/uapi/asm-generic/unistd.h); the C library has names for them since glibc 2.36 only.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = FSOPEN_CLOEXEC = 1

ROOT_ID: Final = 1
"""The hierarchy's root is the first directory that it has (kernel/cgroup: cgroup_setup_root)."""
NAMESPACE: Final = Path("/proc/self/ns/cgroup")
INITIAL_CGROUP: Final = 0xEFFFFFFB
"""The number of the host's namespace (include/linux/proc_ns.h)."""
MOUNT_IT: Final = (
    "for instance by -v /sys/fs/cgroup:/host/sys/fs/cgroup:ro, or in Kubernetes as a hostPath"
)


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
    for mount in filter(_is_root, found):
        return _open_directory(mount.point, 0)
    return _mount_root(found)


def _is_root(mount: Mount) -> bool:
    """Tell whether the whole hierarchy is mounted there, and nothing else over it."""
    try:
        status = Path(mount.point).stat()
    except OSError:
        return False
    return (status.st_ino, _device(status)) == (ROOT_ID, mount.device)


def _device(status: os.stat_result) -> str:
    return f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"


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
    device = _device(os.fstat(cgroup.fd))
    real = path.resolve()
    here = [one for one in found if one.device == device and real.is_relative_to(one.point)]
    for mount in sorted(here, key=_is_root, reverse=True):
        below = real.relative_to(mount.point).parts
        if _is_root(mount):
            return cgroup._replace(level=len(below))
        if NAMESPACE.stat().st_ino == INITIAL_CGROUP:
            return cgroup._replace(level=len(Path(mount.root).parts) - 1 + len(below))
    cgroup.close()
    if here:
        message = (
            f"cgroup {path}: how deep it is can't be told in this cgroup namespace; name it below "
            f"the host's hierarchy, {MOUNT_IT}"
        )
        raise CgroupError(message)
    points = ", ".join(mount.point for mount in found) or "none is mounted"
    message = (
        f"cgroup {path}: not in a version 2 hierarchy ({points}); "
        "name a directory below one, or leave --cgroup-path out"
    )
    raise CgroupError(message)


def _mount_root(found: list[Mount]) -> Cgroup:
    """Mount the root privately; in a cgroup namespace of our own that gives but our part of it."""
    try:
        cgroup = _mount_privately()
    except CgroupError:
        if not found:
            raise
    else:
        if cgroup.cgroup_id == ROOT_ID:
            return cgroup
        cgroup.close()
    points = ", ".join(mount.point for mount in found) or "mounted privately"
    message = (
        f"cgroups: found a part of the version 2 hierarchy only ({points}), as in a container with "
        f"a cgroup namespace of its own; mount the host's, {MOUNT_IT}"
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
                f"{describe(ctypes.get_errno())}; run as root, or mount -t cgroup2 none /mnt; "
                f"into a container mount the host's, {MOUNT_IT}"
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
