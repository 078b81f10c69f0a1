# SPDX-License-Identifier: Apache-2.0
"""Machines that this runs on: 64 bits, little-endian, with known numbers of system calls.

The kernel objects are compiled, and layouts.py is written, for the little-endian BPF machine.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

from exporter.errors import UnsupportedKernelError

SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
"""bpf(2); everything else is called by a name of the C library, or by a number that all have."""
SYS_PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}
"""perf_event_open(2), likewise."""


def check() -> None:
    """Raise UnsupportedKernelError if this is another machine."""
    name, bits = os.uname().machine, 8 * ctypes.sizeof(ctypes.c_void_p)
    if sys.byteorder != "little" or bits != 64 or name not in SYS_BPF:
        message = (
            f"machine {name}: found {sys.byteorder}-endian, {bits} bits; accepted are "
            f"{' and '.join(sorted(SYS_BPF))}, little-endian, 64 bits: the kernel objects are made "
            "for these; run it on such a host"
        )
        raise UnsupportedKernelError(message)
