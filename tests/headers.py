# SPDX-License-Identifier: Apache-2.0
"""A directory of kernel headers for the running kernel, made of its own type information.

So what is done without type information can be tried on a kernel that has it, and has no headers.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final

from exporter.kernel.kernel_headers import RELEASE
from exporter.kernel.members import HEADERS

if TYPE_CHECKING:
    from pathlib import Path

RUNNING: Final = os.uname().release
WITHOUT_TYPES: Final = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
    'mount -t tmpfs -o mode=755 none /sys/kernel/btf && exec "$@"',
    "sh",
)
"""Runs a command that does not see the kernel's type information."""


def make(place: Path, release: str = "") -> Path:
    """Make as much of it as bcc and exporter/kernel/members.py look for."""
    dump = ("bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c")
    types = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    major, minor, *_ = RUNNING.split(".")
    files = {
        "all.h": f"#pragma once\n#define BPF_NO_PRESERVE_ACCESS_INDEX\n{types}",
        "linux/kconfig.h": "",
        "uapi/linux/bpf.h": "",
        **dict.fromkeys(HEADERS, "#include <all.h>\n"),
        "linux/version.h": (
            "#define KERNEL_VERSION(a, b, c) ((a) * 65536 + (b) * 256 + (c))\n"
            f"#define LINUX_VERSION_CODE KERNEL_VERSION({major}, {minor}, 0)\n"
        ),
        str(RELEASE).removeprefix("include/"): f'#define UTS_RELEASE "{release or RUNNING}"\n',
    }
    for name, text in files.items():
        file = place / "include" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return place
