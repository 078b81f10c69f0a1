# SPDX-License-Identifier: Apache-2.0
"""Each packet in the class of its remote address: nftables counts the same by address."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from exporter import model
from exporter.kernel.core_loader import Options
from tests import workload
from tests.kernel.lab import open_lab
from tests.network import LIBC, run
from tests.traffic import tcp
from tests.witness import Rule, witness
from tests.workload import CLOSED_PORT, PATIENCE, PORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path
    from typing import TypeAlias

    from exporter.model import TaskRecord
    from tests.kernel.lab import Difference, Lab
    from tests.network import End
    from tests.witness import Witness

    Classes: TypeAlias = dict[int, tuple[int, ...]]
    """By class, without zeros: packets and bytes received, packets and bytes transmitted."""

pytestmark = pytest.mark.kernel

UNKNOWN, WIDE, SINGLE, OTHER, NO_ADDRESS = 0, 1, 2, 3, 15
CLASSES: Final = (UNKNOWN, WIDE, SINGLE, OTHER)
REMOTES: Final = (
    *(("10.0.0.0/8", WIDE), ("fd00::/8", WIDE)),
    # In the middle of the others, and shorter ones around it: the longest wins.
    *(("10.9.9.1/32", SINGLE), ("10.9.9.2/32", SINGLE), ("10.9.0.0/16", WIDE)),
    *(("fd00:9::1/128", SINGLE), ("fd00:9::2/128", SINGLE), ("fd00:9::/64", WIDE)),
    *(("172.16.0.0/12", OTHER), ("2001:db8:3::/48", OTHER)),
)
HOSTS: Final = {
    UNKNOWN: {4: "198.51.100.{}", 6: "2001:db8::{}"},
    WIDE: {4: "10.1.0.{}", 6: "fd00::{}"},
    SINGLE: {4: "10.9.9.{}", 6: "fd00:9::{}"},
    OTHER: {4: "172.16.0.{}", 6: "2001:db8:3::{}"},
}
"""Every end has an address in each: 1 is left, 2 is right."""
LENGTHS: Final = {4: 8, 6: 64}
ANY: Final = {4: "0.0.0.0", 6: "::"}
SETS: Final = {
    UNKNOWN: (
        "ip {0} != {{ 10.0.0.0/8, 172.16.0.0/12 }}",
        "ip6 {0} != {{ fd00::/8, 2001:db8:3::/48 }}",
    ),
    WIDE: (
        "ip {0} 10.0.0.0/8 ip {0} != {{ 10.9.9.1, 10.9.9.2 }}",
        "ip6 {0} fd00::/8 ip6 {0} != {{ fd00:9::1, fd00:9::2 }}",
    ),
    SINGLE: ("ip {0} {{ 10.9.9.1, 10.9.9.2 }}", "ip6 {0} {{ fd00:9::1, fd00:9::2 }}"),
    OTHER: ("ip {0} 172.16.0.0/12", "ip6 {0} 2001:db8:3::/48"),
}
"""What nftables takes for the same."""
HEADERS: Final = {4: 28, 6: 48}
"""IP and UDP."""


def left(remote: int, family: int) -> str:
    """Return the left end's address of a class."""
    return HOSTS[remote][family].format(1)


def right(remote: int, family: int) -> str:
    """Return the right end's."""
    return HOSTS[remote][family].format(2)


def _rules(remote: int) -> list[Rule]:
    fields = {"receive": "saddr", "transmit": "daddr"}
    return [
        Rule(True, protocol, direction, f"{match} {addresses}".format(field))
        for direction, field in fields.items()
        for addresses, icmp in zip(SETS[remote], ("icmp", "icmpv6"), strict=True)
        for protocol, match in (
            ("tcp", "meta l4proto tcp"),
            ("udp", "meta l4proto udp"),
            ("icmp", f"{icmp} type {{{{ echo-request, echo-reply }}}}"),
        )
    ]


class Place(NamedTuple):
    """The lab, and who counts by class at each end."""

    lab: Lab
    witnesses: Mapping[End, Mapping[int, Witness]]

    def seen(self, end: End) -> Classes:
        """Return what nftables has seen there."""
        found = {
            remote: model.by_direction(witness.read())
            for remote, witness in self.witnesses[end].items()
        }
        return {remote: numbers for remote, numbers in found.items() if any(numbers)}

    def assert_same(self, passed: Difference, end: End, *pids: int) -> None:
        """Hold that these processes have carried all that was seen there, class by class."""
        records = [passed.records[pid] for pid in pids]
        assert _sum(map(_classes, records)) == self.seen(end)


def _classes(record: TaskRecord) -> Classes:
    """Return the numbers of a record by class; they are those of its protocols."""
    assert model.by_direction(record.remotes) == model.by_direction(record.counters)
    found = {remote: record.remotes[4 * remote : 4 * remote + 4] for remote in range(16)}
    return {remote: numbers for remote, numbers in found.items() if any(numbers)}


def _sum(several: Iterator[Classes]) -> Classes:
    result: Classes = {}
    for classes in several:
        for remote, numbers in classes.items():
            result[remote] = model.add(result.get(remote, (0,) * 4), numbers)
    return result


def _add_addresses(end: End, other: End, own: Any, others: Any) -> None:
    lines, hardware = [], f"lladdr {other.hardware} nud permanent"
    for remote in (WIDE, SINGLE, OTHER):
        for family, flag in ((4, ""), (6, "nodad")):
            lines += [
                f"address add {own(remote, family)}/{LENGTHS[family]} dev {end.device} {flag}",
                f"neighbour add {others(remote, family)} {hardware} dev {end.device}",
            ]
    run("ip", "-n", end.namespace.name, "-batch", "-", stdin="\n".join(lines))


@contextlib.contextmanager
def open_place(options: Options | None = None) -> Iterator[Place]:
    """Open a lab whose ends have an address in each class."""
    with open_lab(options or Options(remotes=REMOTES)) as lab, contextlib.ExitStack() as stack:
        _add_addresses(lab.left, lab.right, left, right)
        _add_addresses(lab.right, lab.left, right, left)
        yield Place(
            lab,
            {
                end: {
                    remote: stack.enter_context(witness(end.namespace, _rules(remote)))
                    for remote in CLASSES
                }
                for end in (lab.left, lab.right)
            },
        )


@pytest.fixture
def place() -> Iterator[Place]:
    """Return the place."""
    with open_place() as opened:
        yield opened


class Shots(NamedTuple):
    """Datagrams to one address."""

    to: str
    number: int
    size: int


def _shoot(own: socket.socket, shots: Shots, port: int = PORT) -> None:
    for _ in range(shots.number):
        own.sendto(bytes(shots.size), (shots.to, port))


def scatter(
    talk: Connection,
    rounds: int,
    plan: Sequence[Shots],
    source: str = "",
    processor: int | None = None,
) -> None:
    """Send to one after the other through one socket, again and again."""
    if processor is not None:
        workload._stay_on(processor)
    with workload.udp_socket(source or plan[0].to) as own:
        if source:
            own.bind((source, 0))
        talk.send("ready")
        talk.recv()
        for _ in range(rounds):
            for shots in plan:
                _shoot(own, shots)


def _expected(family: int, plan: Sequence[Shots], rounds: int = 1) -> Classes:
    """Return what a plan comes to, in the order of the classes."""
    result: Classes = {}
    for remote, (_, number, size) in zip(CLASSES, plan, strict=False):
        packets = rounds * number
        result[remote] = (0, 0, packets, packets * (HEADERS[family] + size))
    return result


def test_udp_server(place: Place, family: int) -> None:
    """Clients of four classes send to one socket, two at a time on each processor."""
    lab = place.lab
    start = lab.read()
    server = lab.start(workload.drain_udp, ANY[family], at=lab.right)
    server.hear()
    clients = [
        lab.start(
            *(scatter, 3001 + 2 * remote),
            *([Shots(right(UNKNOWN, family), 1, 101 + remote)], left(remote, family), remote % 2),
            at=lab.left,
        )
        for remote in CLASSES
    ]
    for client in clients:
        client.hear()
    for client in clients:
        client.tell()
    while not all(client.ended for client in clients):
        lab.tracer.settle()
    passed = lab.since(start)
    passed.assert_law("udp")
    assert _classes(passed.records[server.pid]) == {
        remote: (3001 + 2 * remote, (3001 + 2 * remote) * (HEADERS[family] + 101 + remote), 0, 0)
        for remote in CLASSES
    }
    place.assert_same(passed, lab.right, server.pid)
    place.assert_same(passed, lab.left, *(client.pid for client in clients))


NETWORKS: Final = {
    4: {WIDE: "10.2.0.0/16", OTHER: "172.17.0.0/16"},
    6: {WIDE: "fd00:2::/64", OTHER: "2001:db8:3:1::/64"},
}
"""Whose addresses are all the right end's."""


def test_many_hosts(place: Place, family: int) -> None:
    """More of them than are remembered, from two processors: what was found is found again."""
    lab, hosts = place.lab, 1009
    for network in NETWORKS[family].values():
        via = ("route", "add", network, "via", lab.right.address(family))
        run("ip", "-n", lab.left.namespace.name, f"-{family}", *via)
        local = ("route", "add", "local", network, "dev", "lo")
        run("ip", "-n", lab.right.namespace.name, f"-{family}", *local)
    plan = [
        Shots(str(ipaddress.ip_network(network)[number]), 1, 101)
        for number in range(1, hosts + 1)
        for network in NETWORKS[family].values()
    ]
    start = lab.read()
    receiver = lab.start(workload.drain_udp, ANY[family], at=lab.right)
    receiver.hear()
    senders = [lab.start(scatter, 3, plan, "", processor, at=lab.left) for processor in range(2)]
    for sender in senders:
        sender.hear()
    for sender in senders:
        sender.tell()
    for sender in senders:
        sender.wait()
    passed = lab.since(start)
    sent = (0, 0, 3 * hosts, 3 * hosts * (HEADERS[family] + 101))
    for sender in senders:
        assert _classes(passed.records[sender.pid]) == {WIDE: sent, OTHER: sent}
    place.assert_same(passed, lab.left, *(sender.pid for sender in senders))
    place.assert_same(passed, lab.right, receiver.pid)


def test_udp_elsewhere(place: Place, family: int) -> None:
    """A socket that is connected to a host of one class sends to hosts of others."""
    lab = place.lab
    start = lab.read()
    plan = [Shots(right(remote, family), 5 + 2 * remote, 101) for remote in CLASSES]

    def send(_talk: Connection) -> None:
        with workload.udp_socket(plan[0].to) as own:
            own.connect((plan[WIDE].to, PORT))
            for _ in range(13):
                for shots in (plan[UNKNOWN], plan[SINGLE], plan[OTHER]):
                    _shoot(own, shots)
                    own.send(bytes(7))

    receiver = lab.start(workload.drain_udp, ANY[family], at=lab.right)
    receiver.hear()
    sender = lab.start(send, at=lab.left)
    sender.wait()
    passed = lab.since(start)
    expected = _expected(family, plan, 13)
    expected[WIDE] = (0, 0, 39, 39 * (HEADERS[family] + 7))
    assert _classes(passed.records[sender.pid]) == expected
    place.assert_same(passed, lab.left, sender.pid)
    place.assert_same(passed, lab.right, receiver.pid)


def test_mapped(place: Place) -> None:
    """IPv4 through a socket of IPv6, and both families through one."""
    lab = place.lab
    start = lab.read()
    four = [Shots(right(remote, 4), 11 + remote, 101) for remote in CLASSES]
    six = [Shots(right(remote, 6), 17 + remote, 101) for remote in CLASSES]
    mapped = [shots._replace(to=f"::ffff:{shots.to}") for shots in four]
    plan = [shots for pair in zip(mapped, six, strict=True) for shots in pair]
    receiver = lab.start(workload.drain_udp, "::", at=lab.right)
    receiver.hear()
    sender = lab.start(scatter, 3, plan, at=lab.left)
    sender.tell()
    sender.wait()
    passed = lab.since(start)
    both = _sum(iter((_expected(4, four, 3), _expected(6, six, 3))))
    assert _classes(passed.records[sender.pid]) == both
    place.assert_same(passed, lab.left, sender.pid)
    place.assert_same(passed, lab.right, receiver.pid)


@pytest.mark.parametrize("protocol", [0, tcp.IPPROTO_MPTCP], ids=["tcp", "mptcp"])
def test_tcp(place: Place, family: int, protocol: int) -> None:
    """Connections of each class, one after the other, from one client to one server."""
    lab, size = place.lab, 50_021
    for end in (lab.left, lab.right):
        end.namespace.set("net.mptcp.enabled", 1)
    start = lab.read()

    def serve(talk: Connection) -> None:
        arguments = (tcp.exchange, size)
        tcp.serve(talk, ANY[family], *arguments, connections=len(CLASSES), protocol=protocol)

    def call(talk: Connection) -> None:
        for remote in CLASSES:
            tcp.call(talk, right(remote, family), tcp.exchange, size, protocol=protocol)

    server = lab.start(serve, at=lab.right)
    server.hear()
    client = lab.start(call, at=lab.left)
    client.wait()
    server.wait()
    passed = lab.since(start)
    passed.assert_law("tcp")
    place.assert_same(passed, lab.left, client.pid)
    if not protocol:  # MPTCP may end with a packet that is nobody's
        place.assert_same(passed, lab.right, server.pid)
    assert _classes(passed.records[client.pid]).keys() == set(CLASSES)


def test_connected_again(place: Place, family: int) -> None:
    """A TCP socket that is disconnected (connect(2), AF_UNSPEC) and connected to another class."""
    lab, size = place.lab, 10_007
    start = lab.read()

    def serve(talk: Connection) -> None:
        tcp.serve(talk, ANY[family], tcp.drain, size, connections=3)

    def call(_talk: Connection) -> None:
        with socket.socket(workload.FAMILIES[family], socket.SOCK_STREAM) as own:
            own.settimeout(PATIENCE)
            for remote in (WIDE, OTHER, SINGLE):
                own.connect((right(remote, family), PORT))
                tcp.pour(own, size)
                _disconnect(own)

    server = lab.start(serve, at=lab.right)
    server.hear()
    client = lab.start(call, at=lab.left)
    client.wait()
    server.wait()
    passed = lab.since(start)
    passed.assert_law("tcp")
    place.assert_same(passed, lab.left, client.pid)
    place.assert_same(passed, lab.right, server.pid)
    assert _classes(passed.records[client.pid]).keys() == {WIDE, SINGLE, OTHER}


def _disconnect(own: socket.socket) -> None:
    nowhere = (0).to_bytes(2, "little") + bytes(26)
    assert LIBC.connect(own.fileno(), nowhere, len(nowhere)) == 0


def test_raw_icmp(place: Place, family: int) -> None:
    """Requests of a raw socket, and the replies to them."""
    lab, size = place.lab, 101
    start = lab.read()

    def ask(talk: Connection) -> None:
        for remote in CLASSES:
            workload.echo(talk, right(remote, family), socket.SOCK_RAW, 7 + 2 * remote, size)

    asker = lab.start(ask, at=lab.left)
    asker.wait()
    passed = lab.since(start)
    assert _classes(passed.records[asker.pid]) == {
        remote: (7 + 2 * remote, (7 + 2 * remote) * (HEADERS[family] + size)) * 2
        for remote in CLASSES
    }
    place.assert_same(passed, lab.left, asker.pid)


def test_packet_sockets(place: Place) -> None:
    """They have no IP address: a class of their own."""
    lab, frames, size = place.lab, 13, 1009
    start = lab.read()
    receiver = lab.start(workload.receive_frames, lab.right.device, frames, at=lab.right)
    receiver.hear()
    arguments = (lab.left.device, lab.right.hardware, frames, size)
    sender = lab.start(workload.send_frames, *arguments, at=lab.left)
    sender.wait()
    receiver.wait()
    passed = lab.since(start)
    assert _classes(passed.records[sender.pid]) == {NO_ADDRESS: (0, 0, frames, frames * size)}
    received = frames * (size - 14)
    assert _classes(passed.records[receiver.pid]) == {NO_ADDRESS: (frames, received, 0, 0)}


@pytest.mark.needs("datagrams")
@pytest.mark.parametrize("second", [WIDE, OTHER], ids=["same-class", "another-class"])
def test_passed(place: Place, family: int, second: int) -> None:
    """The new user's first datagram, which has left when he is known, in its class."""
    lab, before, after = place.lab, 23, 13
    start = lab.read()
    shots = Shots(right(WIDE, family), before, 101), Shots(right(second, family), after, 101)

    def pass_on(talk: Connection) -> None:
        with workload.udp_socket(shots[0].to) as own:
            _shoot(own, shots[0], CLOSED_PORT)
            child = os.fork()
            if not child:
                _shoot(own, shots[1], CLOSED_PORT)
                os._exit(0)
            os.waitpid(child, 0)
        talk.send(child)

    first = lab.start(pass_on, at=lab.left)
    heir = first.hear()
    first.wait()
    passed = lab.since(start)
    passed.assert_law("udp")
    each = HEADERS[family] + 101
    assert _classes(passed.records[first.pid]) == {WIDE: (0, 0, before, before * each)}
    assert _classes(passed.records[heir]) == {second: (0, 0, after, after * each)}


def flood(talk: Connection, family: int) -> None:
    """Two processes send through one socket, to another class at each datagram."""
    plan = [Shots(right(remote, family), 1, 11 + remote) for remote in CLASSES]
    with workload.udp_socket(plan[0].to) as own:
        child = os.fork()
        workload._stay_on(bool(child))
        for _ in range(10_007):
            for shots in plan:
                _shoot(own, shots)
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    talk.send(child)


@pytest.mark.parametrize("walk_files", [False, True], ids=["walk-sockets", "walk-files"])
def test_flood(family: int, walk_files: bool) -> None:
    """Whenever somebody reads, the classes have the sums of the protocols, for each process."""
    with open_place(Options(remotes=REMOTES, walk_files=walk_files)) as place:
        lab = place.lab
        start = lab.read()
        receiver = lab.start(workload.drain_udp, ANY[family], at=lab.right)
        receiver.hear()
        mother = lab.start(flood, family, at=lab.left)
        mine, reads = lab.cgroup.stat().st_ino, 0
        while not mother.ended:
            lab.tracer.settle()
            for record in lab.tracer.read().tasks:
                if record.cgroup_id == mine:
                    _classes(record)
            reads += 1
        child = mother.hear()
        mother.wait()
        passed = lab.since(start)
        passed.assert_law("udp")
        assert reads > 10
        sent = _sum(_classes(passed.records[pid]) for pid in (mother.pid, child))
        plan = [Shots(right(remote, family), 1, 11 + remote) for remote in CLASSES]
        assert sent == _expected(family, plan, 2 * 10_007)
        place.assert_same(passed, lab.left, mother.pid, child)
        place.assert_same(passed, lab.right, receiver.pid)
        assert passed.lost == {}


def test_threads(family: int) -> None:
    """Classes are of processes, also where threads are counted."""
    with open_place(Options(remotes=REMOTES, count_threads=True)) as place:
        lab = place.lab
        start = lab.read()
        plan = [Shots(right(remote, family), 5 + 2 * remote, 101) for remote in CLASSES]
        receiver = lab.start(workload.drain_udp, ANY[family], at=lab.right)
        receiver.hear()
        sender = lab.start(scatter, 13, plan, at=lab.left)
        sender.tell()
        sender.wait()
        passed = lab.since(start)
        place.assert_same(passed, lab.left, sender.pid)
        place.assert_same(passed, lab.right, receiver.pid)
        threads = [r for r in lab.read().snapshot.tasks if not r.is_process]
        assert threads
        assert all(record.remotes == () for record in threads)


def test_switched_off(lab: Lab) -> None:
    """Then there is nothing."""
    lab.start(workload.send_udp, lab.right.ipv4, PORT, 3, 101, at=lab.left).wait()
    assert {record.remotes for record in lab.read().snapshot.tasks} == {()}


# From one run to the next


def _through(place: Place, plan: Sequence[Shots]) -> Any:
    """Start a process that sends a plan through one socket whenever told."""

    def send(talk: Connection) -> None:
        with workload.udp_socket(plan[0].to) as own:
            while talk.recv():
                for shots in plan:
                    _shoot(own, shots)
                talk.send("sent")

    return place.lab.start(send, at=place.lab.left)


OTHERS: Final = tuple((prefix, remote + 4) for prefix, remote in REMOTES)


@pytest.mark.needs("pins")
@pytest.mark.parametrize("others", [REMOTES, OTHERS], ids=["same", "other-prefixes"])
def test_next_run(bpffs: Path, family: int, others: tuple[tuple[str, int], ...]) -> None:
    """Nothing is lost, and the counts go on: under the numbers that classes have then."""
    options = Options(pin_path=str(bpffs / "netatop"), remotes=REMOTES)
    with open_place(options) as place:
        lab = place.lab
        start = lab.read()
        plan = [Shots(right(remote, family), 5 + 2 * remote, 101) for remote in CLASSES]
        receiver = lab.start(workload.drain_udp, ANY[family], at=lab.right)
        receiver.hear()
        sender = _through(place, plan)
        for pause in (False, False, True):
            if pause:
                lab.read()
                lab.tracer.close()
            sender.tell("go")
            sender.hear()
        lab.trace(options._replace(remotes=others))
        sender.tell("go")
        sender.hear()
        passed = lab.since(start)
        passed.assert_law("udp")
        before, after = _expected(family, plan, 3), _expected(family, plan)
        if others == OTHERS:
            after = {remote + 4 if remote else 0: numbers for remote, numbers in after.items()}
        assert _classes(passed.records[sender.pid]) == _sum(iter((before, after)))
        assert passed.lost == {}
        if others == REMOTES:
            place.assert_same(passed, lab.right, receiver.pid)


@pytest.mark.needs("pins")
def test_switched_on_later(bpffs: Path, family: int) -> None:
    """Records that were there before hold what came since; the counters of all go on."""
    options = Options(pin_path=str(bpffs / "netatop"))
    with open_place(options) as place:
        lab = place.lab
        start = lab.read()
        plan = [Shots(right(remote, family), 5 + 2 * remote, 101) for remote in CLASSES]
        sender = _through(place, plan)
        once = _expected(family, plan)
        for remotes, expected in (
            ((), {}),
            (REMOTES, once),
            (OTHERS, {**once, **{c + 4 if c else 0: n for c, n in once.items()}}),
        ):
            if remotes:
                lab.tracer.close()
                lab.trace(options._replace(remotes=remotes))
            sender.tell("go")
            sender.hear()
            record = lab.since(start).records[sender.pid]
            found = {c: record.remotes[4 * c : 4 * c + 4] for c in range(len(record.remotes) // 4)}
            if remotes == OTHERS:
                expected[0] = model.add(once[0], once[0])
            assert {c: numbers for c, numbers in found.items() if any(numbers)} == expected
        sent = model.by_direction(record.counters)
        assert sent == tuple(3 * sum(numbers) for numbers in zip(*once.values(), strict=True))
