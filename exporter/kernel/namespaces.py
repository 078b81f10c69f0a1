# SPDX-License-Identifier: Apache-2.0
"""The network namespaces of this host, and links that are attached in each of them.

A netfilter link keeps its namespace alive (net/netfilter/nf_bpf_link.c). So a namespace that nobody
else uses any more is let go: used is one that a process is in or that is mounted somewhere.
"""

from __future__ import annotations

import ctypes
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.kernel.capabilities import in_thread
from exporter.kernel.mounts import mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLONE_NEWNET: Final = 0x40000000
PROC: Final = Path("/proc")
INITIAL_NET, INITIAL_PID = 0xEFFFFFF9, 0xEFFFFFFC
SEARCH_SECONDS: Final = 5.0
"""How long a namespace may be there before it is found."""

log = logging.getLogger(__name__)


def namespaces(proc: Path = PROC) -> Iterator[tuple[int, str]]:
    """Yield inode number and a path to each namespace; one may come more than once.

    Those of processes that the caller may not look at, and those that only an open descriptor
    keeps, are not found.
    """
    with os.scandir(proc) as entries:
        for entry in entries:
            path = f"{proc}/{entry.name}/ns/net"
            inode = entry.name.isdecimal() and _inode(path)
            if inode:
                yield inode, path
    for mount in mounts(proc / "self" / "mountinfo"):
        if mount.kind == "nsfs" and mount.root.startswith("net:["):
            yield int(mount.root[5:-1]), mount.point


class NamespaceLinks:
    """Links in every network namespace. Not safe for threads."""

    def __init__(self, attach: Callable[[], list[int]]) -> None:
        """Take a function that attaches in the calling thread's namespace.

        It returns descriptors, or raises OSError.
        """
        self._attach = attach
        self._links: dict[int, list[int]] = {}
        self._used_by: dict[int, str] = {}
        """A path to each namespace, as long as it is used."""
        self._failed: set[int] = set()
        self._searched_at = 0.0

    @property
    def count(self) -> int:
        """Return in how many namespaces there are links."""
        return len(self._links)

    def keep(self, inode: int, links: list[int]) -> None:
        """Take links that are there already."""
        self._links[inode] = links

    def tend(self) -> None:
        """Attach in new namespaces and let go of unused ones; most calls cost next to nothing."""
        unused = [inode for inode, path in self._used_by.items() if _inode(path) != inode]
        if unused or time.monotonic() - self._searched_at >= SEARCH_SECONDS:
            self._search()

    def _search(self) -> None:
        self._searched_at = time.monotonic()
        self._used_by = dict(namespaces())
        for inode in self._links.keys() - self._used_by.keys():
            self._let_go(inode)
        self._failed &= self._used_by.keys()
        new = self._used_by.keys() - self._links.keys() - self._failed
        if new:
            # A thread of its own: entering a namespace is for ever if the way back should fail. If
            # the wait is interrupted it goes on: what it attaches is closed only after that.
            in_thread(lambda: self._enter_all(sorted(new)))

    def _enter_all(self, inodes: list[int]) -> None:
        failures: dict[str, list[int]] = {}
        for inode in inodes:
            try:
                if inode == own() or enter(self._used_by[inode], inode):
                    self._links[inode] = self._attach()
            except OSError as error:
                failures.setdefault(error.strerror or str(error), []).append(inode)
        for reason, failed in failures.items():
            self._failed.update(failed)
            log.warning(
                "network namespaces %s: %s; what the kernel itself sends and receives there is not "
                "counted (to enter them takes CAP_SYS_ADMIN; --no-collector.netfilter leaves it)",
                ", ".join(map(str, failed)),
                reason,
            )

    def _let_go(self, inode: int) -> None:
        for fd in self._links.pop(inode):
            os.close(fd)

    def close(self) -> None:
        """Detach everywhere."""
        for inode in list(self._links):
            self._let_go(inode)
        self._used_by.clear()


def own() -> int:
    """Return the namespace of the calling thread, by inode number."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def is_hosts_own() -> bool:
    """Tell whether the calling thread is in the initial namespace, which never ends."""
    inode = own()
    # Numbers of the initial namespaces: include/uapi/linux/nsfs.h (6.18), include/linux/proc_ns.h
    if inode == INITIAL_NET:
        return True
    initial_pids = _inode("/proc/self/ns/pid") == INITIAL_PID
    return initial_pids and _inode("/proc/1/ns/net") == inode


def has_hosts_pids() -> bool:
    """Tell whether process ids are those that the kernel programs see; true if it can't be told."""
    return _inode("/proc/self/ns/pid") in {INITIAL_PID, None}


def _inode(path: str) -> int | None:
    """Return an inode number, which is what names a namespace; None if there is nothing to see."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 a Path costs more than the call itself
    except OSError:
        return None


def enter(path: str, inode: int) -> bool:
    """Move the calling thread (setns(2)). False: the namespace has gone meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(fd).st_ino != inode:
            return False
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)
    return True
