# SPDX-License-Identifier: Apache-2.0
"""What can be shown. The columns are called as atop's users know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.api import exits, groups, hosts, processes, sockets, threads
from exporter.model import PROTOCOLS, WIDTH
from exporter.top.table import NAME, Column, View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model import Counters
    from exporter.ranking import Value
    from exporter.top.table import Row

RECEIVE_PACKETS, RECEIVE_BYTES, TRANSMIT_PACKETS, TRANSMIT_BYTES = range(WIDTH)


def _number(value: object) -> int | float | None:
    """Return a number as it is, and nothing for what is none."""
    return value if isinstance(value, int | float) else None


def _sum(numbers: Counters | tuple[float, ...] | None, place: int) -> float | None:
    """Return one number of all protocols together."""
    return None if numbers is None else sum(numbers[place::WIDTH])


def _name(title: str, width: int, field: str) -> Column:
    def value(row: Row) -> Value:
        found = row.entry.fields.get(field)
        return "" if found is None else str(found)

    return Column(title, NAME, width, value)


def _field(title: str, kind: str, width: int, field: str) -> Column:
    return Column(title, kind, width, lambda row: _number(row.entry.fields.get(field)))


def _rate(title: str, protocol: str, place: int) -> Column:
    index = PROTOCOLS.index(protocol) * WIDTH + place
    return Column(title, "rate", 6, lambda row: None if row.rates is None else row.rates[index])


def _sum_rate(title: str, kind: str, place: int) -> Column:
    return Column(title, kind, 6, lambda row: _sum(row.rates, place))


def _total(title: str, width: int, place: int) -> Column:
    return Column(title, "total", width, lambda row: _sum(row.entry.totals, place))


def _packets(title: str, protocol: str, place: int) -> Column:
    index = PROTOCOLS.index(protocol) * WIDTH + place
    return Column(title, "total", 9, lambda row: row.entry.totals[index])


BY_PROTOCOL: Final = tuple(
    (f"{short}{word}", protocol, place)
    for short, protocol in (("TCP", "tcp"), ("UDP", "udp"), ("ICM", "icmp"), ("OTH", "other"))
    for word, place in (("RCV", RECEIVE_PACKETS), ("SND", TRANSMIT_PACKETS))
)
RATES: Final = (
    _sum_rate("BANDWI", "bandwidth", RECEIVE_BYTES),
    _sum_rate("BANDWO", "bandwidth", TRANSMIT_BYTES),
    _sum_rate("PCKI", "rate", RECEIVE_PACKETS),
    _sum_rate("PCKO", "rate", TRANSMIT_PACKETS),
    *(_rate(*words) for words in BY_PROTOCOL),
)
"""In each second of the last interval."""
TOTALS: Final = (
    _total("BYTESRCV", 13, RECEIVE_BYTES),
    _total("BYTESSND", 13, TRANSMIT_BYTES),
    _total("PACKRCV", 10, RECEIVE_PACKETS),
    _total("PACKSND", 10, TRANSMIT_PACKETS),
)
"""Since the counter began."""
GROUP: Final = _name("GROUP", 20, "group")
PLACE: Final = (
    _name("CONTAINER", 15, "container"),
    _name("POD", 20, "pod"),
    _name("NAMESPACE", 15, "namespace"),
)
NAMES: Final = (GROUP, _name("USER", 10, "user"), *PLACE, _name("UNIT", 20, "unit"))
PID: Final = _field("PID", "id", 7, "pid")


def _command(title: str, field: str) -> Column:
    """Return the column of command names; one that has ended is in brackets, as atop has it."""

    def value(row: Row) -> Value:
        fields = row.entry.fields
        name = fields.get(field)
        found = "" if name is None else str(name)
        return f"<{found}>" if fields.get("outcome") else found

    return Column(title, NAME, 15, value)


def _address(title: str, side: str) -> Column:
    def value(row: Row) -> Value:
        host, port = (row.entry.fields.get(f"{side}_{what}") for what in ("address", "port"))
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    return Column(title, NAME, 21, value)


def _connections(row: Row) -> Value:
    found = row.entry.fields.get("connections")
    if not isinstance(found, dict):
        return None
    return sum(_number(number) or 0 for number in found.values())


def _lifetime(row: Row) -> Value:
    begin, end = (_number(row.entry.fields.get(f"{w}_time_seconds")) for w in ("start", "end"))
    return None if begin is None or end is None else end - begin


def _how(row: Row) -> Value:
    fields = row.entry.fields
    return str(fields.get("signal") or f"exit {fields.get('exit_status')}")


VIEWS: Final[Mapping[str, View]] = {
    view.noun: view
    for view in (
        View(
            "processes",
            "p",
            processes.PATH,
            ("pid", "start_time_seconds"),
            (PID, _command("PROCESS", "process"), *RATES, *TOTALS, *NAMES),
            2,
            "BANDWI",
        ),
        View(
            "threads",
            "t",
            threads.PATH,
            ("pid", "tid", "start_time_seconds"),
            (
                _field("TID", "id", 7, "tid"),
                _command("THREAD", "thread"),
                *(*RATES, *TOTALS, PID, _name("PROCESS", 15, "process"), *NAMES),
            ),
            2,
            "BANDWI",
            threads.HINT,
        ),
        View(
            "sockets",
            "s",
            sockets.PATH,
            ("cookie", "network_namespace"),
            (
                PID,
                _name("PROCESS", 15, "process"),
                _name("PROT", 5, "protocol"),
                _address("LOCAL", "local"),
                _address("REMOTE", "remote"),
                *(*RATES[:4], *TOTALS, *NAMES),
            ),
            2,
            "BANDWI",
            sockets.HINT,
        ),
        View(
            "hosts",
            "h",
            hosts.PATH,
            ("address", "device"),
            (
                _name("ADDRESS", 23, "address"),
                *RATES[:4],
                Column("CONN", "total", 6, _connections),
                *(*RATES[4:], *TOTALS, _name("DEVICE", 15, "device")),
                _field("LAST-USE", "time", 14, "last_use_time_seconds"),
            ),
            1,
            "BANDWI",
            hosts.HINT,
        ),
        View(
            "exits",
            "e",
            exits.PATH,
            ("number",),
            (
                PID,
                _name("PROCESS", 15, "process"),
                _field("ENDED", "time", 14, "end_time_seconds"),
                Column("OUTCOME", NAME, 9, _how),
                Column("SECONDS", "seconds", 9, _lifetime),
                *(*TOTALS, *(_packets(*words) for words in BY_PROTOCOL), *NAMES),
            ),
            2,
            "ENDED",
        ),
        View(
            "groups",
            "g",
            groups.PATH,
            ("group", "container", "pod", "namespace"),
            (GROUP, _field("PROCS", "total", 5, "processes"), *RATES, *TOTALS, *PLACE),
            1,
            "BANDWI",
        ),
    )
}
