# SPDX-License-Identifier: Apache-2.0
"""A socket that goes from one process to another follows its user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import workload
from tests.kernel.lab import readable
from tests.workload import CLOSED_PORT

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel


def test_hand_over(lab: Lab, family: int) -> None:
    """What was sent before the hand-over stays with the first, what comes after is the second's."""
    before, after = 23, 13
    address = lab.right.address(family)
    start = lab.read()
    first = lab.start(workload.hand_over, address, CLOSED_PORT, before, after, at=lab.left)
    second = first.hear()
    first.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    size = (28 if family == 4 else 48) + len(b"first")
    assert readable(passed.processes[first.pid]) == {"udp transmit": (before, before * size)}
    assert readable(passed.processes[second]) == {"udp transmit": (after, after * size)}
