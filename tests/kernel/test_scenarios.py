# SPDX-License-Identifier: Apache-2.0
"""Every row of the table: named processes, equal to nftables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter import model
from tests.kernel.lab import open_lab, readable, total
from tests.kernel.scenarios import SCENARIOS
from tests.network import HOST

if TYPE_CHECKING:
    from exporter.model import Counters
    from tests.kernel.scenarios import Scenario

pytestmark = pytest.mark.kernel

FLIGHT = 16384
"""Of 31 connections at once, both ways, it fits into a backlog of 1,000 packets."""


def _delivered(counters: Counters, copies: int) -> Counters:
    """Return what sockets receive, when so many receive each packet."""
    receive = model.DIRECTIONS.index("receive")
    return tuple(
        number * (copies if index // 2 % 2 == receive else 1)
        for index, number in enumerate(counters)
    )


def _needs(scenario: Scenario) -> tuple[pytest.MarkDecorator, ...]:
    """Return what a scenario needs: where the kernel itself takes part, to see that."""
    if scenario.remainder.startswith("`kernel`"):
        return (pytest.mark.needs("netfilter"),)
    return (pytest.mark.needs("mptcp"),) if "subflows" in scenario.title else ()


@pytest.mark.parametrize(
    ("scenario", "family"),
    [
        pytest.param(scenario, family, id=f"{scenario.name}-ipv{family}", marks=_needs(scenario))
        for scenario in SCENARIOS
        for family in scenario.families
    ],
)
def test_scenario(scenario: Scenario, family: int) -> None:
    """Nothing is missing, nothing is counted twice, and each has its own."""
    with open_lab() as lab:
        for end in (lab.left, lab.right):
            # What is lost is sent again, and may come when only TIME_WAIT is left.
            end.limit_flight(FLIGHT)
            if scenario.protocol == "tcp":
                end.keep_order()
        start = lab.read()
        cast = scenario.play(lab, family)
        passed = lab.since(start)
    named = scenario.protocol
    for pids, end in ((cast.left, lab.left), (cast.right, lab.right)):
        here = end.namespace
        received = scenario.copies if end is lab.right else 1
        seen = model.subtract(passed.seen[here], cast.undelivered.get(here, model.ZERO))
        seen = _delivered(seen, received)
        expected = model.subtract(seen, cast.nobodys.get(here, model.ZERO))
        carried = total(passed.processes[pid] for pid in pids)
        assert readable(carried, named) == readable(expected, named)
    for pid, expected in cast.each.items():
        found = readable(passed.processes[pid])
        assert {what: found.get(what) for what in expected} == expected
    others = passed.processes.keys() - set(cast.left + cast.right)
    assert not any(readable(passed.processes[pid], named) for pid in others)
    nobodys = readable(total(cast.nobodys.values()), named)
    assert readable(passed.nobodys, named) == nobodys
    found = model.subtract(passed.unidentified["kernel"], passed.seen[HOST])
    assert readable(found, named) == nobodys
    assert passed.lost == {}
