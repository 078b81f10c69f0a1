# SPDX-License-Identifier: Apache-2.0
"""Counts packets without us: nftables counters at the local input and output hooks.

nftables counts buffers, so it is a witness only where one buffer is one packet
(End.carry_single_packets). And it sees more than the socket filters do. The rules of that gap rest
on what nftables knows about sockets:

- a cgroup only of full ones (net/netfilter/nft_meta.c);
- `transparent` of every kind, the mark of full ones only; without a socket both end the rule
  (net/netfilter/nft_socket.c). The difference is TIME_WAIT, and half-open connections, which are
  not sent a FIN.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter import model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.model import Counters
    from tests.network import Namespace

NAMES = itertools.count(1)
HOOKS: Final = {"receive": "input", "transmit": "output"}
ICMP: Final = "meta l4proto { icmp, icmpv6 }"
OTHER: Final = "meta l4proto != { tcp, udp, icmp, icmpv6 }"
FIN: Final = "tcp flags & (fin | syn) == fin"
FULL_SOCKET: Final = "meta cgroup >= 0"
ANY_SOCKET: Final = "socket transparent { 0, 1 }"


class Rule(NamedTuple):
    """What happens to the packets that match."""

    part: str
    """They are added to one of three sums, of which the gap is `wide` less `narrow`; or `skip`."""
    protocol: str
    direction: str
    match: str

    @property
    def counter(self) -> str:
        """Return the name of its counter."""
        return f"{self.part}_{self.protocol}_{self.direction}"

    @property
    def text(self) -> str:
        """Return it as nftables takes it."""
        what = "return" if self.part == "skip" else f"counter name {self.counter}"
        return f"{self.match} {what};"


SEEN: Final = tuple(
    Rule("seen", protocol, direction, match)
    for direction in model.DIRECTIONS
    for protocol, match in (
        ("tcp", "meta l4proto tcp"),
        ("udp", "meta l4proto udp"),
        ("icmp", ICMP),
        ("other", OTHER),
    )
)
GAP: Final = (
    # What is sent without a full socket: IPv6 RSTs of the kernel, all that TIME_WAIT answers.
    *(rule._replace(part="wide") for rule in SEEN if rule.direction == "transmit"),
    Rule("narrow", "tcp", "transmit", f"meta nfproto ipv4 meta l4proto tcp {FULL_SOCKET}"),
    # An IPv6 RST for a socket that is closed goes out through a socket of the kernel, so the two do
    # not agree (net/ipv6/tcp_ipv6.c, tcp_v6_send_response). It answers a segment, so it has no ACK;
    # a RST that a socket sends by itself has one.
    Rule(
        *("narrow", "tcp", "transmit"),
        f"meta nfproto ipv6 tcp flags & (rst | ack) != rst {FULL_SOCKET}",
    ),
    Rule("narrow", "udp", "transmit", f"meta l4proto udp {FULL_SOCKET}"),
    Rule("narrow", "icmp", "transmit", f"{ICMP} {FULL_SOCKET}"),
    Rule("narrow", "other", "transmit", f"{OTHER} {FULL_SOCKET}"),
    # What arrives for TIME_WAIT.
    Rule("wide", "tcp", "receive", f"{FIN} {ANY_SOCKET}"),
    Rule("narrow", "tcp", "receive", f"{FIN} socket mark >= 0"),
    # ICMP that the kernel handles itself: all but the answers to echo requests.
    Rule("wide", "icmp", "receive", "meta l4proto icmp icmp type != echo-reply"),
    Rule("wide", "icmp", "receive", "meta l4proto icmpv6 icmpv6 type != echo-reply"),
)
EVERYTHING: Final = (*SEEN, *GAP)
"""All that passes."""

STRAYS: Final = (
    # Not as a difference: two counters of a busy host are not read at one instant.
    Rule("skip", "tcp", "receive", f"meta l4proto {{ tcp, udp }} {ANY_SOCKET}"),
    Rule("seen", "tcp", "receive", "meta l4proto tcp"),
    Rule("seen", "udp", "receive", "meta l4proto udp"),
    # The kernel's answers: a RST to a SYN is numbered 0; of ICMP all but requests.
    Rule(
        *("seen", "tcp", "transmit"),
        "meta nfproto ipv4 tcp flags & (rst | ack) == (rst | ack) tcp sequence 0",
    ),
    Rule("seen", "icmp", "transmit", "meta l4proto icmp icmp type != echo-request"),
    Rule("seen", "icmp", "transmit", "meta l4proto icmpv6 icmpv6 type != echo-request"),
)
"""What belongs to no process."""


class Testimony(NamedTuple):
    """What a namespace received and sent."""

    seen: Counters
    gap: Counters
    """The part of it that socket filters do not see."""

    @property
    def counted(self) -> Counters:
        """Return what the programs are to count."""
        return model.subtract(self.seen, self.gap)

    def less(self, other: Testimony) -> Testimony:
        """Return what has passed since another testimony."""
        return Testimony(model.subtract(self.seen, other.seen), model.subtract(self.gap, other.gap))


class Witness:
    """A table of nftables in a namespace."""

    def __init__(self, namespace: Namespace, table: str) -> None:
        self._namespace = namespace
        self._table = table

    def read(self) -> Testimony:
        """Return what has passed until now."""
        text = self._namespace.run("nft", "-j", "list", "counters", "table", "inet", self._table)
        found = {
            counter["name"]: (counter["packets"], counter["bytes"])
            for entry in json.loads(text)["nftables"]
            if (counter := entry.get("counter"))
        }
        seen, wide, narrow = (_part(found, part) for part in ("seen", "wide", "narrow"))
        return Testimony(seen, model.subtract(wide, narrow))


def _part(found: Mapping[str, tuple[int, int]], part: str) -> Counters:
    return tuple(
        number
        for protocol in model.PROTOCOLS
        for direction in model.DIRECTIONS
        for number in found.get(f"{part}_{protocol}_{direction}", (0, 0))
    )


@contextlib.contextmanager
def witness(namespace: Namespace, rules: Iterable[Rule] = EVERYTHING) -> Iterator[Witness]:
    """Count in a namespace until the end of the block."""
    table = f"netatop_{os.getpid()}_{next(NAMES)}"
    rules = tuple(rules)
    lines = [f"table inet {table} {{"]
    lines += [f"counter {name} {{ }}" for name in dict.fromkeys(rule.counter for rule in rules)]
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
