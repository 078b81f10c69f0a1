# SPDX-License-Identifier: Apache-2.0
"""Two hosts, a Prometheus that scrapes both, and one above it that federates and is written to.

The configurations and rules are those of deploy/prometheus, but for addresses and intervals. The
hosts are two exporters, each of a cgroup and a network namespace of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import yaml

from tests.dashboards import ROOT, RULES, substitute, targets
from tests.e2e import program, workers
from tests.e2e.prometheus import Point, Prometheus, configured
from tests.kernel.lab import cgroup
from tests.network import namespace
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

JOB: Final = "pair-netatop"
SIZE: Final = 41
PRELUDE: Final = 7
SHARES: Final = (2003, 1009)
"""Datagrams that each host sends in the interval."""
QUIET: Final = 3
"""Seconds at both ends of the interval, so that a window of whole seconds has all of it."""
PATHS: Final = ("federation", "remote_write")
"""How series come to the server above: a label of them there."""
SCRAPE: Final = "{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}"


class Fleet(NamedTuple):
    """What there is after the interval."""

    below: Prometheus
    above: Prometheus
    group: str
    """What the senders on both hosts are called."""
    begin: float
    """All series were there, and said PRELUDE."""
    end: float
    """Everything was stored everywhere."""


def shipped(name: str) -> Any:
    """Return a configuration of deploy/prometheus."""
    return yaml.safe_load((ROOT / "deploy/prometheus" / name).read_text(encoding="utf-8"))


def configuration_below(exporters: list[Program], above: str) -> str:
    """Return that of the one that scrapes and writes; what is written says so."""
    made = shipped("remote-write.yml")
    (sent,) = made["remote_write"]
    sent["url"] = f"http://{above}/api/v1/write"
    sent["write_relabel_configs"].append({"target_label": "via", "replacement": "remote_write"})
    sent["queue_config"] = {"batch_send_deadline": "1s"}
    made["global"] |= yaml.safe_load(SCRAPE)
    made["rule_files"] = list(map(str, RULES))
    addresses = [exporter.address for exporter in exporters]
    made["scrape_configs"] = [{"job_name": JOB, "static_configs": [{"targets": addresses}]}]
    return yaml.safe_dump(made)


def configuration_above(below: str) -> str:
    """Return that of the one that federates; what comes so says so."""
    made = shipped("global.yml")
    made["global"] = yaml.safe_load(SCRAPE)
    (job,) = made["scrape_configs"]
    job["static_configs"] = [{"targets": [below], "labels": {"via": "federation"}}]
    return yaml.safe_dump(made)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Send from two hosts, between two moments at which nothing is under way."""
    group = workers.new_name()
    folders = [tmp_path_factory.mktemp(name) for name in ("below", "above")]
    with contextlib.ExitStack() as stack:
        cgroups = [stack.enter_context(cgroup()) for _ in SHARES]
        networks = [stack.enter_context(namespace()) for _ in SHARES]
        exporters = [
            stack.enter_context(program.serve("--cgroup-path", str(place))) for place in cgroups
        ]
        ports = program.free_port(), program.free_port()
        addresses = [f"{program.LOCAL}:{port}" for port in ports]
        above = stack.enter_context(
            configured(
                configuration_above(addresses[0]),
                folders[1],
                "--web.enable-remote-write-receiver",
                port=ports[1],
            )
        )
        below = stack.enter_context(
            configured(configuration_below(exporters, addresses[1]), folders[0], port=ports[0])
        )
        senders = [
            stack.enter_context(
                Process(workers.talker, group, SIZE, namespace=network, cgroup=place)
            )
            for network, place in zip(networks, cgroups, strict=True)
        ]
        for sender in senders:
            sender.hear()
        send(senders, (PRELUDE, PRELUDE))
        made = Fleet(below, above, group, 0, 0)
        wait_until(lambda: arrived(made, (PRELUDE, PRELUDE)), "the prelude is everywhere")
        begin = time.time()
        time.sleep(QUIET)
        send(senders, SHARES)
        whole = tuple(PRELUDE + share for share in SHARES)
        wait_until(lambda: arrived(made, whole), "all that was sent is everywhere")
        time.sleep(QUIET)
        wait_until(lambda: arrived(made, whole), "all is still everywhere")
        yield made._replace(begin=begin, end=time.time())
        for sender in senders:
            sender.tell(0)


def send(senders: list[Process], shares: tuple[int, ...]) -> None:
    """Have all of them send at once."""
    for sender, share in zip(senders, shares, strict=True):
        sender.tell(share)
    for sender in senders:
        sender.hear()


def length(datagrams: int) -> int:
    """Return the bytes of so many."""
    return datagrams * (workers.HEADERS + SIZE)


def servers(fleet: Fleet) -> Iterator[tuple[Prometheus, str]]:
    """Yield each place where the series are, and the matcher that finds them there."""
    yield fleet.below, ""
    for path in PATHS:
        yield fleet.above, f',via="{path}"'


def summed(fleet: Fleet, more: str, direction: str = "transmit") -> str:
    """Return the selector of what is recorded of the senders, host by host."""
    metric = f"instance_group:netatop_group_{direction}_bytes_total:sum"
    return f'{metric}{{job="{JOB}",group="{fleet.group}"{more}}}'


def arrived(fleet: Fleet, shares: tuple[int, ...]) -> bool:
    """Tell whether every server has what these shares amount to, of both hosts."""
    expected = sorted(map(length, shares))
    return all(
        sorted(float(one["value"][1]) for one in server.query(summed(fleet, more))) == expected
        for server, more in servers(fleet)
    )


def extrapolated(points: list[Point], begin: float, end: float) -> float:
    """Return what increase() makes of samples that have not fallen, by its own rules.

    Up to both ends of the window, as if it went on like that; but half an interval at most where
    the next sample would be more than 1.1 intervals away, and not below zero.
    """
    first, last = points[0], points[-1]
    grown = last.value - first.value
    sampled, before, after = (
        round(1000 * b) - round(1000 * a)  # as whole milliseconds: the last digits would matter
        for a, b in ((first.time, last.time), (begin, first.time), (last.time, end))
    )
    average = sampled / (len(points) - 1)
    if grown > 0:
        before = min(before, sampled * first.value / grown)
    reach = sum(gap if gap < 1.1 * average else average / 2 for gap in (before, after))
    return grown * (sampled + reach) / sampled


def test_sums_of_the_fleet(fleet: Fleet) -> None:
    """What was recorded of both hosts has grown by what both have sent, on every server, exactly.

    Between two instants at which nothing was under way; increase() over a window adds what its
    extrapolation does, and no more: its formula, applied to the samples, gives the same number.
    """
    end = int(fleet.end)
    window = int(end - fleet.begin)
    for server, more in servers(fleet):
        for direction in ("receive", "transmit"):
            selector = summed(fleet, more, direction)
            found = [
                Point(float(one["value"][0]), float(one["value"][1]))
                for moment in (fleet.begin, end)
                for one in server.query(f"sum({selector})", time=moment)
            ]
            assert found[1].value - found[0].value == length(sum(SHARES))
            series = server.query(f"{selector}[{window}s]", time=end)
            assert len(series) == len(SHARES)
            samples = [[Point(t, float(v)) for t, v in one["values"]] for one in series]
            assert all(a.value <= b.value for one in samples for a, b in itertools.pairwise(one))
            assert sum(one[-1].value - one[0].value for one in samples) == length(sum(SHARES))
            (grown,) = server.query(f"sum(increase({selector}[{window}s]))", time=end)
            expected = sum(extrapolated(one, end - window, end) for one in samples)
            assert float(grown["value"][1]) == pytest.approx(expected, rel=1e-9)
            assert expected == pytest.approx(length(sum(SHARES)), rel=2.5 / window)


def test_both_paths_carry_the_same(fleet: Fleet) -> None:
    """What is recorded below is above, twice, and nothing of a process or a socket is."""
    names = 'count by (__name__) ({__name__=~".*netatop_.*"%s})'
    below = {one["metric"]["__name__"] for one in fleet.below.query(names % "")}
    recorded = {name for name in below if ":" in name}
    assert len(recorded) > 15
    for path in PATHS:
        above = {o["metric"]["__name__"] for o in fleet.above.query(names % f',via="{path}"')}
        assert above == recorded | {"netatop_build_info"}
        up = fleet.above.query(f'up{{job="{JOB}",via="{path}"}}')
        assert [one["value"][1] for one in up] == ["1", "1"]
        assert {one["metric"]["prometheus"] for one in up} == {"a"}


def test_budget(fleet: Fleet) -> None:
    """What comes up of a host is what docs/dashboards.md reckons with: its groups decide."""
    (groups,) = fleet.below.query(
        'count(count by (namespace, group) ({__name__=~"netatop_group_.+"}))'
    )
    recorded = fleet.below.query('count by (instance) ({__name__=~"instance.*:netatop_.+"})')
    outcomes = fleet.below.query('count by (instance) ({__name__=~"instance_outcome:.+"})')
    assert (groups["value"][1], outcomes) == ("1", [])
    assert [float(one["value"][1]) for one in recorded] == [17 + 5 * 1] * len(SHARES)


def test_groups_of_the_fleet(fleet: Fleet) -> None:
    """The fleet's rate of a group is the sum of its hosts' rates when it was recorded."""
    by_host = f'instance_group:netatop_group_transmit_bytes:rate5m{{group="{fleet.group}"}}'
    whole = f'group:netatop_group_transmit_bytes:rate5m{{group="{fleet.group}"}}'
    (found,) = fleet.below.query(whole, time=fleet.end)
    (moment,) = fleet.below.query(f"timestamp({whole})", time=fleet.end)
    hosts = fleet.below.query(by_host, time=moment["value"][1])
    assert len(hosts) == len(SHARES)
    expected = sum(float(one["value"][1]) for one in hosts)
    assert float(found["value"][1]) == pytest.approx(expected, rel=1e-12)
    assert expected > 0


def test_dashboard_above(fleet: Fleet) -> None:
    """The fleet's dashboard needs no more than what comes up."""
    choices = {"job": JOB, "instance": ".+", "__rate_interval": "5s", "__range": "60s"}
    empty = [
        str(target)
        for target in targets("netatop-fleet")
        if target.panel != "Processes that ended"  # none has, here
        and not fleet.above.query(substitute(target.expression, **choices))
    ]
    assert not empty
