# SPDX-License-Identifier: Apache-2.0
"""Builders of facts: records and snapshots as the kernel side hands them over."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from exporter import model
from exporter.attribution.ledger import Ledger
from exporter.attribution.namer import Namer, Sources
from exporter.config.settings import Settings
from exporter.kernel.tracer import Tracer
from exporter.model import ProgramStatus, Snapshot, SocketWalk, TableStatus, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.pods import Names

SECOND = 10**9


def counters(**numbers: int) -> model.Counters:
    """Return counters with these numbers set, named like `udp_transmit_packets`."""
    found = list(model.ZERO)
    names = [
        f"{protocol}_{direction}_{unit}"
        for protocol in model.PROTOCOLS
        for direction in model.DIRECTIONS
        for unit in model.UNITS
    ]
    for name, value in numbers.items():
        found[names.index(name)] = value
    return tuple(found)


def process(pid: int, name: str = "p", *, start: int = 1, **changes: Any) -> TaskRecord:
    """Return the record of a living process that has sent 23 datagrams."""
    identity = start << 23 | pid
    record = TaskRecord(
        identity=identity,
        process=identity,
        pid=pid,
        tid=pid,
        name=name,
        uid=0,
        cgroup_id=1,
        start_ns=start * SECOND,
        end_ns=0,
        wait_status=0,
        counters=counters(udp_transmit_packets=23, udp_transmit_bytes=4099),
    )
    return record._replace(**changes)


def thread(pid: int, tid: int, name: str = "t", *, start: int = 1) -> TaskRecord:
    """Return the record of a living thread."""
    owner = process(pid, start=start)
    return owner._replace(identity=start << 23 | 1 << 22 | tid, tid=tid, name=name)


def snapshot(
    *tasks: TaskRecord,
    now: int = 100,
    unidentified: Mapping[str, model.Counters] | None = None,
    lives: Mapping[model.LifeKey, tuple[int, ...]] | None = None,
    hosts: Iterable[model.HostRecord] = (),
) -> Snapshot:
    """Return a snapshot at `now` seconds since boot."""
    return Snapshot(
        now_ns=now * SECOND,
        tasks=tasks,
        unidentified=unidentified or {},
        lost={("task", "full"): 0},
        tables=(TableStatus("tasks", len(tasks), 64),),
        lives=lives or {},
        hosts=tuple(hosts),
    )


class NoPods:
    """A host without Kubernetes, or one whose pods are told."""

    def __init__(self, **names: Names) -> None:
        self.names = names
        self.generation = 0

    def find(self, container_id: str, pod_uid: str) -> Names | None:
        return self.names.get(container_id) or self.names.get(pod_uid)

    def refresh(self) -> None:
        pass


def namer(settings: Settings | None = None, **sources: Any) -> Namer:
    """Return one that knows of nothing but what it is told: groups are command names."""
    given = {
        "cgroup_path": lambda _: "/",
        "executable": lambda _pid, _start: "",
        "command_line": lambda _pid, _start: "",
        "legacy_cgroups": lambda _pid, _start: (),
        "user": str,
        "pods": NoPods(),
        "has_legacy_cgroups": False,
    }
    return Namer(settings or Settings(), Sources(**given | sources))


def ledger(
    max_exits: int = 1000,
    *,
    max_groups: int = 500,
    class_names: tuple[str, ...] = (),
    **sources: Any,
) -> Ledger:
    """Return an empty ledger."""
    return Ledger(namer(**sources), max_groups, max_exits, class_names)


class FakeTracer(Tracer):
    """A tracer that answers what it is told, or raises it."""

    loader = "fake"
    libbpf_version = "0.0"
    owners = "fake"
    keeps = False

    def __init__(self, *tasks: TaskRecord) -> None:
        self.snapshot = snapshot(*tasks)
        self.walk = SocketWalk({"tcp": 0, "udp": 1, "icmp": 0, "other": 0}, ())
        self.failures: dict[str, Exception] = {}
        self.forgotten: list[int] = []
        self.calls: list[str] = []

    def _answer(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]

    def settle(self, *, list_sockets: bool = False) -> SocketWalk:  # noqa: ARG002
        self._answer("settle")
        return self.walk

    def read(self) -> Snapshot:
        self._answer("read")
        return self.snapshot

    def programs(self) -> tuple[ProgramStatus, ...]:
        self._answer("programs")
        return (ProgramStatus("count_receive", "cgroup_skb/ingress", True, 0, 0),)

    def tend(self) -> None:
        self._answer("tend")

    def forget(self, identities: Iterable[int]) -> None:
        self._answer("forget")
        self.forgotten += identities

    def connections(self, wanted: model.Network | None = None) -> Iterable[model.Connection]:  # noqa: ARG002
        return ()

    def forget_host(self, address: str, device: str) -> model.Counters:
        self.calls.append(f"forget {address} {device}".rstrip())
        return model.ZERO

    def recall(self) -> bytes:
        return b""

    def remember(self, memory: bytes) -> None:
        self._answer("remember")
        self.remembered = memory

    def cgroup_path(self, cgroup_id: int) -> str:
        return f"/{cgroup_id}"

    def close(self) -> None:
        self._answer("close")


class Turnstile:
    """A lock that counts how often it was passed."""

    def __init__(self) -> None:
        self.passed = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.passed += 1
        self._lock.release()
