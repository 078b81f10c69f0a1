# SPDX-License-Identifier: Apache-2.0
"""The portable object's tracer: attaches, settles, reads; whoever has loaded the programs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from typing import TYPE_CHECKING, Final

from exporter import model
from exporter.errors import AttachError, CompilerError, KernelError, MapReadError
from exporter.kernel import (
    attaching,
    cgroups,
    decode,
    host,
    layouts,
    links,
    portable,
    remotes,
    socket_diag,
)
from exporter.kernel.cgroup_paths import CgroupPaths
from exporter.kernel.core_object import Options
from exporter.kernel.holding import program_info
from exporter.kernel.hooks import NO_PAYLOAD, UNSEEN_KERNEL
from exporter.kernel.libbpf import ProgramInfo, RunOptions, describe, open_library
from exporter.kernel.portable import Blueprint, Hook, Load, Program
from exporter.kernel.tables import Table, read_iterator
from exporter.kernel.tracer import Tracer
from exporter.kernel.watcher import LifeCounter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.kernel.cgroups import Cgroup

SETTLED_AT_ONCE: Final = 32
"""SETTLE_COOKIES (bpf/portable.h), as the next two."""
SETTLE_HEADER: Final = bytes(16)
GRACE_NS: Final = 2 * 10**9


class PortableTracer(Tracer):
    """Programs of the portable object, attached."""

    layout = "portable"

    def __init__(self, options: Options, load: Load, loader: str = "core") -> None:
        """Load with the best hooks that this kernel has, and attach. Raises KernelError.

        load: makes tables and programs; loader: its name.
        """
        host.require_capabilities("loading kernel programs")
        host.require_no_lockdown("loading the portable kernel object")
        self.loader = loader
        self.libbpf_version = open_library().version
        self._options = options
        self._lives: LifeCounter | None = None
        self._stack = contextlib.ExitStack()
        self._refused: list[str] = []
        """What is lost by programs that could not be loaded or attached."""
        try:
            self._cgroup = cgroups.open_cgroup(options.cgroup_path)
            self._stack.callback(self._cgroup.close)
            self._attached = self._start(load)
            self._start_lives()
            self._cgroups = CgroupPaths()
            self._stack.callback(self._cgroups.close)
        except BaseException:
            self.close()
            raise
        self._tasks = self._attached.table("tasks")
        self._unidentified = self._attached.table("unidentified")
        self._lost = self._attached.table("lost")
        self._meters = self._attached.table("meters")
        self._sockets = 0
        """How many the last settle has found."""

    def _start(self, load: Load) -> _Attached:
        sets = (self._options.owners,) if self._options.owners else tuple(candidates())
        errors: list[KernelError] = []
        for owners in sets:
            blueprint = draw(self._options, owners, self._cgroup)
            try:
                attached = _Attached(blueprint, load, self._cgroup, self._options)
            except CompilerError:
                raise  # with other hooks it would be the same, or hide a mistake in these
            except KernelError as error:
                errors.append(error)
                continue
            self._stack.callback(attached.close)
            self.owners = owners
            return attached
        raise errors[0]

    def _start_lives(self) -> None:
        if not self._options.lifecycle:
            return
        try:
            self._lives = LifeCounter()
        except KernelError as error:
            self._refused.append(f"events in the lives of processes are not counted: {error}")
        else:
            self._stack.callback(self._lives.close)

    @property
    def missing(self) -> tuple[Program, ...]:
        """Return the programs that this kernel does not take, or has no place for."""
        return tuple(
            program for program in self._attached.blueprint.programs if self._lacks(program)
        )

    @property
    def losses(self) -> tuple[str, ...]:
        """Return what this kernel, or this object, does not tell."""
        options = self._options
        found = [UNSEEN_KERNEL, NO_PAYLOAD]
        found += [program.without for program in self.missing]
        if self.owners == "tracepoint" and options.remotes:
            found.append(portable.FIRST_DATAGRAM)
        if self.owners == "cgroup":
            found.append(portable.ONLY_CGROUPS)
        for is_on, lost in (
            (options.pin_path, "--pin-path: nothing outlives the program; totals start anew"),
            (options.max_hosts, "hosts: IP addresses are not counted"),
            (options.devices, "hosts.devices: what is behind them is not counted"),
            (options.compat, "compat.netatop: the options of getsockopt(2) are not answered"),
        ):
            if is_on:
                found.append(lost)
        return tuple(dict.fromkeys((*found, *self._refused)))

    def _lacks(self, program: Program) -> bool:
        return bool(program.without) and program.name not in self._attached.names

    # Settling and reading

    def settle(self, *, list_sockets: bool = False) -> model.SocketWalk:
        """Move what waits to the tasks, and let go of what has ended."""
        meters = self._read_meters()
        self._sockets = len(meters)
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._attached.settle(
            meter.cookie for meter in meters if needs_settling(meter, now, self._options)
        )
        lists = list_sockets or self._options.list_sockets
        if lists:
            meters = self._read_meters()
        counts = dict.fromkeys(model.PROTOCOLS, 0)
        for meter in meters:
            if meter.known and any(meter.user) and not meter.ended_time_ns:
                counts[layouts.PROTOCOLS[meter.protocol]] += 1
        return model.SocketWalk(
            counts=counts,
            sockets=tuple(socket_records(meters, unused=list_sockets)) if lists else (),
        )

    def _read_meters(self) -> list[layouts.SocketMeter]:
        _, values = self._meters.read_all()
        return list(layouts.SocketMeter.unpack_all(values))

    def read(self) -> model.Snapshot:
        """Read all tables."""
        again = self._tasks.read if self._options.remotes else None
        records = decode.tasks(*self._tasks.read_all(), again)
        lost = {
            decode.loss(index): sum(self._lost.read_per_cpu(index).cast("B").cast("Q"))
            for index in range(len(layouts.LOSSES))
        }
        lost["program", "recursion"] += self._attached.skipped()
        return model.Snapshot(
            now_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            tasks=records,
            unidentified={
                reason: decode.sum_counters(self._unidentified.read_per_cpu(index))
                for index, reason in enumerate(layouts.REASONS)
            },
            lost=lost,
            tables=(
                model.TableStatus(self._tasks.name, len(records), self._tasks.capacity),
                model.TableStatus(self._meters.name, self._sockets, self._meters.capacity),
            ),
            lives=self._lives.read() if self._lives else {},
        )

    def programs(self) -> tuple[model.ProgramStatus, ...]:
        """Return the state of each program."""
        return tuple(self._attached.status())

    def forget(self, identities: Iterable[int]) -> None:
        """Remove the records of finished tasks."""
        for identity in identities:
            self._tasks.delete(identity)

    # What this object does not have

    @property
    def answers(self) -> bool:
        """Nothing answers getsockopt(2)."""
        return False

    def tend(self) -> None:
        """Say what somebody has detached; it has nothing in other network namespaces."""
        self._attached.severed()

    def connections(self, wanted: model.Network | None = None) -> Iterable[model.Connection]:  # noqa: ARG002
        """Return none: addresses behind this host are not counted."""
        return ()

    def forget_host(self, address: str, device: str) -> model.Counters:  # noqa: ARG002
        """Return nothing: there is none."""
        return model.ZERO

    @property
    def keeps(self) -> bool:
        """Nothing outlives this process."""
        return False

    def recall(self) -> bytes:
        """Return nothing."""
        return b""

    def remember(self, memory: bytes) -> None:
        """Keep nothing."""

    def cgroup_path(self, cgroup_id: int) -> str:
        """Return where a cgroup is in the version 2 hierarchy; empty if it is gone."""
        return self._cgroups.path(cgroup_id)

    def close(self) -> None:
        """Detach and free everything; may be called again."""
        self._stack.close()


class _Attached:
    """Tables and programs, and what they are attached to."""

    def __init__(self, blueprint: Blueprint, load: Load, cgroup: Cgroup, options: Options) -> None:
        """Load and attach. Raises KernelError, with nothing left behind."""
        self.blueprint = blueprint
        self.names: set[str] = set()
        """Of the programs that are attached."""
        self._cgroup = cgroup
        self._held = load(blueprint)
        self.severed = links.Watch(self._held.links).severed
        """What of them somebody else has detached."""
        self._without_links = attaching.CgroupPrograms(cgroup.fd)
        try:
            self._fill(options)
            self._attach_all()
        except BaseException:
            self.close()
            raise

    def table(self, name: str) -> Table:
        """Return a map to read from."""
        return Table(open_library(), self._held.maps[name], name)

    def _fill(self, options: Options) -> None:
        prefixes = self.table("remote_prefixes")
        for key, value in remotes.entries(options.remotes):
            prefixes.write(key, value)

    def _attach_all(self) -> None:
        for program in self.blueprint.programs:
            fd = self._held.programs.get(program.name)
            if fd is None or program.hook is Hook.RUN:
                continue
            if program.hook is Hook.ITERATOR:
                self._run_once(program, fd)
                continue
            try:
                self._attach(program, fd)
            except OSError as error:
                if not program.without:
                    message = f"program {program.name}: {describe(error.errno or 0)}"
                    raise AttachError(message) from error

    def _attach(self, program: Program, fd: int) -> None:
        """Attach to all of its targets that there are. Raises OSError if there is none."""
        if program.hook is Hook.CGROUP:
            link = self._without_links.attach(fd, program.attach_type)
            if link is not None:
                self._held.links[program.name] = link
            self.names.add(program.name)
            return
        last: OSError | None = None
        for target in program.targets:
            try:
                if program.hook is Hook.RAW_TRACEPOINT:
                    link = attaching.raw_tracepoint(fd, target)
                else:
                    at_return = program.hook is Hook.KRETPROBE
                    link = attaching.kprobe(fd, target, at_return=at_return)
            except OSError as error:
                last = error
                continue
            self._held.links[f"{program.name}/{target}"] = link
            self.names.add(program.name)
        if last and program.name not in self.names:
            raise last

    def _run_once(self, program: Program, fd: int) -> None:
        """Go over all files: what was open before has owners from now on."""
        socket_diag.give_cookies()
        try:
            link = attaching.iterator(fd)
        except OSError:
            return
        try:
            read_iterator(open_library(), link, program.name)
        finally:
            os.close(link)
        self.names.add(program.name)

    def settle(self, cookies: Iterable[int]) -> None:
        """Have the kernel settle these sockets. Raises MapReadError."""
        wanted = list(cookies)
        for first in range(0, len(wanted), SETTLED_AT_ONCE):
            self._settle_some(wanted[first : first + SETTLED_AT_ONCE])

    def _settle_some(self, cookies: list[int]) -> None:
        data = SETTLE_HEADER + b"".join(cookie.to_bytes(8, "little") for cookie in cookies)
        options = RunOptions(
            sz=ctypes.sizeof(RunOptions),
            data_in=ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p),
            data_size_in=len(data),
            repeat=1,
        )
        open_library().call(
            *("bpf_prog_test_run_opts", self._held.programs["settle_meters"]),
            ctypes.byref(options),
            error=lambda code: MapReadError(f"program settle_meters: {describe(code)}"),
        )

    def _info(self, program: Program) -> ProgramInfo:
        if program.name not in self.names:
            return ProgramInfo()
        return program_info(self._held.programs[program.name], program.name)

    def skipped(self) -> int:
        """Return how often a program did not run, of those that have no spare."""
        return sum(
            self._info(program).recursion_misses
            for program in self.blueprint.programs
            if not program.in_pairs
        )

    def status(self) -> Iterator[model.ProgramStatus]:
        """Yield the state of each program."""
        in_force = self.names - self.severed()
        for program in self.blueprint.programs:
            info = self._info(program)
            yield model.ProgramStatus(
                name=program.name,
                hook=program.place,
                attached=program.name in in_force,
                runs=info.run_cnt,
                run_time_ns=info.run_time_ns,
            )

    def close(self) -> None:
        """Detach and free everything; may be called again."""
        # Last attached, first detached, as Descriptors does.
        self._without_links.close()
        self._held.close()
        self.names.clear()


def candidates() -> Iterator[str]:
    """Yield the sets of hooks that this kernel may have, best first."""
    sends, uses = map(attaching.has_raw_tracepoint, ("tcp_sendmsg_locked", "sock_send_length"))
    if sends and uses:
        yield "tracepoint"
    if attaching.has_kprobes():
        yield "kprobe"
    if uses and not sends:
        yield "tracepoint"
    yield "cgroup"


def room(options: Options) -> int:
    """Return how many tasks there is room for: what is preallocated is little, unless asked for."""
    if options.max_tasks == Options._field_defaults["max_tasks"]:
        return portable.TASKS
    return options.max_tasks


def draw(options: Options, owners: str, cgroup: Cgroup) -> Blueprint:
    """Decide what is to be made for these options and this set of hooks."""
    by_tracepoint = owners == "tracepoint"
    return Blueprint(
        owners=owners,
        settings=layouts.PortableSettings(
            fingerprint=layouts.FINGERPRINT,
            count_threads=options.count_threads,
            cgroup_level=cgroup.level,
            count_remotes=bool(options.remotes),
            cgroup_id=cgroup.cgroup_id,
            # What waits in a socket is of one class: with classes nothing waits that has a user.
            know_sender=by_tracepoint and not options.remotes,
            know_tcp_sender=not by_tracepoint or attaching.has_raw_tracepoint("tcp_sendmsg_locked"),
        ),
        maps=portable.maps(room(options), len(options.remotes)),
        programs=tuple(
            program
            for program in portable.programs(owners)
            if not (cgroup.level and program.whole_host)
        ),
    )


def needs_settling(meter: layouts.SocketMeter, now: int, options: Options) -> bool:
    """Tell whether the kernel has anything to do with a socket."""
    if any(meter.word) or not any(meter.user):
        return True
    if meter.ended_time_ns:
        return now - meter.ended_time_ns > GRACE_NS
    return options.count_threads


def socket_records(
    meters: Iterable[layouts.SocketMeter], *, unused: bool
) -> Iterator[model.SocketRecord]:
    """Yield those that are open and have carried packets; `unused`: others too."""
    for meter in meters:
        if not meter.known or not any(meter.user) or meter.ended_time_ns:
            continue
        if not unused and not any(meter.carried):
            continue
        yield model.SocketRecord(
            cookie=meter.cookie,
            owner=meter.user[1] or meter.user[0] or meter.user[2],
            protocol=layouts.PROTOCOLS[meter.protocol],
            local_address=decode.address(meter.local_address, meter.family),
            local_port=meter.local_port,
            remote_address=decode.address(meter.remote_address, meter.family),
            remote_port=meter.remote_port,
            network_namespace=meter.network_namespace,
            receive_packets=meter.carried[0],
            receive_bytes=meter.carried[1],
            transmit_packets=meter.carried[2],
            transmit_bytes=meter.carried[3],
        )
