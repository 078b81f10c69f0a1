# SPDX-License-Identifier: Apache-2.0
"""bpf(2) itself, for links that Debian 12's libbpf does not know."""

from __future__ import annotations

import ctypes
import os
from typing import Final

LINK_CREATE: Final = 28
SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}


def bpf(command: int, request: ctypes.Structure) -> int:
    """Call it; return a descriptor. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(
        SYS_BPF[os.uname().machine], command, ctypes.byref(request), ctypes.sizeof(request)
    )
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
