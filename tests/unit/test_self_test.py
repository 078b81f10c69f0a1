# SPDX-License-Identifier: Apache-2.0
"""The self-test sees when packets are not counted, and when it can't tell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter import self_test
from exporter.errors import MapReadError
from exporter.exposition.rendering import Rendering
from exporter.web.message import Request
from exporter.web.site import Site
from tests.unit.facts import FakeTracer, counters, process, snapshot

if TYPE_CHECKING:
    from exporter.model import Counters, Snapshot

WHOLE = counters(
    udp_transmit_packets=23,
    udp_transmit_bytes=23 * 69,
    udp_receive_packets=23,
    udp_receive_bytes=23 * 69,
)


class Counting(FakeTracer):
    """Says at each reading what comes next."""

    def __init__(self, *readings: Counters | None, lost: int = 0) -> None:
        super().__init__()
        self._readings = iter(readings)
        self._lost = iter((0, lost))

    def read(self) -> Snapshot:
        own = next(self._readings)
        tasks = [] if own is None else [process(os.getpid(), counters=own)]
        found = snapshot(*tasks)
        return type(found)(
            now_ns=found.now_ns,
            tasks=found.tasks,
            unidentified=found.unidentified,
            lost={("task", "full"): next(self._lost)},
            tables=found.tables,
        )


def test_exact() -> None:
    """What we have sent, on top of what there was before."""
    twice = tuple(2 * number for number in WHOLE)
    assert self_test.run(Counting(WHOLE, twice)).passed
    assert self_test.run(Counting(None, WHOLE)).passed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"udp_transmit_packets": 22}, "transmit: of 23 datagrams of 69 bytes"),
        ({"udp_receive_bytes": 23 * 69 + 1}, "23 packets, 1588 bytes were counted"),
        ({"udp_transmit_packets": 0, "udp_transmit_bytes": 0}, "0 packets, 0 bytes"),
    ],
)
def test_wrong(change: dict[str, int], said: str) -> None:
    """One packet or one byte too few or too many."""
    whole = {
        "udp_transmit_packets": 23,
        "udp_transmit_bytes": 23 * 69,
        "udp_receive_packets": 23,
        "udp_receive_bytes": 23 * 69,
    }
    verdict = self_test.run(Counting(None, counters(**whole | change)))
    assert verdict.passed is False
    assert said in verdict.said


def test_no_room() -> None:
    """It can't tell where the record of a task found none."""
    verdict = self_test.run(Counting(None, None, lost=1))
    assert verdict.passed is None
    assert "--tasks.max" in verdict.said


def test_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor without a loopback device."""
    monkeypatch.setattr(self_test, "LOCAL", "192.0.2.1")
    verdict = self_test.run(Counting(WHOLE, WHOLE))
    assert verdict.passed is None
    assert "Cannot assign requested address" in verdict.said


def test_a_kernel_that_fails() -> None:
    """What it says is the reason."""
    tracer = FakeTracer()
    tracer.failures["settle"] = MapReadError("iterator: broken")
    assert self_test.run(tracer) == (False, "iterator: broken")


def test_not_ready() -> None:
    """What is wrong is what /readyz says, while the metrics can be had."""
    site = Site("/metrics")
    site.expose = lambda _: Rendering(b"# EOF\n")
    site.unfit = "self-test failed: broken"
    assert _ask(site, "/readyz") == (503, b"self-test failed: broken\n")
    assert _ask(site, "/metrics")[0] == 200
    site.unfit = ""
    assert _ask(site, "/readyz") == (200, b"ready\n")


def _ask(site: Site, path: str) -> tuple[int, bytes]:
    answer = site.answer(Request("GET", path))
    return answer.status, answer.body
