# SPDX-License-Identifier: Apache-2.0
"""One buffer, many packets: what is counted is what is on the wire."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from exporter import model
from tests import workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from tests.kernel.lab import Difference, Lab
    from tests.network import Namespace
    from tests.workload import Process

    Arrange: TypeAlias = Callable[[Lab], None]

pytestmark = pytest.mark.kernel

BULK = 5_000_011
BUFFERS, BUFFER, SEGMENT = 13, 10_007, 1009
SEGMENTS = -(-BUFFER // SEGMENT)


def _pair(passed: Difference, process: Process, protocol: str, direction: str) -> tuple[int, int]:
    counters = passed.processes[process.pid]
    return (
        model.pick(counters, protocol, direction, "packets"),
        model.pick(counters, protocol, direction, "bytes"),
    )


def _buffers(passed: Difference, namespace: Namespace, protocol: str, direction: str) -> int:
    return model.pick(passed.seen[namespace], protocol, direction, "packets")


def _cut_at_sender(lab: Lab) -> None:
    """Let the stack hand over large buffers, and cut them before they leave the sender."""
    lab.left.offload("tso", "gso", "tx-udp-segmentation", on=False)
    lab.right.offload("gro", on=False)


def _cut_and_merge(lab: Lab) -> None:
    """Cut at the sender, merge at the receiver (GRO)."""
    lab.left.offload("tso", "gso", "tx-udp-segmentation", on=False)
    lab.right.offload("gro", on=True)


def _keep_whole(lab: Lab) -> None:
    """Let large buffers arrive as they were sent."""
    lab.left.offload("tso", "gso", "tx-udp-segmentation", on=True)


def test_tcp_as_on_the_wire(wide_lab: Lab, family: int) -> None:
    """A bulk transfer counts as many packets and bytes as a capture at the far side."""
    lab, address = wide_lab, wide_lab.right.address(family)
    _cut_at_sender(lab)
    start = lab.read()
    tap = lab.start(workload.capture, lab.right.device, socket.IPPROTO_TCP, at=lab.right)
    tap.hear()
    server = lab.start(workload.serve_tcp, address, 1, at=lab.right)
    server.hear()
    client = lab.start(workload.send_tcp, address, 1, BULK, at=lab.left)
    client.wait()
    server.wait()
    passed = lab.since(start)
    tap.tell("stop")

    sent = _pair(passed, client, "tcp", "transmit")
    assert sent == tap.hear()
    assert _buffers(passed, lab.left.namespace, "tcp", "transmit") < sent[0] / 2


def test_udp_as_on_the_wire(wide_lab: Lab, family: int) -> None:
    """UDP_SEGMENT: the same."""
    lab, address = wide_lab, wide_lab.right.address(family)
    _cut_at_sender(lab)
    start = lab.read()
    tap = lab.start(workload.capture, lab.right.device, socket.IPPROTO_UDP, at=lab.right)
    tap.hear()
    sender = lab.start(workload.send_udp_segments, address, BUFFERS, BUFFER, SEGMENT, at=lab.left)
    sender.wait()
    passed = lab.since(start)
    tap.tell("stop")

    sent = _pair(passed, sender, "udp", "transmit")
    assert sent == tap.hear()
    headers = 28 if family == 4 else 48
    assert sent == (BUFFERS * SEGMENTS, BUFFERS * (BUFFER + SEGMENTS * headers))
    assert _buffers(passed, lab.left.namespace, "udp", "transmit") == BUFFERS


@pytest.mark.parametrize("arrange", [_keep_whole, _cut_and_merge])
def test_tcp_arrives_in_large_buffers(wide_lab: Lab, family: int, arrange: Arrange) -> None:
    """What one end sends is what the other receives, however it is carried."""
    lab, address = wide_lab, wide_lab.right.address(family)
    arrange(lab)
    start = lab.read()
    server = lab.start(workload.serve_tcp, address, 1, at=lab.right)
    server.hear()
    client = lab.start(workload.send_tcp, address, 1, BULK, at=lab.left)
    client.wait()
    server.wait()

    passed = lab.since(start)
    sent = _pair(passed, client, "tcp", "transmit")
    assert _pair(passed, server, "tcp", "receive") == sent
    assert _pair(passed, client, "tcp", "receive") == _pair(passed, server, "tcp", "transmit")
    assert _buffers(passed, lab.right.namespace, "tcp", "receive") < sent[0] / 2


@pytest.mark.parametrize("merged", [False, True], ids=["datagrams", "UDP_GRO"])
@pytest.mark.parametrize("arrange", [_keep_whole, _cut_and_merge])
def test_udp_arrives_in_large_buffers(
    wide_lab: Lab, family: int, arrange: Arrange, *, merged: bool
) -> None:
    """The same, for receivers that take merged buffers and for those that do not."""
    lab, address = wide_lab, wide_lab.right.address(family)
    arrange(lab)
    start = lab.read()
    receiver = lab.start(
        workload.receive_udp_bytes, address, BUFFERS * BUFFER, int(merged), at=lab.right
    )
    receiver.hear()
    sender = lab.start(workload.send_udp_segments, address, BUFFERS, BUFFER, SEGMENT, at=lab.left)
    sender.wait()
    largest = receiver.hear()
    receiver.wait()

    passed = lab.since(start)
    headers = 28 if family == 4 else 48
    expected = (BUFFERS * SEGMENTS, BUFFERS * (BUFFER + SEGMENTS * headers))
    assert _pair(passed, sender, "udp", "transmit") == expected
    assert _pair(passed, receiver, "udp", "receive") == expected
    assert (largest > SEGMENT) is merged
