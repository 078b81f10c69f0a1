# SPDX-License-Identifier: Apache-2.0
"""Where a cgroup is in the version 2 hierarchy, by its id.

By file handle (open_by_handle_at(2)), which for a cgroup is its id: no walk, and the same answer in
every namespace, where /proc/PID/cgroup is told from the reader's point of view. That takes
CAP_DAC_READ_SEARCH; without it the hierarchy is walked, now and then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
from pathlib import Path
from typing import Final

from exporter.kernel.cgroups import open_cgroup

FILEID_KERNFS: Final = 0xFE
"""include/linux/exportfs.h"""
MOST: Final = 65_536
"""Of paths that are remembered, also of cgroups that are gone."""
DELETED: Final = " (deleted)"
"""What the kernel puts after the path of a directory that is gone (d_path)."""
WALK_SECONDS: Final = 5.0
"""So long a cgroup may be there before a walk finds it."""


class FileHandle(ctypes.Structure):
    """struct file_handle, with room for a cgroup's."""

    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("cgroup_id", ctypes.c_uint64),
    )


class CgroupPaths:
    """Looks them up and remembers them. Not safe for threads."""

    def __init__(self) -> None:
        """Raise CgroupError if there is no hierarchy."""
        self._root = open_cgroup(None)
        self._point = str(_target(self._root.fd)).rstrip("/")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._found: dict[int, str] = {}
        self._has_handles = True
        self._walked_at = -WALK_SECONDS

    def path(self, cgroup_id: int) -> str:
        """Return the path from the root of the hierarchy; empty if the cgroup is gone."""
        if cgroup_id not in self._found:
            if len(self._found) >= MOST:
                self._found.clear()
            found = self._open(cgroup_id)
            if found:
                self._found[cgroup_id] = found
            elif not self._has_handles:
                self._walk()
        return self._found.get(cgroup_id, "")

    def _open(self, cgroup_id: int) -> str:
        if not self._has_handles:
            return ""
        handle = FileHandle(8, FILEID_KERNFS, cgroup_id)
        flags = os.O_RDONLY | os.O_CLOEXEC
        fd = self._libc.open_by_handle_at(self._root.fd, ctypes.byref(handle), flags)
        if fd < 0:
            self._has_handles = ctypes.get_errno() != errno.EPERM
            return ""
        try:
            path = str(_target(fd))
        except OSError:  # longer than a path may be
            return ""
        finally:
            os.close(fd)
        if path.endswith(DELETED) and not _is(path, cgroup_id):
            return ""
        return path[len(self._point) :] or "/"

    def _walk(self) -> None:
        now = time.monotonic()
        if now - self._walked_at < WALK_SECONDS:
            return
        self._walked_at = now
        with contextlib.suppress(RecursionError, OSError):  # deeper than anybody needs
            for folder, _, _, fd in os.fwalk(".", dir_fd=self._root.fd):
                if len(self._found) >= MOST:
                    return
                self._found[os.fstat(fd).st_ino] = folder[1:] or "/"

    def close(self) -> None:
        """Close the hierarchy."""
        self._root.close()


def _is(path: str, cgroup_id: int) -> bool:
    """Tell whether a cgroup is there whose name is as if it were gone."""
    try:
        return Path(path).stat().st_ino == cgroup_id
    except OSError:
        return False


def _target(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}").readlink()
