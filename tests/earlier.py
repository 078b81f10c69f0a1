# SPDX-License-Identifier: Apache-2.0
"""A version that came before this one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[1]
CHANGES: Final = (
    (
        "bpf/netatop.h",
        "\t__u64 cgroup_id;\n\t__u32 tgid;",
        "\t__u64 shoe_size;\n\t__u64 cgroup_id;\n\t__u32 tgid;",
    ),
    ("bpf/netatop.h", "PROTOCOL_TCP, PROTOCOL_UDP,", "PROTOCOL_UDP, PROTOCOL_TCP,"),
    ("bpf/netatop.h", "REASON_NO_SOCKET, REASON_KERNEL,", "REASON_KERNEL, REASON_NO_SOCKET,"),
    ("exporter/model.py", '"tcp", "udp", "icmp"', '"udp", "tcp", "icmp"'),
)


def make_earlier(place: Path) -> None:
    """Make one there whose tables have other layouts: a field less, another one, other words."""
    for folder in ("bpf", "exporter"):
        shutil.copytree(CHECKOUT / folder, place / folder)
    for name, old, new in CHANGES:
        file = place / name
        text = file.read_text()
        assert text.count(old) == 1, old
        file.write_text(text.replace(old, new))
    subprocess.run(["make", "-s", "-C", place / "bpf", "layouts", "all"], check=True)
