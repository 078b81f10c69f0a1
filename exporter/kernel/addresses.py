# SPDX-License-Identifier: Apache-2.0
"""The table of IP addresses: what the loader puts in, what is read from it and taken out."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from exporter import model
from exporter.kernel import decode, layouts
from exporter.kernel.libbpf import possible_processors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.kernel.layouts import Buffer
    from exporter.kernel.tables import Table

LOCAL, REST = 0, 0xFFFFFFFF
"""HOST_LOCAL, HOST_REST (bpf/netatop.h)."""
AF_INET6: Final = 10
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
    found = ipaddress.ip_address(address)
    if found.version == 4:
        found = ipaddress.IPv6Address(f"::ffff:{found}")
    return layouts.HOST_KEY.pack(found.packed, device)


def read(table: Table, devices: Mapping[int, str], session: int = 0) -> Iterator[model.HostRecord]:
    """Yield all addresses; one behind a device that was there twice comes twice.

    devices: their names by index; session: the walk whose connections count.
    """
    keys, values = table.read_all()
    processors = possible_processors()
    found = layouts.Host.unpack_all(values)
    for key in layouts.HostKey.unpack_all(keys):
        parts = [next(found) for _ in range(processors)]
        is_rest = key.device == REST
        yield model.HostRecord(
            address="" if is_rest else decode.address(key.address, AF_INET6),
            device="" if is_rest else devices.get(key.device, f"#{key.device}"),
            counters=_sum(model.ZERO, *(part.counters for part in parts)),
            last_ns=max(part.last_time_ns for part in parts),
            connections=_sum(
                NO_CONNECTIONS, *(part.connections for part in parts if part.walk == session)
            ),
        )


def counters(value: Buffer) -> model.Counters:
    """Return those of an entry that was taken out; nothing if it was gone."""
    return _sum(model.ZERO, *(part.counters for part in layouts.Host.unpack_all(value)))


def _sum(*parts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*parts, strict=True)))
