# SPDX-License-Identifier: Apache-2.0
"""The table that /proc/netatop was."""

from __future__ import annotations

import json

import pytest

from exporter.client import Client
from exporter.collector import Collector
from exporter.commands import status
from exporter.config.flags import Address
from exporter.config.settings import Settings
from exporter.errors import ServeError
from exporter.metrics import Build
from tests.unit.facts import FakeTracer, counters, ledger, process


def test_totals_and_unidentified() -> None:
    """Numbers of an exposition stand in their columns."""
    tracer = FakeTracer(process(10))
    strange = counters(udp_transmit_packets=5, udp_transmit_bytes=77)
    tracer.snapshot.unidentified["kernel"] = strange  # type: ignore[index]
    build = Build("1.2.3", "3.11", "fake", "1.1", "6.18", "9d7220dd")
    rendering = Collector(tracer, ledger(), Settings(), build).expose()
    assert rendering
    exposition = rendering.body.decode()
    lines = status.report(exposition).splitlines()
    assert [line.split() for line in lines if line.startswith("udp transmit")] == [
        ["udp", "transmit", "28", "4176", "5", "77"]
    ]
    assert "tasks      1 process, 0 thread" in lines
    assert "lost       nothing" in lines
    assert lines[0] == (
        "netatop-exporter 1.2.3, Linux 6.18, loader fake, libbpf 1.1, layout 9d7220dd"
    )
    theirs = lines[lines.index("as /proc/netatop:") + 1 :]
    assert [line.split() for line in theirs] == [
        ["tcpsndpacks:", "0", "(unident:", "0)"],
        ["tcprcvpacks:", "0", "(unident:", "0)"],
        ["udpsndpacks:", "28", "(unident:", "5)"],
        ["udprcvpacks:", "0", "(unident:", "0)"],
        ["icmpsndpacks:", "0"],
        ["icmprcvpacks:", "0"],
        ["#sockinfo:", "1", "(overflow:", "0)"],
        ["#taskinfo:", "1", "(overflow:", "0)"],
        ["#taskexit:", "0"],
        ["modversion:", "1.2.3"],
    ]
    facts = json.loads(status.report(exposition, as_json=True))
    assert facts["unidentified"]["kernel"]["udp"]["transmit_bytes"] == 77
    assert (facts["version"], facts["layout"]) == ("1.2.3", "9d7220dd")


@pytest.mark.parametrize("text", ["", "some_other_metric 1\n", "<html>"])
def test_another_program_answers(text: str) -> None:
    """It is said, not shown as zeros."""
    with pytest.raises(ServeError, match="the answer"):
        status.report(text)


def test_nobody_answers() -> None:
    """The message tells how to start one and how to name another address."""
    with pytest.raises(ServeError, match=r"no exporter answers at http://127.0.0.1:1/metrics"):
        Client(Address("127.0.0.1", 1)).fetch("/metrics")
