# SPDX-License-Identifier: Apache-2.0
"""The path of a cgroup, by its id."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.kernel import cgroup_paths
from exporter.kernel.cgroup_paths import CgroupPaths
from tests.kernel.lab import cgroup, cgroup_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel


@pytest.fixture(params=[True, False], ids=["handles", "walk"])
def paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CgroupPaths]:
    """Return paths by either way: the second is that of a process without CAP_DAC_READ_SEARCH."""
    monkeypatch.setattr(cgroup_paths, "WALK_SECONDS", 0.0)
    opened = CgroupPaths()
    opened._has_handles = request.param
    yield opened
    opened.close()


@pytest.fixture
def nested() -> Iterator[Path]:
    """Make a cgroup in another one."""
    with cgroup() as outer:
        inner = outer / "with space é"
        inner.mkdir()
        yield inner
        if inner.exists():
            inner.rmdir()


def test_there(paths: CgroupPaths, nested: Path) -> None:
    """The root and one that was made after the paths were opened."""
    root = cgroup_root()
    assert paths.path(root.stat().st_ino) == "/"
    for place in (nested, nested.parent):
        assert paths.path(place.stat().st_ino) == f"/{place.relative_to(root)}"


def test_a_name_as_if_it_were_gone(paths: CgroupPaths, nested: Path) -> None:
    """Whoever may make cgroups may call one so."""
    odd = nested / "x (deleted)"
    odd.mkdir()
    try:
        assert paths.path(odd.stat().st_ino) == f"/{odd.relative_to(cgroup_root())}"
    finally:
        odd.rmdir()


def test_longer_than_a_path_may_be(nested: Path) -> None:
    """Nothing is known of where it is; nothing else is harmed."""
    found, depth = CgroupPaths(), 18
    fds = [os.open(nested, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for _ in range(depth):
            os.mkdir("x" * 250, dir_fd=fds[-1])
            fds.append(os.open("x" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fds[-1]))
        assert found.path(os.fstat(fds[-1]).st_ino) == ""
        assert found.path(nested.stat().st_ino)
    finally:
        found.close()
        for fd in reversed(fds[:-1]):
            os.rmdir("x" * 250, dir_fd=fd)
        for fd in fds:
            os.close(fd)


def test_gone(paths: CgroupPaths, nested: Path) -> None:
    """Nobody knows where it was, but who had asked before."""
    forgetful, inode = CgroupPaths(), nested.stat().st_ino
    expected = f"/{nested.relative_to(cgroup_root())}"
    assert paths.path(inode) == expected
    nested.rmdir()
    assert paths.path(inode) == expected
    assert not forgetful.path(inode)
    assert not paths.path(1 << 40)
    forgetful.close()
