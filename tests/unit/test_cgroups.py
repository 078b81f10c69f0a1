# SPDX-License-Identifier: Apache-2.0
"""The version 2 hierarchy is found by what the kernel says, never by a path that is usual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.errors import CgroupError
from exporter.kernel import cgroups

if TYPE_CHECKING:
    from pathlib import Path


def mountinfo(directory: Path, *lines: str) -> Path:
    """Write a mountinfo file."""
    path = directory / "mountinfo"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_finds_the_mount_beside_version_1(tmp_path: Path) -> None:
    """A hybrid host has many cgroup mounts and one of version 2; names may hold spaces."""
    root = tmp_path / "with space"
    root.mkdir()
    escaped = str(root).replace(" ", "\\040")
    info = mountinfo(
        tmp_path,
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
        "33 31 0:30 /inner /elsewhere rw - cgroup2 cgroup2 rw",
        f"41 31 0:38 / {escaped} rw,relatime shared:7 - cgroup2 cgroup2 rw",
    )
    found = cgroups.open_cgroup(None, info)
    assert (found.path, found.level) == (str(root), 0)
    assert found.cgroup_id == root.stat().st_ino
    found.close()


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(CgroupError, match="nowhere: No such file"):
        cgroups.open_cgroup(str(tmp_path / "nowhere"))


def test_a_path_outside_the_hierarchy(tmp_path: Path) -> None:
    """A directory of another file system is refused, and the hierarchies are named."""
    info = mountinfo(tmp_path, "41 31 0:99 / /unified rw - cgroup2 cgroup2 rw")
    with pytest.raises(CgroupError, match=r"not in a version 2 hierarchy \(/unified\)"):
        cgroups.open_cgroup(str(tmp_path), info)


def test_the_level_is_counted_from_the_root(tmp_path: Path) -> None:
    """Also where only an inner part of the hierarchy is mounted."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    device = inner.stat().st_dev
    number = f"{device >> 8 & 0xFFF}:{(device & 0xFF) | (device >> 12 & 0xFFF00)}"
    info = mountinfo(tmp_path, f"41 31 {number} /x/y {tmp_path} rw - cgroup2 cgroup2 rw")
    found = cgroups.open_cgroup(str(inner), info)
    assert found.level == 4
    found.close()
