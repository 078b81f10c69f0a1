# SPDX-License-Identifier: Apache-2.0
"""The CO-RE loader's tracer: settles, reads and decodes what the attached object counts."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from exporter import model
from exporter.kernel import addresses, core_object, decode, layouts
from exporter.kernel.cgroup_paths import CgroupPaths
from exporter.kernel.core_object import OBJECT, Options
from exporter.kernel.forwarder import Forwarder
from exporter.kernel.hooks import ANSWERS, IN_PAIRS, SPARES, TRACEPOINTS, UNANSWERED
from exporter.kernel.libbpf import ProgramInfo, open_library
from exporter.kernel.pins import Pins
from exporter.kernel.succession import take_over
from exporter.kernel.tracer import Tracer
from exporter.kernel.watcher import LifeCounter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.kernel.hooks import Hook


class CoreTracer(Tracer):
    """Programs loaded through libbpf, or found pinned."""

    loader = "core"
    layout = "main"

    def __init__(self, options: Options) -> None:
        """Load and attach, or take over. Raises KernelError, with nothing new left behind."""
        self._lives: LifeCounter | None = None
        self._forwarder: Forwarder | None = None
        self._session = 0
        """Of the last walk over all sockets."""
        self._pins = Pins(options.pin_path) if options.pin_path else None
        try:
            if self._pins:
                self._held = take_over(self._pins, options)
            else:
                self._held = core_object.load(options)
            self._answers = bool(self._held.plan.read_settings().answer_netatop)
            self.tend()
            if options.lifecycle:
                self._lives = LifeCounter()
            if options.devices:
                self._forwarder = Forwarder(
                    options.devices, options.max_hosts, options.max_connections
                )
        except BaseException:
            self.close()
            raise
        self._tasks, self._unidentified, self._lost, self._hosts, self._listing = map(
            self._held.table, ("tasks", "unidentified", "lost", "hosts", "listing")
        )
        self._listing.write_one(0)  # whoever had the tables before may have been killed
        self._cgroups = CgroupPaths()
        self.libbpf_version = open_library().version

    @property
    def owners(self) -> str:  # type: ignore[override]
        """Return how users of sockets are known."""
        attached = self._held.attached
        if "own_sender" in attached:
            return "tracepoint"
        return "fentry" if "own_sender_return" in attached else "creation"

    @property
    def missing(self) -> tuple[Hook, ...]:
        """Return the optional hooks that this kernel does not have."""
        return tuple(hook for hook in TRACEPOINTS if hook.program in self._held.plan.missing)

    @property
    def losses(self) -> tuple[str, ...]:
        """Return what is lost by hooks that this kernel does not have."""
        without = {hook.tracepoint: hook.without for hook in self.missing}
        found = [f"no tracepoint {name}: {loss}" for name, loss in without.items()]
        if ANSWERS in self._held.plan.missing:
            found.append(UNANSWERED)
        return tuple(found)

    @property
    def answers(self) -> bool:
        """Tell whether getsockopt(2) is answered as if netatop were loaded."""
        return self._answers

    def settle(self, *, list_sockets: bool = False) -> model.SocketWalk:
        """Move what waits in the sockets to the tasks."""
        if list_sockets:
            self._listing.write_one(1)
        try:
            walk, self._session = decode.walk(self._held.settle())
        finally:
            if list_sockets:
                self._listing.write_one(0)
        return walk

    def read(self) -> model.Snapshot:
        """Read all tables."""
        again = self._tasks.read if self._held.plan.read_settings().count_remotes else None
        records = decode.tasks(*self._tasks.read_all(), again)
        unidentified = {
            reason: decode.sum_counters(self._unidentified.read_per_cpu(index))
            for index, reason in enumerate(layouts.REASONS)
        }
        lost = {
            decode.loss(index): sum(self._lost.read_per_cpu(index).cast("B").cast("Q"))
            for index in range(len(layouts.LOSSES))
        }
        lost["program", "recursion"] += sum(
            self._held.info(name).recursion_misses for name in self._alone()
        )
        for what, count in self._forwarder.lost() if self._forwarder else ():
            lost[what] += count
        own = tuple(self._own_hosts())
        behind = tuple(self._forwarder.read()) if self._forwarder else ()
        return model.Snapshot(
            now_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            tasks=records,
            unidentified=unidentified,
            lost=lost,
            tables=(
                model.TableStatus(self._tasks.name, len(records), self._tasks.capacity),
                *self._host_tables(len(own), len(behind)),
            ),
            lives=self._lives.read() if self._lives else {},
            hosts=(*own, *behind),
        )

    def _alone(self) -> set[str]:
        """Return the attached programs without a spare, which would run where they are skipped."""
        attached = self._held.attached
        pairs = {name for pair in SPARES.items() if pair[1] in attached for name in pair}
        return attached - IN_PAIRS - pairs

    def _own_hosts(self) -> Iterator[model.HostRecord]:
        if self._held.plan.read_settings().max_hosts:
            yield from addresses.read(self._hosts, {addresses.LOCAL: ""}, self._session)

    def _host_tables(self, own: int, behind: int) -> Iterator[model.TableStatus]:
        """Yield how full they are; the entry for what finds no room is none of them."""
        if own:
            yield model.TableStatus("hosts", own - 1, self._hosts.capacity - 1)
        if self._forwarder:
            yield model.TableStatus("hosts_behind", behind - 1, self._hosts.capacity - 1)
            yield self._forwarder.connection_table

    def connections(self, wanted: model.Network | None = None) -> Iterable[model.Connection]:
        """Return those of addresses behind this host."""
        return self._forwarder.connections(wanted) if self._forwarder else ()

    def forget_host(self, address: str, device: str) -> model.Counters:
        """Remove an IP address."""
        if not device:
            return addresses.counters(self._hosts.take(addresses.packed(address, 0)))
        parts = self._forwarder.forget(address, device) if self._forwarder else ()
        return functools.reduce(model.add, parts, model.ZERO)

    def programs(self) -> tuple[model.ProgramStatus, ...]:
        """Return the state of each program."""
        attached, in_force = self._held.attached, self._held.in_force()
        info = self._held.info
        infos = {
            name: info(name) if name in attached else ProgramInfo()
            for name in self._held.plan.hooks
        }
        own = (
            model.ProgramStatus(
                name=name,
                hook=self._held.plan.hooks[name],
                attached=name in in_force,
                runs=found.run_cnt,
                run_time_ns=found.run_time_ns,
            )
            for name, found in infos.items()
        )
        return (*own, *(self._forwarder.status() if self._forwarder else ()))

    def tend(self) -> None:
        """Follow network namespaces as they come and go, and the clock where times are told."""
        self._held.tend()
        if self._forwarder:
            self._forwarder.tend()
        if self._answers:
            booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self._held.table("boot_time").write_one(booted)

    def forget(self, identities: Iterable[int]) -> None:
        """Remove the records of finished tasks."""
        for identity in identities:
            self._tasks.delete(identity)

    def recall(self) -> bytes:
        """Return what was remembered last, by this process or one before it; empty: nothing."""
        return self._pins.load() if self._pins else b""

    def remember(self, memory: bytes) -> None:
        """Keep this with the tables, in place of what was kept before; without pins, nowhere."""
        if self._pins:
            self._pins.save(memory)

    @property
    def keeps(self) -> bool:
        """Tell whether anything outlives this process, so that remembering is worth it."""
        return self._pins is not None

    def cgroup_path(self, cgroup_id: int) -> str:
        """Return where a cgroup is in the version 2 hierarchy; empty if it is gone."""
        return self._cgroups.path(cgroup_id)

    def close(self) -> None:
        """Let go of everything; what is not pinned is gone then. May be called again."""
        if hasattr(self, "_cgroups"):
            self._cgroups.close()
            del self._cgroups
        for own in (self._forwarder, self._lives):
            if own:
                own.close()
        if hasattr(self, "_held"):
            self._held.close()
        if self._pins:
            self._pins.close()


__all__ = ["OBJECT", "CoreTracer", "Options"]
