# SPDX-License-Identifier: Apache-2.0
"""What threads have used for large blocks is given back."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

LEFT: Final = """\
import sys, threading
from pathlib import Path
from exporter.kernel import allocator

if sys.argv[1] == "mapped":
    allocator.map_large_blocks()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def work():
    del (bytearray(23 << 20))[:]  # from then on glibc takes such blocks from a heap
    blocks = [bytearray(b"x") * (4 << 20) for _ in range(11)]
    kept.append(blocks[-1])

kept = []
before = resident()
for _ in range(5):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(resident() - before >> 20)
"""


@pytest.mark.parametrize(
    ("how", "most", "least"), [("mapped", 5 * 4 + 7, 0), ("as it is", 999, 53)]
)
def test_large_blocks_are_given_back(how: str, most: int, least: int) -> None:
    """All but the five of 4 MiB that are kept; as it is, many times that."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT, how], capture_output=True, text=True, check=True
    )
    assert least <= int(done.stdout) <= most
