# SPDX-License-Identifier: Apache-2.0
"""The ends of the list of kernels, booted: it counts exactly there, or says why it can't."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.kernels import machine
from tests.kernels.__main__ import examine
from tests.kernels.kernel import every
from tests.kernels.suites import FEW

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.kernel import Kernel

pytestmark = pytest.mark.kernels

WORKING = [kernel for kernel in every() if not kernel.refused]
REFUSED = [kernel for kernel in every() if kernel.refused]
SECONDS = 180.0


@pytest.fixture(autouse=True)
def _host() -> None:
    """Skip where there is nothing to boot with, unless that is to be a failure."""
    if reason := machine.missing():
        if os.environ.get("NETATOP_REQUIRE_KERNEL") == "1":
            pytest.fail(f"{reason} (NETATOP_REQUIRE_KERNEL=1)")
        pytest.skip(f"{reason}; NETATOP_REQUIRE_KERNEL=1 makes this a failure")


@pytest.mark.parametrize("kernel", [WORKING[0], WORKING[-1]], ids=lambda kernel: kernel.label)
def test_counts(kernel: Kernel, tmp_path: Path) -> None:
    """Oldest and newest: doctor and self-test, an exact exchange, a restart on pinned tables."""
    row = examine(kernel, tmp_path, FEW, SECONDS)
    log = tmp_path / "log"
    assert row.works(kernel), (row, log.read_text() if log.exists() else "")


@pytest.mark.parametrize("kernel", REFUSED[-1:], ids=lambda kernel: kernel.label)
def test_refused(kernel: Kernel, tmp_path: Path) -> None:
    """One that is too old: the message names what it lacks, and nobody has to read a verifier."""
    row = examine(kernel, tmp_path, FEW, SECONDS)
    assert row.works(kernel), row
