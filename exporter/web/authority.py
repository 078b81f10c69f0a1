# SPDX-License-Identifier: Apache-2.0
"""Under which names this server may be asked where only this host can ask.

A hostile site can let its own name resolve to 127.0.0.1: to the browser, what answers there is that
site, and its page may read everything (DNS rebinding). What the browser can't be made to hide is
the name, in `Host` (RFC 9110, section 7.2).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HOSTS: Final = Path("/etc/hosts")
LOCALHOST: Final = "localhost"
PORT: Final = re.compile(r":[0-9]*$")
SHOWN: Final = 64
"""Characters of a name that is refused."""


def own_names(more: Iterable[str]) -> frozenset[str]:
    """Return this host's names on loopback addresses, and more (hosts(5), nss-myhostname(8))."""
    return frozenset(map(_plain, (socket.gethostname(), *_listed(), *more)))


def _listed() -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in HOSTS.read_text(errors="replace").splitlines():
            address, *names = line.partition("#")[0].split() or ("",)
            if _is_loopback(address):
                yield from names


def is_loopback(name: object) -> bool:
    """Tell whether the near end of a connection, by its socket, is for this host alone."""
    return isinstance(name, tuple) and _is_loopback(str(name[0]))


def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def refusal(host: str, names: frozenset[str]) -> str:
    """Return why the header `Host` does not do; empty: it does, and so does none at all."""
    name = _plain(PORT.sub("", host))
    is_own = not host or name in names or name.rpartition(".")[2] == LOCALHOST
    if is_own or _is_address(name):
        return ""
    return (
        f"Host: found {host[:SHOWN]!r}; accepted on a loopback address are addresses, {LOCALHOST}, "
        "the host's own names and those of --web.allowed-host"
    )


def _is_address(name: str) -> bool:
    """Tell whether it is no name at all: nobody can let that resolve to something else."""
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
