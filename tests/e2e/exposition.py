# SPDX-License-Identifier: Apache-2.0
"""What a scrape said, read by prometheus_client's parsers and held to the law of conservation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.model import DIRECTIONS, PROTOCOLS, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator

Labels: TypeAlias = frozenset[tuple[str, str]]

NEVER_FALL: Final = re.compile(
    r"netatop_(|group_|exited_|unidentified_)(receive|transmit)_(packets|bytes)_total"
    r"|netatop_exited_processes_total|netatop_lost_total|netatop_exit_list_evicted_total"
    r"|netatop_group_tcp_.*|netatop_exited_process_(lifetime_seconds|bytes)_.*"
)

KINDS: Final = {
    "group": re.compile("netatop_(group|exited|lifecycle)_"),
    "process": re.compile("netatop_process_"),
    "thread": re.compile("netatop_thread_"),
    "socket": re.compile("netatop_socket_"),
    "host": re.compile("netatop_host_"),
}
OTHER: Final = {("pid", "other"), ("address", "other")}
"""A label of what has no series of its own; it begins anew with each run."""


class Exposition:
    """The samples of one scrape."""

    def __init__(self, text: str, *, openmetrics: bool = False) -> None:
        """Parse; a series that is there twice is a mistake."""
        self.text = text
        self.types: dict[str, str] = {}
        self.samples: dict[tuple[str, Labels], float] = {}
        for family in (parse_openmetrics if openmetrics else parse_text)(text):
            assert family.name not in self.types, f"two families are named {family.name}"
            self.types[family.name] = family.type
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"series twice: {key}"
                self.samples[key] = sample.value

    def series(self, name: str, **labels: str) -> dict[Labels, float]:
        """Return the series of that name which have these labels, and perhaps more."""
        wanted = labels.items()
        return {
            found: value
            for (sample, found), value in self.samples.items()
            if sample == name and wanted <= found
        }

    def sum(self, name: str, **labels: str) -> float:
        """Add up such series; 0 if there is none."""
        return sum(self.series(name, **labels).values())

    def traffic(self, subject: str, **labels: str) -> dict[str, float]:
        """Return the four sums of such series: receive_packets, transmit_bytes and so on."""
        return {
            f"{direction}_{unit}": self.sum(f"netatop_{subject}{direction}_{unit}_total", **labels)
            for direction in DIRECTIONS
            for unit in UNITS
        }

    def label_values(self, name: str, label: str, **labels: str) -> set[str]:
        """Return the values that a label has in such series."""
        return {dict(found)[label] for found in self.series(name, **labels)}

    def check_law(self) -> None:
        """Total = groups + unidentified, and what the exited had used is part of the groups."""
        for protocol in PROTOCOLS:
            total = self.traffic("", protocol=protocol)
            groups = self.traffic("group_", protocol=protocol)
            strangers = self.traffic("unidentified_", protocol=protocol)
            parts = {name: groups[name] + strangers[name] for name in total}
            assert total == parts, f"the law is broken for {protocol}"
            exited = self.traffic("exited_", protocol=protocol)
            assert all(exited[name] <= groups[name] for name in exited), protocol

    def check_remotes(self) -> None:
        """Hold that the classes of remote addresses of a group add up to it, if they are told."""
        if not self.series("netatop_group_remote_receive_packets_total"):
            return
        names = ("group", "container", "pod", "namespace")
        for labels in {key for name, key in self.samples if name.startswith("netatop_group_r")}:
            group = {name: dict(labels)[name] for name in names}
            assert self.traffic("group_", **group) == self.traffic("group_remote_", **group), group

    def check_series(self) -> None:
        """There are as many series of each kind as it says, and not more than it promises."""
        for kind, pattern in KINDS.items():
            count = sum(bool(pattern.match(name)) for name, _ in self.samples)
            assert count == self.sum("netatop_series", kind=kind), kind
            if self.series("netatop_series_limit", kind=kind):
                assert count <= self.sum("netatop_series_limit", kind=kind), kind

    def check_members(self, before: Exposition) -> None:
        """All that groups grew by can be seen in the series of processes, `other` included.

        As Prometheus sees it: only what is in two scrapes, one after the other, can grow.
        """
        for key, value in before.samples.items():
            if OTHER & key[1] and not key[0].endswith("_connections"):
                assert self.samples[key] >= value, f"series fell: {key}"
        for direction in DIRECTIONS:
            for unit in UNITS:
                name = f"netatop_{{}}_{direction}_{unit}_total"
                for protocol in PROTOCOLS:
                    labels = {"protocol": protocol}
                    new, old = (x.series(name.format("process"), **labels) for x in (self, before))
                    seen = sum(
                        value - old[key] if value >= old[key] else value
                        for key, value in new.items()
                        if key in old
                    )
                    groups = [x.sum(name.format("group"), **labels) for x in (before, self)]
                    assert seen == groups[1] - groups[0], (direction, unit, protocol)

    def check_growth(self, before: Exposition) -> None:
        """Whatever must never fall has not fallen, and no series of it has gone."""
        for key, value in before._lasting():
            assert key in self.samples, f"series gone: {key}"
            assert self.samples[key] >= value, f"series fell: {key}"

    def _lasting(self) -> Iterator[tuple[tuple[str, Labels], float]]:
        return ((k, v) for k, v in self.samples.items() if NEVER_FALL.fullmatch(k[0]))
