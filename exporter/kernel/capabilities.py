# SPDX-License-Identifier: Apache-2.0
"""Capabilities of the calling thread (capabilities(7)): tried without, and given up for good.

The kernel has them by thread, and there is no call for all threads of a process. So whoever gives
them up does it before he starts others: a new thread has what its maker has.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import enum
import os
from typing import TYPE_CHECKING, Final, TypeVar

from exporter.kernel import host

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")

VERSION: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set."""
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_NO_NEW_PRIVS: Final = 38
"""include/uapi/linux/{capability,prctl}.h"""
LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Capability(enum.IntEnum):
    """Those that anything here may need (include/uapi/linux/capability.h)."""

    CAP_DAC_OVERRIDE = 1
    CAP_DAC_READ_SEARCH = 2
    CAP_NET_ADMIN = 12
    CAP_SYS_PTRACE = 19
    CAP_SYS_ADMIN = 21
    CAP_PERFMON = 38
    CAP_BPF = 39


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct; 0 is the calling thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """struct __user_cap_data_struct: 32 bits of each set."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def effective() -> frozenset[Capability]:
    """Return those that the calling thread can use now."""
    mask = host.effective_capabilities()
    return frozenset(capability for capability in Capability if mask >> capability & 1)


def give_up(kept: Collection[Capability]) -> None:
    """Give up all others in every set, for ever; what was not had before is not had afterwards.

    The bounding set can be emptied with CAP_SETPCAP only; without it stays as it is, and is no way
    to anything: no_new_privs is set, and nothing is ever executed.
    """
    never_more()
    number = 0
    while (there := _prctl(PR_CAPBSET_READ, number)) >= 0:
        if there and _prctl(PR_CAPBSET_DROP, number):
            break
        number += 1
    mask = host.effective_capabilities() & sum(1 << capability for capability in kept)
    _set(mask)


def never_more() -> None:
    """Set no_new_privs (PR_SET_NO_NEW_PRIVS(2const))."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def try_without(capabilities: Collection[Capability], action: Callable[[], T]) -> T:
    """Do something in a thread that lacks them, and ends."""
    lost = sum(1 << capability for capability in capabilities)

    def work() -> T:
        _set(host.effective_capabilities() & ~lost)
        return action()

    return in_thread(work)


def in_thread(action: Callable[[], T]) -> T:
    """Do something in a thread of its own that ends; return or raise what the action does."""
    with concurrent.futures.ThreadPoolExecutor(1, "capabilities") as worker:
        return worker.submit(action).result()


def can_write(path: str) -> bool:
    """Tell whether the calling thread may make and remove files in a directory."""
    return os.access(path, os.W_OK | os.X_OK, effective_ids=True)


def _set(mask: int) -> None:
    """Set permitted and effective, and no inheritable ones, which takes the ambient ones too."""
    words = [mask & 0xFFFFFFFF, mask >> 32]
    sets = (_Sets * 2)(*(_Sets(word, word, 0) for word in words))
    if LIBC.capset(ctypes.byref(_Header(VERSION, 0)), sets):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _prctl(option: int, first: int) -> int:
    """Call prctl(2), whose arguments are all longs."""
    result: int = LIBC.prctl(ctypes.c_int(option), *map(ctypes.c_ulong, (first, 0, 0, 0)))
    return result
