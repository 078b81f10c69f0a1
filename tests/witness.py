# SPDX-License-Identifier: Apache-2.0
"""Counts packets without us: nftables counters at the local input and output hooks.

nftables counts buffers, so it is a witness only where one buffer is one packet
(End.carry_single_packets).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter import model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.model import Counters
    from tests.network import Namespace

NAMES = itertools.count(1)
HOOKS: Final = {"receive": "input", "transmit": "output"}
ICMP: Final = "meta l4proto { icmp, icmpv6 }"
OTHER: Final = "meta l4proto != { tcp, udp, icmp, icmpv6 }"
FIN: Final = "tcp flags & (fin | syn) == fin"
ANY_SOCKET: Final = "socket transparent { 0, 1 }"
FULL_SOCKET: Final = "socket mark >= 0"
"""TIME_WAIT and half-open connections have no mark (net/netfilter/nft_socket.c)."""


class Rule(NamedTuple):
    """What happens to the packets that match."""

    counts: bool
    """Or they are passed over."""
    protocol: str
    direction: str
    match: str

    @property
    def counter(self) -> str:
        """Return the name of its counter."""
        return f"{self.protocol}_{self.direction}"

    @property
    def text(self) -> str:
        """Return it as nftables takes it."""
        what = f"counter name {self.counter}" if self.counts else "return"
        return f"{self.match} {what};"


EVERYTHING: Final = tuple(
    Rule(True, protocol, direction, match)
    for direction in model.DIRECTIONS
    for protocol, match in (
        ("tcp", "meta l4proto tcp"),
        ("udp", "meta l4proto udp"),
        ("icmp", ICMP),
        ("other", OTHER),
    )
)
"""All that passes."""

UNSEEN: Final = (
    Rule(False, "tcp", "transmit", "meta nfproto ipv6 tcp flags & (syn | ack) == (syn | ack)"),
)
"""What passes unseen where there are no netfilter links, in every connection.

There the socket filter leaves out what is sent for a connection that is not yet open: it compares
the packet's socket, which is the request, with the listener (include/linux/bpf-cgroup.h).
"""

STRAYS: Final = (
    # What arrives for TIME_WAIT, which half-open connections are not sent, and what has no socket.
    Rule(False, "tcp", "receive", FULL_SOCKET),
    Rule(True, "tcp", "receive", f"{FIN} {ANY_SOCKET}"),
    Rule(False, "tcp", "receive", f"meta l4proto {{ tcp, udp }} {ANY_SOCKET}"),
    Rule(True, "tcp", "receive", "meta l4proto tcp"),
    Rule(True, "udp", "receive", "meta l4proto udp"),
    # The kernel's answers: a RST to a SYN is numbered 0; of ICMP all but requests.
    Rule(
        *(True, "tcp", "transmit"),
        "meta nfproto ipv4 tcp flags & (rst | ack) == (rst | ack) tcp sequence 0",
    ),
    Rule(True, "icmp", "transmit", "meta l4proto icmp icmp type != echo-request"),
    Rule(True, "icmp", "transmit", "meta l4proto icmpv6 icmpv6 type != echo-request"),
)
"""What belongs to no process, where no netfilter link is."""


class Witness:
    """A table of nftables in a namespace."""

    def __init__(self, namespace: Namespace, table: str) -> None:
        self._namespace = namespace
        self._table = table

    def read(self) -> Counters:
        """Return what has passed until now."""
        text = self._namespace.run("nft", "-j", "list", "counters", "table", "inet", self._table)
        found = {
            counter["name"]: (counter["packets"], counter["bytes"])
            for entry in json.loads(text)["nftables"]
            if (counter := entry.get("counter"))
        }
        return tuple(
            number
            for protocol in model.PROTOCOLS
            for direction in model.DIRECTIONS
            for number in found.get(f"{protocol}_{direction}", (0, 0))
        )


@contextlib.contextmanager
def witness(namespace: Namespace, rules: Iterable[Rule] = EVERYTHING) -> Iterator[Witness]:
    """Count in a namespace until the end of the block."""
    table = f"netatop_{os.getpid()}_{next(NAMES)}"
    rules = tuple(rules)
    lines = [f"table inet {table} {{"]
    names = dict.fromkeys(rule.counter for rule in rules if rule.counts)
    lines += [f"counter {name} {{ }}" for name in names]
    if namespace.name:
        # Connection tracking puts IPv6 fragments together before the input hook, as IPv4 does by
        # itself. Not on the host: there it would track every connection of everybody.
        lines.append("chain whole { type filter hook prerouting priority -300; ct state invalid; }")
    for direction, hook in HOOKS.items():
        lines.append(f"chain {hook} {{ type filter hook {hook} priority 300;")
        lines += [rule.text for rule in rules if rule.direction == direction]
        lines.append("}")
    lines.append("}")
    namespace.run("nft", "-f", "-", stdin="\n".join(lines))
    try:
        yield Witness(namespace, table)
    finally:
        namespace.run("nft", "delete", "table", "inet", table)
