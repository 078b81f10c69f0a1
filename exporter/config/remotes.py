# SPDX-License-Identifier: Apache-2.0
"""Classes of remote addresses: names for prefixes, of which the longest that fits decides."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.config.kinds import Several, Text, option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
INTERNET: Final = "internet"
"""What no prefix fits."""
NO_ADDRESS: Final = "other"
"""What has no IP address: packet sockets."""
MOST: Final = 16
"""The kernel's number of classes (bpf/netatop.h), these two included."""
DEFAULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "lan": (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    ),
}
"""Private, shared, link-local, unspecified and multicast addresses (RFC 6890)."""
BUILT_IN: Final = (INTERNET, *DEFAULTS, NO_ADDRESS)


def _prefix(text: str) -> str:
    if "%" in text:
        message = "a zone is no part of a prefix"
        raise ValueError(message)
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        # The kernel side knows IPv4 in this form only: so it is one prefix, however it is written.
        inner = ipaddress.IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        network = ipaddress.ip_network(f"{inner}/{network.prefixlen - 96}")
    return str(network)


def _name(text: str) -> str:
    if text in {INTERNET, NO_ADDRESS}:
        message = "that is what fits no class"
        raise ValueError(message)
    if not text.isprintable() or not 0 < len(text) <= 64:
        raise ValueError
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressClass:
    """A name for some prefixes."""

    name: str = option(
        Text("a name of 1 to 64 characters, not internet and not other", _name, minLength=1),
        "The label `remote`. One of a built-in class (loopback, lan) takes its place.",
    )
    addresses: tuple[str, ...] = option(
        Several(Text("a prefix such as 10.0.0.0/8 or fd00::/8, or an address", _prefix)),
        "Addresses and prefixes. Of all classes the longest prefix decides.",
    )


class Remotes(NamedTuple):
    """What the kernel is told of classes, and what their numbers mean."""

    names: tuple[str, ...]
    """By number, of which there are MOST; empty for those without a class."""
    prefixes: tuple[tuple[str, int], ...]
    """Each with the number of its class."""


def remotes(chosen: Iterable[AddressClass]) -> Remotes:
    """Return all classes: the built-in ones, then those of the user."""
    classes = {INTERNET: (), **DEFAULTS, **{one.name: one.addresses for one in chosen}}
    # A prefix of the user's is not the built-in class's any more.
    numbers = {
        prefix: number for number, prefixes in enumerate(classes.values()) for prefix in prefixes
    }
    unused = ("",) * (MOST - len(classes) - 1)
    return Remotes((*classes, *unused, NO_ADDRESS), tuple(numbers.items()))
