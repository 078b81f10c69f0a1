# SPDX-License-Identifier: Apache-2.0
"""The law of conservation as /metrics shows it, with traffic of every kind under way."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from exporter.model import DIRECTIONS, PROTOCOLS, REASONS, UNITS
from tests.e2e import program, workers
from tests.workload import CLOSED_PORT, Process, echo, knock_tcp, wait_until

if TYPE_CHECKING:
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

DATAGRAMS = 103
CONNECTIONS = 19
ECHOES = 7


def test_every_part_is_there(exporter: Program) -> None:
    """The totals and the unidentified are complete from the first scrape on, zeros included."""
    found = exporter.scrape()
    for direction in DIRECTIONS:
        for unit in UNITS:
            rest = f"{direction}_{unit}_total"
            assert found.label_values(f"netatop_{rest}", "protocol") == set(PROTOCOLS)
            parts = found.series(f"netatop_unidentified_{rest}")
            assert {(dict(labels)["protocol"], dict(labels)["reason"]) for labels in parts} == {
                (protocol, reason) for protocol in PROTOCOLS for reason in REASONS
            }


def test_law_with_strays(name: str) -> None:
    """Packets of nobody are in the totals too, and the law holds in every scrape meanwhile."""
    with program.serve() as exporter, Process(workers.talker, name, 1) as talker:
        talker.hear()
        before = exporter.scrape()
        with contextlib.closing(workers.udp_socket()) as stray:
            for _ in range(DATAGRAMS):
                stray.sendto(bytes(11), (program.LOCAL, CLOSED_PORT))
        talker.tell(DATAGRAMS)
        talker.hear()
        for function, arguments in (
            (knock_tcp, (program.LOCAL, CONNECTIONS)),
            (echo, (program.LOCAL, socket.SOCK_RAW, ECHOES, 13)),
        ):
            with Process(function, *arguments) as process:
                process.hear()
                exporter.scrape()
        after = exporter.scrape()
        assert after.traffic("group_", group=name) == workers.traffic(DATAGRAMS, 1)
        # Others use this host as well: so much at least.
        for protocol, reason, direction, least in (
            ("udp", "no_socket", "receive", DATAGRAMS),
            ("tcp", "no_socket", "receive", CONNECTIONS),
            ("tcp", "kernel", "transmit", CONNECTIONS),
        ):
            what = f"netatop_unidentified_{direction}_packets_total"
            grown = [x.sum(what, protocol=protocol, reason=reason) for x in (before, after)]
            assert grown[1] - grown[0] >= least, (protocol, reason)
        echoes = "netatop_group_transmit_packets_total"
        assert after.sum(echoes, protocol="icmp") - before.sum(echoes, protocol="icmp") >= ECHOES


def test_law_while_it_changes(name: str) -> None:
    """Both formats, again and again, while packets flow and processes come and go."""
    with (
        program.serve() as exporter,
        Process(workers.pacer, name, 1, 2003, 2) as pacer,
        Process(workers.crowd, f"{name}c", 101, 1) as crowd,
    ):
        pacer.hear()
        pacer.tell()

        def all_sent() -> bool:
            exporter.scrape()
            found = exporter.scrape(openmetrics=True)
            return found.sum("netatop_group_transmit_packets_total", group=name) >= 2004

        wait_until(all_sent, "all that is sent is counted")
        crowd.hear()
        found = exporter.scrape()
        assert found.traffic("group_", group=name) == workers.traffic(2004, 0)
        assert found.sum("netatop_group_transmit_packets_total", group=f"{name}c") == 101
