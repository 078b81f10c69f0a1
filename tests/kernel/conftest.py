# SPDX-License-Identifier: Apache-2.0
"""The lab, for tests that take it as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.kernel.core_loader import Options
from tests.kernel.lab import open_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab


@pytest.fixture(params=[False, True], ids=["walk-sockets", "walk-files"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Where one buffer is one packet; as most kernels do it, and as Linux 7 needs it."""
    with open_lab(Options(walk_files=request.param, spares=request.param)) as opened:
        yield opened


@pytest.fixture
def wide_lab() -> Iterator[Lab]:
    """Where a buffer may carry many packets (GSO and GRO): the witnesses count buffers."""
    with open_lab(single_packets=False) as opened:
        for end in (opened.left, opened.right):
            end.limit_flight(131072)
        yield opened


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """Both families."""
    found: int = request.param
    return found
