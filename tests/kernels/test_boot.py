# SPDX-License-Identifier: Apache-2.0
"""The ends of the list of kernels, booted: it counts exactly there, or says why it can't."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.kernels import archive, machine
from tests.kernels.__main__ import examine
from tests.kernels.kernel import every
from tests.kernels.suites import FEW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernels.kernel import Kernel
    from tests.kernels.results import Row

pytestmark = pytest.mark.kernels

QUICK = [kernel for kernel in every() if kernel.loader == "core"]
"""An emulated processor compiles for minutes: bcc is for `make kernels`."""
WORKING = [kernel for kernel in QUICK if not kernel.refused]
BOOTED = [*(kernel for kernel in QUICK if kernel.refused), WORKING[0], WORKING[-1]]
SECONDS = 180.0


@pytest.fixture(scope="module", autouse=True)
def _host() -> None:
    """Skip where there is nothing to boot with, unless that is to be a failure."""
    if reason := machine.missing():
        if os.environ.get("NETATOP_REQUIRE_KERNEL") == "1":
            pytest.fail(f"{reason} (NETATOP_REQUIRE_KERNEL=1)")
        pytest.skip(f"{reason}; NETATOP_REQUIRE_KERNEL=1 makes this a failure")


@pytest.fixture(scope="module")
def booted(
    _host: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Kernel], Row]]:
    """Boot them one after the other: each has a processor, and other tests have theirs."""
    for kernel in BOOTED:
        archive.ensure(kernel)
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = {
            kernel: pool.submit(examine, kernel, tmp_path_factory.mktemp("guest"), FEW, SECONDS)
            for kernel in BOOTED
        }
        yield lambda kernel: running[kernel].result()


@pytest.mark.parametrize("kernel", BOOTED, ids=lambda kernel: kernel.label)
def test_boot(booted: Callable[[Kernel], Row], kernel: Kernel) -> None:
    """Doctor, self-test, exact exchanges around a restart; or a message that says what lacks."""
    row = booted(kernel)
    assert row.works(kernel), row
