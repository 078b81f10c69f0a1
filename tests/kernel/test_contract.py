# SPDX-License-Identifier: Apache-2.0
"""Kernel and user space mean the same by every field of the structs that they share."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter import model
from exporter.kernel import decode, layouts
from exporter.kernel.libbpf import describe, open_library
from exporter.kernel.tables import read_iterator
from tests.network import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.kernel

SOURCE = Path(__file__).with_name("contract.bpf.c")
BPF = Path(__file__).parents[2] / "bpf"
SETTINGS = {
    "fingerprint": 11,
    "count_threads": 12,
    "list_sockets": 13,
    "cgroup_level": 14,
    "cgroup_id": 1 << 40,
    "walk_files": 15,
    "know_tcp_sender": 16,
    "count_remotes": 17,
    "has_spares": 20,
    "remotes_digest": 1 << 60,
    "answer_netatop": 18,
    "know_sender": 19,
    "max_hosts": 1 << 41,
}
COUNTERS = {
    (protocol, direction, unit): 1000 + 100 * p + 10 * d + u
    for p, protocol in enumerate(model.PROTOCOLS)
    for d, direction in enumerate(model.DIRECTIONS)
    for u, unit in enumerate(model.UNITS)
}


def _failed(code: int) -> AssertionError:
    return AssertionError(describe(code))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], bytes]]:
    """Compile and load the programs that fill the structs; return what one of them writes."""
    if shutil.which("clang") is None:
        pytest.fail("needs clang: apt-get install clang")
    target = tmp_path_factory.mktemp("contract") / "contract.bpf.o"
    machine = run("uname", "-m").strip()
    run(
        *("clang", "-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"),
        *("-D__TARGET_ARCH_" + {"x86_64": "x86", "aarch64": "arm64"}.get(machine, machine),),
        *("-idirafter", f"/usr/include/{machine}-linux-gnu", "-I", str(BPF)),
        *("-c", str(SOURCE), "-o", str(target)),
    )
    bpf = open_library()
    opened = bpf.pointer("bpf_object__open_file", str(target).encode(), None, error=_failed)
    data = bpf.bpf_object__find_map_by_name(opened, b".rodata")
    packed = layouts.SETTINGS.pack(*(SETTINGS[name] for name in layouts.Settings._fields))
    bpf.call("bpf_map__set_initial_value", data, packed, len(packed), error=_failed)
    bpf.call("bpf_object__load", opened, error=_failed)

    def read(name: str) -> bytes:
        program = bpf.bpf_object__find_program_by_name(opened, f"write_{name}".encode())
        link = bpf.pointer("bpf_program__attach_iter", program, None, error=_failed)
        try:
            return read_iterator(bpf, bpf.bpf_link__fd(link), name)
        finally:
            bpf.bpf_link__destroy(link)

    yield read
    bpf.bpf_object__close(opened)


def _one(kind: Any, buffer: bytes) -> dict[str, Any]:
    """Decode a struct, field by field, and see that each field was filled."""
    (found,) = kind.unpack_all(buffer)
    fields: dict[str, Any] = found._asdict()
    assert all(fields.values()), f"not filled: {[n for n, value in fields.items() if not value]}"
    return fields


def _named(counters: model.Counters) -> dict[tuple[str, str, str], int]:
    return {name: model.pick(counters, *name) for name in COUNTERS}


def test_counters(written: Callable[[str], bytes]) -> None:
    """Sixteen numbers, each under its name."""
    assert _named(_one(layouts.Counters, written("counters"))["of"]) == COUNTERS


def test_task(written: Callable[[str], bytes]) -> None:
    """A task, as decoded into the model: tgid is the pid, pid is the tid."""
    buffer = written("task")
    _one(layouts.Task, buffer)
    (record,) = decode.tasks(struct.pack("=Q", 99), buffer)
    (process,) = decode.tasks(struct.pack("=Q", 1), buffer, lambda _: buffer)
    expected = {
        "identity": 99,
        "process": 1,
        "start_ns": 2,
        "end_ns": 3,
        "cgroup_id": 4,
        "pid": 5,
        "tid": 6,
        "uid": 7,
        "wait_status": 8,
        "name": "command",
        "counters": tuple(COUNTERS.values()),
        "threads": 9,
        "sockets": 10,
        "tcp": model.TcpTraffic(11, 12, 13),
        "round_trips": model.RoundTrips(tuple(range(14, 24)), model.ROUND_TRIP_BOUNDS_US[0]),
        "remotes": (),
    }
    assert record._asdict() == expected
    assert process.remotes == tuple(range(2000, 2064))


def test_socket_record(written: Callable[[str], bytes]) -> None:
    """A socket, field by field."""
    assert _one(layouts.SocketRecord, written("socket_record")) == {
        "cookie": 1,
        "owner": (2, 3),
        "traffic": (4, 5, 6, 7),
        "tcp": (12, 13, 14),
        "local_address": bytes(range(16, 32)),
        "remote_address": bytes(range(32, 48)),
        "network_namespace": 8,
        "local_port": 9,
        "remote_port": 10,
        "family": 10,
        "protocol": layouts.PROTOCOLS.index("other"),
        "state": 11,
    }


def test_socket_summary(written: Callable[[str], bytes]) -> None:
    """How many sockets there are of each protocol."""
    found = _one(layouts.SocketSummary, written("socket_summary"))["sockets"]
    expected = {"tcp": 1, "udp": 2, "icmp": 3, "other": 4}
    assert dict(zip(layouts.PROTOCOLS, found, strict=True)) == expected


def test_remote_prefix(written: Callable[[str], bytes]) -> None:
    """What user space writes into the table of prefixes."""
    found = _one(layouts.RemotePrefix, written("remote_prefix"))
    assert found == {"bits": 1, "address": bytes(range(2, 18))}


def test_settings(written: Callable[[str], bytes]) -> None:
    """The one struct that goes the other way: the kernel adds 1 to what it was given."""
    found = _one(layouts.Settings, written("settings_read"))
    assert found == {name: value + 1 for name, value in SETTINGS.items()}


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (layouts.HostKey, "host_key", {"address": bytes(range(2, 18)), "device": 1}),
        (
            *(layouts.Host, "host"),
            {
                "counters": tuple(COUNTERS.values()),
                "last_time_ns": 1,
                "tick": 2,
                "walk": 3,
                "connections": (4, 5, 6, 7),
            },
        ),
        (
            *(layouts.FlowKey, "flow_key"),
            {
                "address": bytes(range(16, 32)),
                "peer": bytes(range(32, 48)),
                "device": 1,
                "port": 2,
                "peer_port": 3,
                "protocol": 4,
            },
        ),
        (
            *(layouts.Flow, "flow"),
            {
                "traffic": (1, 2, 3, 4),
                "first_time_ns": 5,
                "last_time_ns": 6,
                "tick": 7,
                "opened_by": 8,
                "state": 9,
            },
        ),
    ],
    ids=["host_key", "host", "flow_key", "flow"],
)
def test_addresses(
    written: Callable[[str], bytes], kind: Any, name: str, expected: dict[str, Any]
) -> None:
    """What is kept of an IP address, and of a connection of one."""
    assert _one(kind, written(name)) == expected
