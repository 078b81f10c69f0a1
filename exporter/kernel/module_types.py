# SPDX-License-Identifier: Apache-2.0
"""Loading an object where the kernel does not say which modules there are.

What libbpf does not find in the kernel's type information it seeks in that of the modules, and to
list these takes CAP_SYS_ADMIN. libbpf 1.1 gives up if that is refused, even if what it seeks is
marked as something that may be missing (later versions go on without). So the refusal is made to
say that there are no modules: by a seccomp filter (seccomp(2)) on a thread that only loads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from exporter.kernel import capabilities
from exporter.kernel.capabilities import Capability
from exporter.kernel.machine import SYS_BPF

if TYPE_CHECKING:
    from exporter.kernel.libbpf import Libbpf

BTF_GET_NEXT_ID: Final = 23
"""enum bpf_cmd (include/uapi/linux/bpf.h)."""
PR_SET_SECCOMP, FILTER = 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
"""include/uapi/linux/{prctl,seccomp}.h"""
NUMBER, COMMAND = 0, 16
"""Where struct seccomp_data has the number of the call, and its first argument."""
LOAD, UNLESS, RETURN = 0x20, 0x15, 0x06
"""Load a word, skip instructions unless it is equal, end (include/uapi/linux/filter.h)."""


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def load(bpf: Libbpf, handle: int) -> int:
    """Have the kernel load an opened object; return 0 or an errno."""
    if Capability.CAP_SYS_ADMIN in capabilities.effective():
        return -int(bpf.bpf_object__load(handle))
    return capabilities.in_thread(lambda: _load_without(bpf, handle))


def _load_without(bpf: Libbpf, handle: int) -> int:
    capabilities.never_more()  # else a filter takes CAP_SYS_ADMIN, too
    instructions = (
        *((LOAD, 0, 0, NUMBER), (UNLESS, 0, 3, SYS_BPF[os.uname().machine])),
        *((LOAD, 0, 0, COMMAND), (UNLESS, 0, 1, BTF_GET_NEXT_ID)),
        *((RETURN, 0, 0, ERRNO | errno.ENOENT), (RETURN, 0, 0, ALLOW)),
    )
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    chosen = _Filter(len(instructions), code)
    # Where there is no seccomp the object may load all the same.
    capabilities.LIBC.prctl(
        *(PR_SET_SECCOMP, ctypes.c_ulong(FILTER), ctypes.byref(chosen)),
        *(ctypes.c_ulong(0), ctypes.c_ulong(0)),
    )
    return -int(bpf.bpf_object__load(handle))
