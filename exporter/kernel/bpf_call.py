# SPDX-License-Identifier: Apache-2.0
"""bpf(2) itself, for links that Debian 12's libbpf does not know."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from exporter.kernel.machine import SYS_BPF

LINK_CREATE: Final = 28


def bpf(command: int, request: ctypes.Structure) -> int:
    """Call it; return a descriptor. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    fd: int = libc.syscall(
        *(ctypes.c_long(SYS_BPF[os.uname().machine]), ctypes.c_long(command)),
        *(ctypes.byref(request), ctypes.c_long(ctypes.sizeof(request))),
    )
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
