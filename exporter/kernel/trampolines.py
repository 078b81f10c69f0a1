# SPDX-License-Identifier: Apache-2.0
"""Does this kernel attach programs to functions (fentry, fexit)? Asked by trying."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final

from exporter.kernel.libbpf import LoadOptions, open_library

if TYPE_CHECKING:
    from exporter.kernel.types import KernelTypes

TRACING, FENTRY = 26, 24
"""BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY (include/uapi/linux/bpf.h)."""
RETURN_0: Final = bytes((0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))
"""r0 = 0; exit (RFC 9669)."""


def try_trampoline(types: KernelTypes) -> int:
    """Attach the smallest program for a moment; return 0, or -errno.

    They load on kernels that then refuse to attach them.
    """
    target = types.function("tcp_sendmsg")
    if target <= 0:
        return -errno.ENOENT
    bpf = open_library()
    options = LoadOptions(
        sz=ctypes.sizeof(LoadOptions), expected_attach_type=FENTRY, attach_btf_id=target
    )
    with bpf.capture():
        program: int = bpf.bpf_prog_load(
            *(TRACING, b"probe", b"Dual MIT/GPL", RETURN_0, 2, ctypes.byref(options))
        )
    if program < 0:
        return program
    try:
        link: int = bpf.bpf_raw_tracepoint_open(None, program)
    finally:
        os.close(program)
    if link < 0:
        return link
    os.close(link)
    return 0
