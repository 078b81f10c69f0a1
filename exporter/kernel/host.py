# SPDX-License-Identifier: Apache-2.0
"""What the host says of itself in files: capabilities, lockdown, release."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.errors import LockdownError, MissingCapabilityError
from exporter.kernel.bpf_call import bpf

if TYPE_CHECKING:
    from collections.abc import Collection

CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""What loading and attaching take (capabilities(7)); CAP_SYS_ADMIN stands for the last two."""
SYS_ADMIN: Final = 21
STATUS: Final = Path("/proc/thread-self/status")
"""Of the calling thread, not of the main one: each has capabilities of its own."""
NO_COMMAND: Final = 1 << 30
"""Of bpf(2): whoever may call it is told that there is no such thing."""
USERS: Final = Path("/proc/self/ns/user")
INITIAL_USER: Final = 0xEFFFFFFD
"""The number of the host's namespace (include/linux/proc_ns.h)."""
LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")


def effective_capabilities(status: Path = STATUS) -> int:
    """Return the mask of the calling thread (proc_pid_status(5))."""
    text = status.read_text(encoding="ascii", errors="replace")
    return int(text.partition("CapEff:")[2].split(maxsplit=1)[0], 16)


def missing_capabilities(
    effective: int | None = None, needed: Collection[str] = tuple(CAPABILITIES)
) -> list[str]:
    """Return the names of the needed capabilities that a mask lacks; by default, our own."""
    if effective is None:
        effective = effective_capabilities()
    admin = effective >> SYS_ADMIN & 1
    return [
        name
        for name, bit in CAPABILITIES.items()
        if name in needed and not effective >> bit & 1 and not (admin and name != "CAP_NET_ADMIN")
    ]


def require_capabilities(what: str, needed: Collection[str] = tuple(CAPABILITIES)) -> None:
    """Raise MissingCapabilityError if the calling thread lacks one of them."""
    missing = missing_capabilities(needed=needed)
    if missing:
        message = (
            f"{what}: {', '.join(missing)} missing; run as root, or with the capabilities "
            f"{', '.join(needed)}"
        )
        raise MissingCapabilityError(message)
    _require_call(what)


def _require_call(what: str) -> None:
    """Raise MissingCapabilityError if bpf(2) is kept from us in spite of our capabilities.

    Default profiles of container runtimes did that before they knew CAP_BPF. And capabilities in a
    user namespace are none of the host's.
    """
    if USERS.stat().st_ino != INITIAL_USER:
        message = (
            f"{what}: capabilities are those of a user namespace, not the host's; run it in the "
            "host's: without hostUsers: false in Kubernetes, with --userns=host of docker"
        )
        raise MissingCapabilityError(message)
    try:
        bpf(NO_COMMAND, _Nothing())
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOSYS}:
            return
        message = (
            f"{what}: bpf(2) is refused ({errno.errorcode[error.errno]}) although CAP_BPF is "
            "there, as by a container's seccomp profile; take docker 23, containerd 1.7 or later, "
            "or a profile that permits bpf and perf_event_open (docs/kubernetes.md)"
        )
        raise MissingCapabilityError(message) from error


class _Nothing(ctypes.Structure):
    """The least that can be given."""

    _fields_ = (("nothing", ctypes.c_uint64),)


def lockdown(path: Path = LOCKDOWN) -> str | None:
    """Return none, integrity or confidentiality (kernel_lockdown(7)); None if it can't be told."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return None
    return text.partition("[")[2].partition("]")[0] or None


def require_no_lockdown(what: str) -> None:
    """Raise LockdownError if what reads the kernel's memory by address is refused."""
    if lockdown() == "confidentiality":
        message = (
            f"{what}: found lockdown=confidentiality, where programs read memory by type only "
            f"(Linux 6.2 has that, for the main kernel object); boot {kernel_release()} with "
            "lockdown=integrity"
        )
        raise LockdownError(message)


def kernel_release() -> str:
    """Return for instance 6.18.44."""
    return os.uname().release
