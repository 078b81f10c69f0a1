# SPDX-License-Identifier: Apache-2.0
"""Names, labels and types as the contract has them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter import metrics, model
from exporter.attribution.bounds import Bounds
from exporter.config.settings import Hosts, Settings
from exporter.exposition.renderer import Renderer
from exporter.model import (
    HostRecord,
    LifeKey,
    ProgramStatus,
    RoundTrips,
    SocketRecord,
    SocketWalk,
    TcpTraffic,
)
from tests.unit import clients
from tests.unit.facts import SECOND, counters, ledger, process, snapshot, thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from exporter.exposition.table import Families

HOSTILE = 'a"b\\c\nd{}, \ufffd'


def facts() -> metrics.Facts:
    """Return facts that leave no family out."""
    socket = SocketRecord(
        1, process(10).identity, "udp", "::1", 53, "::", 0, 1, 1, 41, 2, 82, TcpTraffic(1, 2, 3)
    )
    used = {
        "tcp": TcpTraffic(19, 23, 29),
        "round_trips": RoundTrips((0, 1, 0, 0, 0, 2, 0, 0, 0, 0), 40_000),
    }
    found = snapshot(
        process(10, HOSTILE, remotes=(1, 2, 3, 4) * model.REMOTE_CLASSES, **used),
        process(11, end_ns=3 * SECOND, wait_status=9),
        thread(10, 12, HOSTILE),
        lives={LifeKey("sh", 0, 1): (23, 1, 24, 1, 0, 0)},
        hosts=[
            HostRecord("192.0.2.1", "", counters(udp_receive_packets=1), 1, (1, 2, 3, 4)),
            HostRecord("2001:db8::1", "br0", counters(tcp_receive_packets=1), 1),
        ],
        unidentified={"kernel": counters(icmp_receive_packets=3, icmp_receive_bytes=252)},
    )
    walk = SocketWalk({"tcp": 0, "udp": 2, "icmp": 0, "other": 0}, (socket, socket))
    settings = Settings(threads=True, sockets=True, hosts=Hosts())
    names = Settings(remotes=True).class_names
    report = ledger(settings=settings, class_names=names).report(found, walk.sockets)
    shown = Bounds(settings.series_limits).choose(report, found.now_ns)
    programs = [ProgramStatus("count_receive", "cgroup_skb/ingress", True, 3, 1500)]
    information = [("",) * len(metrics.INFORMATION)]
    return metrics.Facts(report, found, walk, programs, shown, information)


def tables() -> Iterator[Families]:
    """Yield all families of this version."""
    yield from metrics.families(facts())
    yield from metrics.bound_families((), {"process": 23})
    yield from metrics.log_families(Log())
    yield from metrics.reload_families(metrics.Reload(success=True, at_seconds=1.5))
    yield from metrics.build_families(metrics.Build("1", "2", "3", "4", "5"))
    yield from metrics.stage_families([metrics.Stage("settle", 0.25, True)])


def everything() -> list[Metric]:
    """Return them as prometheus_client's."""
    return list(clients.families(tables()))


class Log(NamedTuple):
    """A log of finished processes."""

    written: int = 23
    lost: Mapping[str, int] = MappingProxyType({"full": 0, "error": 0, "slow": 0})


def test_names_and_labels() -> None:
    """Every family of this version, with its labels; a renamed one breaks somebody's dashboard."""
    traffic = {
        "": ("protocol",),
        "unidentified_": ("reason", "protocol"),
        "group_": (*metrics.GROUP, "protocol"),
        "group_remote_": (*metrics.GROUP, "remote"),
        "process_": ("pid", "process", "group", "protocol"),
        "thread_": ("pid", "tid", "thread", "protocol"),
        "socket_": metrics.SOCKET,
        "exited_": (*metrics.GROUP, "protocol"),
        "host_": (*metrics.HOST, "protocol"),
    }
    expected = {
        f"netatop_{subject}{direction}_{unit}": set(labels)
        for subject, labels in traffic.items()
        for direction in ("receive", "transmit")
        for unit in ("packets", "bytes")
    }
    expected |= {
        f"netatop_{subject}_tcp_{what}": set(labels)
        for subject, labels in (
            ("group", metrics.GROUP),
            ("process", ("pid", "process", "group")),
            ("socket", metrics.SOCKET),
        )
        for what in ("payload_receive_bytes", "payload_transmit_bytes", "retransmitted_packets")
    }
    expected |= {
        "netatop_group_tcp_round_trip_seconds": {*metrics.GROUP, "le"},
        "netatop_exited_process_lifetime_seconds": {*metrics.GROUP, "le"},
        "netatop_exited_process_bytes": {*metrics.GROUP, "le"},
        "netatop_exit_list_evicted": set(),
        "netatop_lifecycle_events": {*metrics.GROUP, "event"},
        "netatop_exited_processes": {*metrics.GROUP, "outcome"},
        "netatop_exit_list_processes": set(),
        "netatop_tasks": {"kind"},
        "netatop_sockets": {"protocol"},
        "netatop_host_connections": {*metrics.HOST, "protocol"},
        "netatop_lost": {"object", "reason"},
        "netatop_map_entries": {"map"},
        "netatop_map_capacity": {"map"},
        "netatop_program_attached": {"program", "hook"},
        "netatop_program_run_seconds": {"program", "hook"},
        "netatop_program_runs": {"program", "hook"},
        "netatop_process_info": set(metrics.INFORMATION),
        "netatop_series": {"kind"},
        "netatop_series_limit": {"kind"},
        "netatop_exit_log_records": set(),
        "netatop_exit_log_lost": {"reason"},
        "netatop_config_last_reload_successful": set(),
        "netatop_config_last_reload_success_timestamp_seconds": set(),
        "netatop_build_info": {"version", "python"},
        "netatop_loader_info": {"loader", "libbpf", "kernel", "layout", "owners"},
        "netatop_scrape_stage_duration_seconds": {"stage"},
        "netatop_scrape_stage_success": {"stage"},
    }
    found = {family.name: set(family.samples[0].labels) for family in everything()}
    assert found == expected


def test_no_series_twice() -> None:
    """Neither Prometheus nor promtool would say so."""
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in everything()
        for sample in family.samples
    ]
    assert [key for key, count in Counter(samples).items() if count > 1] == []


def test_both_formats_carry_hostile_names() -> None:
    """Quotes, backslashes and line breaks come back as they were."""
    text = Renderer().render(tables()).decode()
    openmetrics = Renderer().render(tables(), openmetrics=True).decode()
    for families in (parse_text(text), parse_openmetrics(openmetrics)):
        names = {
            sample.labels.get("process")
            for family in families
            for sample in family.samples
            if sample.name == "netatop_process_transmit_packets_total"
        }
        assert HOSTILE in names


@pytest.mark.parametrize("openmetrics", [False, True])
def test_text_is_that_of_prometheus_client(openmetrics: bool) -> None:
    """Line by line: the same names, heads, labels and numbers."""
    expected = clients.render(tables(), openmetrics=openmetrics).splitlines()
    assert Renderer().render(tables(), openmetrics=openmetrics).splitlines() == expected


def test_what_the_library_tells_of_the_own_process() -> None:
    """All of it, unchanged."""
    told = ProcessCollector(registry=None).collect()
    found = list(clients.families(metrics.own_families(told)))
    assert [metric.name for metric in found] == [metric.name for metric in told]
    assert [metric.type for metric in found] == [metric.type for metric in told]
    assert [metric.samples for metric in found] == [metric.samples for metric in told]


def test_each_family_has_one_collector() -> None:
    """Those of all collectors one by one are those of a scrape without a choice."""
    names = [
        (collector, family.name)
        for collector in metrics.COLLECTORS
        for table in metrics.families(facts(), {collector})
        for family in table.families
    ]
    whole = [family.name for table in metrics.families(facts()) for family in table.families]
    assert Counter(name for _, name in names) == Counter(whole)
    assert {collector for collector, _ in names} == {*metrics.COLLECTORS} - {"exporter"}


def test_every_help_of_a_byte_counter_names_the_layer() -> None:
    """IP bytes and payload must never be mixed up."""
    for family in everything():
        if "_tcp_payload_" in family.name:
            assert "another layer" in family.documentation
        elif family.name.endswith(("_bytes", "_packets")) and "_tcp_" not in family.name:
            assert "at the IP layer" in family.documentation


def test_equal_sockets_are_one_series() -> None:
    """Two sockets with the same ends live in two network namespaces."""
    samples = {family.name: family.samples for family in everything()}
    values = [s.value for s in samples["netatop_socket_transmit_bytes"] if s.labels["pid"] == "10"]
    assert values == [2 * 82]


def test_processes_show_only_protocols_that_they_used() -> None:
    """The others would be three quarters of all series."""
    samples = {family.name: family.samples for family in everything()}
    own = (s for s in samples["netatop_process_receive_bytes"] if s.labels["pid"] == "10")
    assert [s.labels["protocol"] for s in own] == ["udp"]
    assert len({s.labels["protocol"] for s in samples["netatop_group_receive_bytes"]}) == 4


def test_run_times_only_with_the_kernels_statistics() -> None:
    """Zeros would say that nothing runs."""
    programs = [ProgramStatus("count_receive", "cgroup_skb/ingress", True, 0, 0)]
    found = metrics.families(metrics.Facts(programs=programs))
    assert [f.name for table in found for f in table.families] == ["netatop_program_attached"]


def test_every_metric_is_documented() -> None:
    """docs/metrics.md names what the code exposes, with its labels, and nothing else."""
    table = Path(__file__).parents[2] / "docs" / "metrics.md"
    documented: dict[str, set[str]] = {}
    for line in table.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        if not line.startswith("| `netatop_"):
            continue
        names = [name for cell in re.findall("`(.+?)`", cells[0]) for name in _expand(cell)]
        labels = [set(re.findall("`(.+?)`", part)) for part in cells[2].split(";")]
        for number, name in enumerate(names):
            documented[name] = labels[number % len(labels)]
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): set(family.samples[0].labels)
        for family in everything()
    }
    assert documented == exposed


def test_every_collector_is_documented() -> None:
    """With the families that it has, in the order of the code."""
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    text = page.read_text(encoding="utf-8").partition("## Collectors")[2]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", text, re.MULTILINE)
    assert tuple(collector for collector, _ in rows) == metrics.COLLECTORS
    for collector, cell in rows[:-1]:
        documented = [re.compile(name.replace("*", ".*")) for name in re.findall("`(.+?)`", cell)]
        names = {
            family.sample
            for table in metrics.families(facts(), {collector})
            for family in table.families
        }
        for name in names:
            assert any(pattern.fullmatch(name) for pattern in documented), (collector, name)
        for pattern in documented:
            assert any(map(pattern.fullmatch, names)), (collector, pattern)


def _expand(name: str) -> list[str]:
    """Expand braces: a{b,c} is ab and ac."""
    before, brace, rest = name.partition("{")
    if not brace:
        return [name]
    choices, _, after = rest.partition("}")
    return [full for choice in choices.split(",") for full in _expand(before + choice + after)]
