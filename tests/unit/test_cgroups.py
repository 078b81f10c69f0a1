# SPDX-License-Identifier: Apache-2.0
"""The version 2 hierarchy is found by what the kernel says, never by a path that is usual."""

from __future__ import annotations

import os
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


def device(place: Path) -> str:
    """Return the number of a directory's file system, as mountinfo has it."""
    number = place.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


@pytest.fixture
def in_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a cgroup namespace that is not the host's."""
    monkeypatch.setattr(cgroups, "INITIAL_CGROUP", 1)


def test_finds_the_mount_beside_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hybrid host has many cgroup mounts and one of version 2; names may hold spaces."""
    root = tmp_path / "with space"
    root.mkdir()
    monkeypatch.setattr(cgroups, "ROOT_ID", root.stat().st_ino)
    escaped = str(root).replace(" ", "\\040")
    info = mountinfo(
        tmp_path,
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
        "33 31 0:30 /inner /elsewhere rw - cgroup2 cgroup2 rw",
        "40 31 0:38 / /hidden rw - cgroup2 cgroup2 rw",
        f"41 31 {device(root)} / {escaped} rw,relatime shared:7 - cgroup2 cgroup2 rw",
    )
    found = cgroups.open_cgroup(None, info)
    assert (found.path, found.level) == (str(root), 0)
    assert found.cgroup_id == root.stat().st_ino
    found.close()


def test_the_hosts_root_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like the root there is the container's own cgroup."""
    own, host = tmp_path / "own", tmp_path / "host"
    for place in (own, host):
        place.mkdir()
    monkeypatch.setattr(cgroups, "ROOT_ID", host.stat().st_ino)
    info = mountinfo(
        tmp_path,
        f"40 31 {device(own)} / {own} ro - cgroup2 cgroup2 rw",
        f"41 31 {device(host)} /../../.. {host} ro - cgroup2 cgroup2 rw",
    )
    found = cgroups.open_cgroup(None, info)
    assert (found.path, found.level) == (str(host), 0)
    found.close()
    inner = host / "a" / "b"
    inner.mkdir(parents=True)
    found = cgroups.open_cgroup(str(inner), info)
    assert found.level == 2
    found.close()


@pytest.mark.parametrize("can_mount", [True, False])
def test_a_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, can_mount: bool) -> None:
    """Of the whole host nothing is counted there in silence."""

    def mount() -> cgroups.Cgroup:
        if not can_mount:
            raise CgroupError
        return cgroups._open_directory(str(tmp_path), 0)

    monkeypatch.setattr(cgroups, "_mount_privately", mount)
    info = mountinfo(tmp_path, f"40 31 {device(tmp_path)} / {tmp_path} ro - cgroup2 cgroup2 rw")
    with pytest.raises(CgroupError, match=f"a part .* only .{tmp_path}.*mount the host's"):
        cgroups.open_cgroup(None, info)


@pytest.mark.usefixtures("in_container")
def test_a_depth_that_is_not_known(tmp_path: Path) -> None:
    """Below the container's own cgroup levels are not the host's."""
    info = mountinfo(tmp_path, f"40 31 {device(tmp_path)} / {tmp_path} ro - cgroup2 cgroup2 rw")
    with pytest.raises(CgroupError, match="how deep it is can't be told"):
        cgroups.open_cgroup(str(tmp_path), info)


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
    info = mountinfo(tmp_path, f"41 31 {device(inner)} /x/y {tmp_path} rw - cgroup2 cgroup2 rw")
    found = cgroups.open_cgroup(str(inner), info)
    assert found.level == 4
    found.close()
