# SPDX-License-Identifier: Apache-2.0
"""The table of IP addresses: what the loader puts in, what is read from it and taken out."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Final

from exporter import model
from exporter.kernel import decode, layouts
from exporter.kernel.libbpf import possible_processors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from exporter.kernel.layouts import Buffer
    from exporter.kernel.tables import Table

LOCAL, REST = 0, 0xFFFFFFFF
"""HOST_LOCAL, HOST_REST (bpf/netatop.h)."""
AF_INET6: Final = 10
LAST, WALK = 16, 18
"""Of struct host: where last_time_ns and walk stand, in words; connections come after."""
NO_CONNECTIONS: Final = (0,) * len(model.PROTOCOLS)


def room(hosts: int) -> int:
    """Return how many entries so many addresses take."""
    return hosts + 1


def rest() -> tuple[bytes, bytes]:
    """Return key and value of the entry for those that find no room."""
    key = layouts.HOST_KEY.pack(bytes(16), REST)
    return key, bytes(layouts.HOST.size * possible_processors())


def packed(address: str, device: int) -> bytes:
    """Return the key of an address; empty: of the rest."""
    if not address:
        return layouts.HOST_KEY.pack(bytes(16), REST)
    return layouts.HOST_KEY.pack(_six(ipaddress.ip_address(address)).packed, device)


def read(table: Table, devices: Mapping[int, str], session: int) -> Iterator[model.HostRecord]:
    """Yield all addresses; one behind a device that was there twice comes twice.

    devices: their names by index; session: the walk whose connections count.
    """
    keys, values = table.read_all()
    numbers, halves = values.cast("B").cast("Q"), values.cast("B").cast("I")
    width = layouts.HOST.size // numbers.itemsize
    whole = width * possible_processors()
    for number, key in enumerate(layouts.HostKey.unpack_all(keys)):
        first, end = number * whole, (number + 1) * whole
        is_rest = key.device == REST
        # Of each member the values of all processors; slices are summed without a look at each.
        yield model.HostRecord(
            address="" if is_rest else _address(key.address),
            device="" if is_rest else devices.get(key.device, f"#{key.device}"),
            counters=tuple(sum(numbers[first + i : end : width]) for i in range(LAST)),
            last_ns=max(numbers[first + LAST : end : width]),
            connections=_sum(
                NO_CONNECTIONS,
                *(
                    tuple(halves[2 * at + 2 : 2 * at + 6])
                    for at in range(first + WALK, end, width)
                    if numbers[at] == session
                ),
            ),
        )


@functools.lru_cache(maxsize=1 << 14)
def _address(raw: bytes) -> str:
    """Decode, as quickly as can be: they are the same at each scrape."""
    return decode.address(raw, AF_INET6)


def matcher(wanted: model.Network | None) -> Callable[[bytes], bool]:
    """Return what tells whether a key's address is in a prefix; every one is in None."""
    if wanted is None:
        return lambda _: True
    bits = wanted.max_prefixlen - wanted.prefixlen
    first = int(_six(wanted.network_address)) >> bits
    return lambda address: int.from_bytes(address, "big") >> bits == first


def _six(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(f"::ffff:{address}")


def counters(value: Buffer) -> model.Counters:
    """Return those of an entry that was taken out; nothing if it was gone."""
    return _sum(model.ZERO, *(part.counters for part in layouts.Host.unpack_all(value)))


def _sum(*parts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*parts, strict=True)))
