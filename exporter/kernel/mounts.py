# SPDX-License-Identifier: Apache-2.0
"""What is mounted where, as the calling process sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNTINFO: Final = Path("/proc/self/mountinfo")


class Mount(NamedTuple):
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    device: str
    root: str
    point: str
    kind: str


def mounts(mountinfo: Path) -> Iterator[Mount]:
    """Parse a mountinfo file."""
    for line in mountinfo.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after:
            point = fields[4].encode("ascii", "surrogateescape").decode("unicode_escape")
            yield Mount(fields[2], fields[3], point, after.split(" ")[0])
