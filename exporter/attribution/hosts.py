# SPDX-License-Identifier: Apache-2.0
"""IP addresses: what all of them have used, and which have not been used for long."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.model import NO_TCP, ZERO, HostRecord, Member, add

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.model import Counters, Traffic


class HostsReport(NamedTuple):
    """What there is to say of a snapshot's addresses."""

    hosts: tuple[HostRecord, ...]
    """One for each address and device."""
    whole: Traffic
    """Of those that have left, too, and of those that found no room: never falls."""
    idle: tuple[HostRecord, ...]
    """To be removed."""

    @property
    def members(self) -> tuple[Member, ...]:
        """Return those that may have series."""
        return tuple(
            Member((host.address, host.device), (*host.counters, *NO_TCP)) for host in self.hosts
        )


class Hosts:
    """Remembers what addresses had used that are there no more."""

    def __init__(self) -> None:
        self.idle_ns = 15 * 60 * 10**9
        """One that has not been used for so long goes; by default as tctable had it."""
        self._gone: Counters = ZERO

    def report(self, records: Iterable[HostRecord], now_ns: int) -> HostsReport:
        """Put together what belongs to one address: its device may have been there before."""
        found: dict[tuple[str, str], HostRecord] = {}
        whole = self._gone
        for record in records:
            whole = add(whole, record.counters)
            known = found.get((record.address, record.device))
            if record.address:
                found[record.address, record.device] = _joined(known, record) if known else record
        idle = (host for host in found.values() if self._is_idle(host, now_ns))
        return HostsReport(tuple(found.values()), (*whole, *NO_TCP), tuple(idle))

    def leave(self, counters: Counters) -> None:
        """Keep what an address had when it was removed, in the whole."""
        self._gone = add(self._gone, counters)

    def _is_idle(self, host: HostRecord, now_ns: int) -> bool:
        """Tell whether it is not used; a new one has no time yet."""
        is_new = not host.last_ns and any(host.counters)
        return not (any(host.connections) or is_new) and now_ns - host.last_ns > self.idle_ns


def _joined(one: HostRecord, other: HostRecord) -> HostRecord:
    return one._replace(
        counters=add(one.counters, other.counters),
        last_ns=max(one.last_ns, other.last_ns),
        connections=add(one.connections, other.connections),
    )
