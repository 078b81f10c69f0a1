# SPDX-License-Identifier: Apache-2.0
"""Machines with and without the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.service import packages, tree
from tests.deploy.service.machine import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.service.machine import Machine


@pytest.fixture(scope="session")
def debian() -> Path:
    """Return the files of a Debian without the package."""
    return tree.tree()


@pytest.fixture(scope="session")
def package() -> Path:
    """Return the package."""
    return packages.package()


@pytest.fixture(scope="session")
def earlier() -> Path:
    """Return the package that came before."""
    return packages.earlier()


@pytest.fixture(scope="session")
def installed(
    debian: Path, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Return the files of a Debian with the package: what has changed, and what there was."""
    place = tmp_path_factory.mktemp("installed")
    with machine([debian], place) as made:
        install(made, package)
        made.run("systemctl", "stop", "netatop-exporter")
        made.run("journalctl", "--rotate", "--vacuum-size=1")
    return place / "upper", debian


@pytest.fixture
def bare(debian: Path) -> Iterator[Machine]:
    """Boot a Debian without the package."""
    with machine([debian]) as made:
        yield made


@pytest.fixture
def service(installed: tuple[Path, Path]) -> Iterator[Machine]:
    """Boot a Debian with the package, whose service has started."""
    with machine(installed) as made:
        assert made.show("ActiveState") == "active", made.journal()
        yield made


def install(made: Machine, package: Path) -> None:
    """Install a package as an administrator does, without a network."""
    made.path("/root/package.deb").write_bytes(package.read_bytes())
    made.run("dpkg", "--force-unsafe-io", "--install", "/root/package.deb")
