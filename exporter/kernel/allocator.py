# SPDX-License-Identifier: Apache-2.0
"""The C library's memory: what an exposition took is given back when it has been sent.

glibc lets the size from which a block is mapped by itself grow with the blocks that are freed, up
to 32 MiB, and gives each thread a heap. Then large blocks come out of the heaps, and stay there:
after 50 scrapes of 100,000 samples at once, many times what one takes.
"""

from __future__ import annotations

import ctypes
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""malloc.h"""
LARGE_BYTES: Final = 256 * 1024
"""The text of a family that has many series."""


def map_large_blocks() -> None:
    """Map each of them by itself from now on. Another C library than glibc stays as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
