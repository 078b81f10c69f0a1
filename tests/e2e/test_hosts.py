# SPDX-License-Identifier: Apache-2.0
"""Traffic by IP address: as metrics, as JSON, and by the commands that tctable's users know."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter.model import DIRECTIONS, PROTOCOLS, UNITS
from tests.e2e import program, workers
from tests.kernel.lab import alone, cgroup
from tests.network import namespace, run
from tests.traffic import tcp, udp
from tests.workload import PORT, Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from tests.e2e.exposition import Exposition
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SOURCES: Final = tuple(f"127.9.0.{number}" for number in range(1, 8))
TARGET: Final = "127.9.1.1"
SIZE: Final = 41


def scatter(talk: Connection, *shares: int) -> None:
    """Send so many from each address to one, and receive them, when told."""
    with udp.bound(TARGET) as receiver:
        talk.send("ready")
        while talk.recv():
            for source, share in zip(SOURCES, shares, strict=False):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
                    own.bind((source, 0))
                    for _ in range(share):
                        own.sendto(bytes(SIZE), (TARGET, PORT))
                        receiver.recv(1 << 16)
            talk.send("sent")


def udp_traffic(receive: int, transmit: int) -> dict[str, float]:
    """Return what so many datagrams are."""
    length = workers.HEADERS + SIZE
    return {
        "receive_packets": receive,
        "receive_bytes": receive * length,
        "transmit_packets": transmit,
        "transmit_bytes": transmit * length,
    }


def command(exporter: Program, *words: str) -> str:
    """Run a command that asks this exporter."""
    done = program.run(*words, "--web.listen-address", exporter.address)
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_json(text: str) -> list[dict[str, Any]]:
    """Read lines of JSON."""
    return [json.loads(line) for line in text.splitlines()]


def test_of_this_host() -> None:
    """Every address with what it has used, the same by every way to ask."""
    shares = (3, 5, 7)
    with program.serve("--collector.hosts") as exporter, Process(scatter, *shares) as process:
        process.hear()
        for times in (1, 2):
            process.tell("go")
            process.hear()
            found = exporter.scrape()
            for source, share in zip(SOURCES, shares, strict=False):
                seen = found.traffic("host_", address=source, device="", protocol="udp")
                assert seen == udp_traffic(0, times * share)
            seen = found.traffic("host_", address=TARGET, device="", protocol="udp")
            assert seen == udp_traffic(times * sum(shares), 0)
        total = udp_traffic(2 * sum(shares), 0)
        (target,) = as_json(command(exporter, "hosts", TARGET, "--json"))
        assert (target["address"], target["device"]) == (TARGET, "")
        assert target["udp"] == total
        assert target["connections"] == dict.fromkeys(PROTOCOLS, 0)
        assert target["last_use_time_seconds"] > 1.7e9
        assert command(exporter, "hosts", "127.9.0.0/16", "--count") == "4\n"
        listed = command(exporter, "hosts", "127.9.0.0/16").splitlines()
        assert listed[0].split()[:2] == ["address", "device"]
        assert [line.split()[0] for line in listed[1:]] == [TARGET, *reversed(SOURCES[:3])]
        head, _, *rows = command(exporter, "hosts", f"::ffff:{TARGET}").splitlines()
        assert head.startswith(f"{TARGET} (of this host), last used 2")
        assert [row.split()[0] for row in rows] == list(PROTOCOLS)
        assert rows[1].split()[1:] == ["0", *(f"{number:.0f}" for number in total.values())]
        assert int(command(exporter, "hosts", "--count")) >= 5


def _hold(talk: Connection, sources: tuple[str, ...]) -> None:
    """Hold connections, each from another address, with 23 bytes there and 29 back."""
    with tcp.listen(TARGET) as listener, contextlib.ExitStack() as stack:
        for source in sources:
            mine = stack.enter_context(socket.socket())
            mine.bind((source, 0))
            mine.connect((TARGET, PORT))
            accepted, _ = listener.accept()
            stack.enter_context(accepted)
            mine.send(bytes(23))
            accepted.send(accepted.recv(64) + bytes(6))
            mine.recv(64)
        talk.send("held")
        talk.recv()


def test_connections() -> None:
    """Those of an address with their process, as either end sees it; sockets need no series."""
    with program.serve("--collector.hosts") as exporter, Process(_hold, SOURCES[:2]) as process:
        process.hear()
        found = exporter.scrape()
        for address, number in ((TARGET, 2), (SOURCES[0], 1), (SOURCES[1], 1)):
            name = "netatop_host_connections"
            assert found.sum(name, address=address, protocol="tcp") == number
        assert not found.series("netatop_socket_receive_bytes_total")
        both = as_json(command(exporter, "connections", SOURCES[0], "--json"))
        ends = {(one["address"], one["peer_address"]): one for one in both}
        assert ends.keys() == {(SOURCES[0], TARGET), (TARGET, SOURCES[0])}
        mine, theirs = ends[SOURCES[0], TARGET], ends[TARGET, SOURCES[0]]
        assert mine["pid"] == theirs["pid"] == process.pid
        assert (mine["peer_port"], theirs["port"]) == (PORT, PORT)
        for unit in UNITS:
            assert mine[f"transmit_{unit}"] - theirs[f"receive_{unit}"] in {0, mine_only(unit)}
        head, *rows = command(exporter, "connections", "127.9.0.0/24").splitlines()
        assert head.split()[0] == "protocol"
        assert len(rows) == 4
        assert all(row.split()[0] == "tcp" for row in rows)


def test_silent_connections() -> None:
    """Those that have not been used since the start are there, and listed."""
    with Process(_hold, SOURCES[:2]) as process:
        process.hear()
        with program.serve("--collector.hosts") as exporter:
            found = exporter.scrape()
            for address, number in ((TARGET, 2), (SOURCES[0], 1), (SOURCES[1], 1)):
                name = "netatop_host_connections"
                assert found.sum(name, address=address, protocol="tcp") == number
            both = as_json(command(exporter, "connections", SOURCES[0], "--json"))
            ends = {(one["address"], one["peer_address"]): one for one in both}
            assert ends.keys() == {(SOURCES[0], TARGET), (TARGET, SOURCES[0])}
            assert {one["pid"] for one in both} == {process.pid}
            assert not any(one["receive_packets"] + one["transmit_packets"] for one in both)


def mine_only(unit: str) -> int:
    """Return what the accepting end does not see of a connection: SYN and ACK, before it is one."""
    return 2 if unit == "packets" else 60 + 52


@contextlib.contextmanager
def behind(device: str) -> Iterator[tuple[str, Any]]:
    """Put a host behind a device of this host; return its address and namespace."""
    with namespace() as place:
        run("ip", "link", "add", device, "type", "veth", "peer", "eth0", "netns", place.name)
        run("ip", "link", "set", device, "addrgenmode", "none")  # no IPv6 address that says hello
        run("ip", "address", "add", "198.18.0.1/30", "dev", device)
        run("ip", "link", "set", device, "up")
        inside = ("ip", "-n", place.name)
        run(*inside, "link", "set", "eth0", "addrgenmode", "none")
        run(*inside, "address", "add", "198.18.0.2/30", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        try:
            yield "198.18.0.2", place
        finally:
            run("ip", "link", "delete", device)


def test_behind_this_host(tmp_path: Path) -> None:
    """An address that a device leads to; the device comes when the exporter runs already."""
    file = tmp_path / "netatop-exporter.yml"
    file.write_text("hosts: {devices: [nta-inside], idle_minutes: 5}\n", encoding="utf-8")
    with program.serve("--config.file", str(file), "--web.enable-lifecycle") as exporter:
        assert "device nta-inside: not there" in exporter.log
        with behind("nta-inside") as (address, place):
            program.wait_until(lambda: "counting what is behind" in exporter.log, "the device")
            with Process(udp.echo, "198.18.0.1", 23) as echo:
                echo.hear()
                with Process(udp.ask, "198.18.0.1", 23, SIZE, namespace=place) as asker:
                    asker.wait()
            found = exporter.scrape()
            labels = {"address": address, "device": "nta-inside"}
            assert found.traffic("host_", **labels, protocol="udp") == udp_traffic(23, 23)
            assert found.sum("netatop_host_connections", **labels, protocol="udp") == 1
            # The other end is an address of this host, whatever device leads to it.
            seen = found.traffic("host_", address="198.18.0.1", device="", protocol="udp")
            assert seen == udp_traffic(23, 23)
            attached = found.series("netatop_program_attached", hook="tc/ingress")
            programs = {dict(labels)["program"]: value for labels, value in attached.items()}
            assert programs == {"from_device": 1, "from_tunnel": 0}
            tables = {"hosts_behind": 1, "connections_behind": 1}
            for table, entries in tables.items():
                assert found.sum("netatop_map_entries", map=table) == entries
            both = as_json(command(exporter, "connections", address, "--json"))
            (flow,) = (one for one in both if one["device"] == "nta-inside")
            assert (flow["opened_by"], flow["is_open"]) == ("address", True)
            assert {n: flow[n] for n in udp_traffic(0, 0)} == udp_traffic(23, 23)
            shown = command(exporter, "connections", address)
            assert f"{address}:{flow['port']}" in shown
            assert "nta-inside" in command(exporter, "hosts", address)
        program.wait_until(lambda: "nta-inside: gone" in exporter.log, "the device is gone")
        file.write_text("hosts: {devices: [another]}\n", encoding="utf-8")
        answer = exporter.ask("/-/reload", "POST")
        assert answer.status == 500
        assert b"another hosts than at the start" in answer.body


def seen_growth(before: Exposition, after: Exposition) -> dict[str, float]:
    """Return what Prometheus sees all series of addresses grow by."""
    grown = {}
    for direction in DIRECTIONS:
        for unit in UNITS:
            name = f"netatop_host_{direction}_{unit}_total"
            old, new = before.series(name, protocol="udp"), after.series(name, protocol="udp")
            assert all(new[key] >= value for key, value in old.items() if key in new)
            seen = sum(value - old[key] for key, value in new.items() if key in old)
            grown[f"{direction}_{unit}"] = seen
    return grown


def test_bounds(tmp_path: Path) -> None:
    """Two have series, the others' increments are in `other`: nothing is missing in the sum."""
    file = tmp_path / "netatop-exporter.yml"
    file.write_text("hosts: {addresses: 5}\nlimits: {hosts: 2}\n", encoding="utf-8")
    shares = (3, 5, 7, 11, 13, 17, 19)
    flags = ("--config.file", str(file))
    with (
        alone(),
        cgroup() as group,
        program.serve(*flags, "--cgroup-path", str(group)) as exporter,
        Process(scatter, *shares, cgroup=group) as process,
    ):
        process.hear()
        before = exporter.scrape()
        for _ in range(3):
            process.tell("go")
            process.hear()
            after = exporter.scrape()
            sent = sum(shares)
            assert seen_growth(before, after) == udp_traffic(sent, sent)
            shown = after.label_values("netatop_host_receive_bytes_total", "address")
            assert len(shown) == 3
            assert "other" in shown
            before = after
        # The target and four sources have come first.
        lost = before.sum("netatop_lost_total", object="host", reason="full")
        assert lost == 3 * (13 + 17 + 19)


def test_continues_on_pins(bpffs: Path) -> None:
    """After a restart an address goes on where it was."""
    pins = str(bpffs / "netatop-exporter")
    flags = ("--collector.hosts", "--pin-path", pins)
    with Process(scatter, 3) as process:
        process.hear()
        for times in (1, 2):
            with program.serve(*flags) as exporter:
                process.tell("go")
                process.hear()
                seen = exporter.scrape().traffic("host_", address=SOURCES[0], protocol="udp")
                assert seen == udp_traffic(0, 3 * times)


def test_off() -> None:
    """Unless it is asked for; connections are told all the same."""
    with program.serve() as exporter, Process(_hold, SOURCES[:1]) as process:
        process.hear()
        assert not exporter.scrape().series("netatop_host_receive_bytes_total")
        done = program.run("hosts", "--web.listen-address", exporter.address)
        assert "start it with --collector.hosts" in program.refusal(done, 1)
        answer = json.loads(exporter.ask("/api/v1/hosts").body)
        assert (answer["counted"], answer["hosts"]) == (False, [])
        assert len(as_json(command(exporter, "connections", SOURCES[0], "--json"))) == 2


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("hosts", "300.1.1.1"), 2, "ADDRESS: found '300.1.1.1'; accepted is an address of IPv4"),
        (("connections", "10.0.0.0/33"), 2, "found '10.0.0.0/33'"),
        (("connections",), 2, "ADDRESS"),
        (("hosts", "192.0.2.99"), 1, "192.0.2.99: nothing was counted for this address"),
    ],
)
def test_refused(words: tuple[str, ...], status: int, said: str) -> None:
    """What is no address, and what is not known."""
    with program.serve("--collector.hosts") as exporter:
        done = program.run(*words, "--web.listen-address", exporter.address)
        assert done.returncode == status
        assert said in done.stderr


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/hosts?address=x", b"found 'x'"),
        ("/api/v1/hosts?cidr=::", b"found parameter 'cidr'; accepted are address"),
        ("/api/v1/connections?address=1.2.3.4.5", b"found '1.2.3.4.5'"),
    ],
)
def test_bad_requests(path: str, said: bytes) -> None:
    """What was found, and what is accepted."""
    with program.serve() as exporter:
        answer = exporter.ask(path)
        assert answer.status == 400
        assert said in answer.body
