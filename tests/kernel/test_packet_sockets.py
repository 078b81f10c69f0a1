# SPDX-License-Identifier: Apache-2.0
"""Packet sockets bypass IP: each call counts as one packet of protocol `other`, with its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import workload
from tests.kernel.lab import readable

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

pytestmark = pytest.mark.kernel

LINK_HEADER = 14


def test_packet_sockets(lab: Lab) -> None:
    """What a sender hands over with its link header, and what a receiver gets without it."""
    frames, size = 13, 1009
    start = lab.read()
    receiver = lab.start(workload.receive_frames, lab.right.device, frames, at=lab.right)
    receiver.hear()
    sender = lab.start(
        *(workload.send_frames, lab.left.device, lab.right.hardware, frames, size), at=lab.left
    )
    sender.wait()
    receiver.wait()

    passed = lab.since(start)
    assert readable(passed.processes[sender.pid]) == {"other transmit": (frames, frames * size)}
    assert readable(passed.processes[receiver.pid]) == {
        "other receive": (frames, frames * (size - LINK_HEADER))
    }
