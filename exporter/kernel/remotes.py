# SPDX-License-Identifier: Apache-2.0
"""Prefixes of remote addresses as the kernel has them: IPv4 mapped into IPv6."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING, Final

from exporter.kernel import layouts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NOT_IPV6: Final = ("0.0.0.0/0", 0)
"""Mapped, IPv4 is in ::/0 too; but who writes that does not mean it."""
MAPPED: Final = bytes(10) + b"\xff\xff"


def entries(remotes: Iterable[tuple[str, int]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of the table `remote_prefixes`."""
    for prefix, remote in dict((NOT_IPV6, *remotes)).items():
        network = ipaddress.ip_network(prefix)
        address = network.network_address.packed
        bits = network.prefixlen
        if network.version == 4:
            address, bits = MAPPED + address, bits + 8 * len(MAPPED)
        yield layouts.REMOTE_PREFIX.pack(bits, address), remote.to_bytes(4, "little")


def digest(remotes: Iterable[tuple[str, int]]) -> int:
    """Return a number that other prefixes or classes do not have; their order is nothing."""
    table = b"".join(sorted(key + value for key, value in entries(remotes)))
    return int.from_bytes(hashlib.sha256(table).digest()[:8], "little")
