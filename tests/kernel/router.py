# SPDX-License-Identifier: Apache-2.0
"""A router between two namespaces, a tracer's forwarder in it, and nftables at its forward hook."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter import model
from exporter.kernel import layouts
from exporter.kernel.forwarder import Forwarder
from tests.network import Namespace, namespace, run
from tests.witness import Witness
from tests.workload import Process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection as Talk

    from exporter.model import Connection, HostRecord, TableStatus

INSIDE, OUTSIDE = "inside", "outside"
"""The router's devices."""


class Side(NamedTuple):
    """A host at one of them."""

    namespace: Namespace
    device: str
    """Of the router."""
    ipv4: str
    ipv6: str
    router4: str
    router6: str

    def address(self, family: int) -> str:
        """Return its address of a family: 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6

    def router(self, family: int) -> str:
        """Return the router's address there."""
        return self.router4 if family == 4 else self.router6


class Reading(NamedTuple):
    """What the forwarder says."""

    hosts: dict[tuple[str, str], HostRecord]
    """By address and device."""
    connections: list[Connection]
    lost: dict[tuple[str, str], int]
    room: TableStatus
    devices: tuple[str, ...]


def forward(talk: Talk, devices: Sequence[str], max_hosts: int, max_connections: int) -> None:
    """Count in this namespace; do what the test says."""
    with Forwarder(devices, max_hosts, max_connections) as forwarder:
        talk.send("ready")
        while (said := talk.recv()) != "end":
            match said:
                case "read":
                    talk.send(_read(forwarder))
                case "tend":
                    forwarder.tend()
                    talk.send(forwarder.devices)
                case ("age", seconds):
                    _age(forwarder, seconds)
                    talk.send(seconds)
                case ("become", user):
                    os.seteuid(user)
                    talk.send(user)
                case ("forget", address, device):
                    talk.send(list(forwarder.forget(address, device)))
    talk.send("ended")


def _age(forwarder: Forwarder, seconds: int) -> None:
    """Make it so much longer ago that connections were used."""
    keys, values = forwarder.table("flows").read_all()
    flows = layouts.Flow.unpack_all(values)
    for key, flow in zip(layouts.FlowKey.unpack_all(keys), flows, strict=True):
        # The host may have begun since: then it is before 0, where the kernel goes round as well.
        aged = flow._replace(last_time_ns=(flow.last_time_ns - seconds * 10**9) % (1 << 64))
        forwarder.put(
            "flows", layouts.FLOW_KEY.pack(*key), layouts.FLOW.pack(*flow.traffic, *aged[1:])
        )


def _read(forwarder: Forwarder) -> Reading:
    hosts: dict[tuple[str, str], HostRecord] = {}
    for host in forwarder.read():
        # A device that was there twice has two indices; an address behind it, two entries.
        before = hosts[host[:2]].counters if host[:2] in hosts else model.ZERO
        hosts[host[:2]] = host._replace(counters=model.add(before, host.counters))
    return Reading(
        hosts,
        list(forwarder.connections()),
        {what: count for what, count in forwarder.lost() if count},
        forwarder.connection_table,
        forwarder.devices,
    )


class Router:
    """The place."""

    def __init__(self, stack: contextlib.ExitStack, own: Namespace, sides: Sequence[Side]) -> None:
        self._stack = stack
        self.namespace = own
        self.left, self.right = sides

    def count(self, *devices: str, max_hosts: int = 4099, max_connections: int = 4099) -> Process:
        """Start a forwarder."""
        started = Process(forward, devices, max_hosts, max_connections, namespace=self.namespace)
        self._stack.enter_context(started)
        started.hear()
        return started

    def start(self, function: Any, *arguments: Any, at: Side | None = None) -> Process:
        """Start a process on one side, or on the router."""
        started = Process(function, *arguments, namespace=at.namespace if at else self.namespace)
        return self._stack.enter_context(started)

    def read(self, counting: Process) -> Reading:
        """Ask the forwarder."""
        counting.tell("read")
        found: Reading = counting.hear()
        return found


SILENCE: Final = """
table inet silence {
    chain output {
        type filter hook output priority 0
        icmpv6 type mld2-listener-report drop
    }
}
"""
"""Which groups an address has joined is reported at any time (RFC 3810), from the address `::`."""
FIELDS: Final = {"receive": "daddr", "transmit": "saddr"}
PROTOCOLS: Final = {
    "tcp": "meta l4proto tcp",
    "udp": "meta l4proto udp",
    "icmp": "meta l4proto { icmp, icmpv6 }",
}


@contextlib.contextmanager
def forward_witness(place: Namespace, address: str, *hooks: str) -> Iterator[Any]:
    """Count what a router forwards for an address, and at other hooks; call it to read."""
    table = "seen_" + "".join(c if c.isalnum() else "_" for c in address)
    family = "ip6" if ":" in address else "ip"
    lines = [f"table inet {table} {{"]
    lines += [f"counter {p}_{d} {{ }}" for d in FIELDS for p in PROTOCOLS]
    for hook in hooks or ("forward",):
        lines.append(f"chain {hook} {{ type filter hook {hook} priority 300;")
        lines += [
            f"{family} {field} {address} {match} counter name {protocol}_{direction};"
            for direction, field in FIELDS.items()
            for protocol, match in PROTOCOLS.items()
        ]
        lines.append("}")
    lines.append("}")
    place.run("nft", "-f", "-", stdin="\n".join(lines))

    yield Witness(place, table).read


def add_cable(router: Namespace, side: Side, *, single_packets: bool) -> None:
    """Lay a cable to one side; neighbours are known."""
    own, other = "02:00:00:00:01:01", "02:00:00:00:01:02"
    run(
        *("ip", "link", "add", side.device, "netns", router.name, "address", own),
        *("type", "veth", "peer", "name", "eth0", "netns", side.namespace.name),
        *("address", other),
    )
    for place, device, hardware, mine, theirs in (
        (router, side.device, other, (side.router4, side.router6), (side.ipv4, side.ipv6)),
        (side.namespace, "eth0", own, (side.ipv4, side.ipv6), (side.router4, side.router6)),
    ):
        place.set(f"net.ipv6.conf.{device}.addr_gen_mode", 1)
        lines = [
            f"address add {mine[0]}/24 dev {device}",
            f"address add {mine[1]}/64 dev {device} nodad",
            f"link set dev {device} up",
            *(f"neighbour add {to} lladdr {hardware} dev {device} nud permanent" for to in theirs),
        ]
        if place is side.namespace:
            lines += [f"route add default via {to} dev {device}" for to in theirs]
        run("ip", "-n", place.name, "-batch", "-", stdin="\n".join(lines))
        if single_packets:
            place.carry_single_packets(device)


@contextlib.contextmanager
def open_router(*, single_packets: bool = True) -> Iterator[Router]:
    """Set up everything."""
    with (
        namespace() as own,
        namespace() as left,
        namespace() as right,
        contextlib.ExitStack() as stack,
    ):
        sides = (
            Side(left, INSIDE, "192.0.2.2", "2001:db8:1::2", "192.0.2.1", "2001:db8:1::1"),
            Side(right, OUTSIDE, "203.0.113.2", "2001:db8:2::2", "203.0.113.1", "2001:db8:2::1"),
        )
        for place in (own, left, right):
            place.run("nft", "-f", "-", stdin=SILENCE)
        for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            own.set(setting, 1)
        for side in sides:
            add_cable(own, side, single_packets=single_packets)
        yield Router(stack, own, sides)
