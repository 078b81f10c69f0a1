# SPDX-License-Identifier: Apache-2.0
"""What can be looked at live, and by what it can be put in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.api import exits, groups, hosts, processes, sockets, threads
from exporter.model import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.api.terms import Member
    from exporter.model import Report

UNITS: Final = ("bytes", "packets")
"""Of which there are sums of both directions."""
RATES: Final = tuple(f"rates.{name}" for name in (*UNITS, *TRAFFIC))
TOTALS: Final = tuple(f"totals.{name}" for name in (*UNITS, *TRAFFIC))
NUMBERS: Final = (
    *("processes", "start_time_seconds", "end_time_seconds", "last_use_time_seconds"),
    *("threads", "sockets"),
)
"""Fields of which the greatest comes first; of all others the least."""
PLACE: Final = ("container", "pod", "namespace")
NAMES: Final = ("group", "user", *PLACE, "unit")


class View(NamedTuple):
    """A list."""

    noun: str
    members: Callable[[Report], Iterable[Member]]
    describe: Callable[[Any], dict[str, Any]]
    names: tuple[str, ...]
    """Fields that are searched."""
    fields: tuple[str, ...]
    """Others by which it can be put in order."""
    kind: str = ""
    """What has to be counted; empty: that is always so."""
    hint: str = ""
    """How to have it counted."""
    has_rates: bool = True

    def is_counted(self, report: Report) -> bool:
        """Tell whether there can be any."""
        return not self.kind or self.kind in report.counted

    @property
    def sorts(self) -> tuple[str, ...]:
        """Return by what it can be put in order; the first is the default."""
        if self.has_rates:
            return (*RATES, *TOTALS, *self.names, *self.fields)
        return (*self.fields, *TOTALS, *self.names)


VIEWS: Final[Mapping[str, View]] = {
    view.noun: view
    for view in (
        View("groups", groups.members, groups.describe, ("group", *PLACE), ("processes",)),
        View(
            "processes",
            processes.members,
            processes.describe,
            ("process", *NAMES, "pid"),
            ("uid", "start_time_seconds", "outcome"),
        ),
        View(
            "threads",
            threads.members,
            threads.describe,
            ("thread", "process", *NAMES, "tid", "pid"),
            ("uid", "start_time_seconds", "outcome"),
            "thread",
            threads.HINT,
        ),
        View(
            "sockets",
            sockets.members,
            sockets.describe,
            (
                *("process", "protocol", "local_address", "local_port"),
                *("remote_address", "remote_port", *NAMES, "pid"),
            ),
            ("network_namespace",),
            "socket",
            sockets.HINT,
        ),
        View(
            "hosts",
            hosts.members,
            hosts.describe,
            ("address", "device"),
            ("last_use_time_seconds",),
            "host",
            hosts.HINT,
        ),
        View(
            "exits",
            exits.members,
            exits.describe,
            ("process", *NAMES, "pid", "outcome", "signal"),
            (
                *("end_time_seconds", "start_time_seconds", "exit_status", "uid"),
                *("threads", "sockets", "number"),
            ),
            has_rates=False,
        ),
    )
}
