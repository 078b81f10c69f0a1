# SPDX-License-Identifier: Apache-2.0
"""The CO-RE object on its way into the kernel: opened, set, loaded, attached, handed over."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.errors import (
    AttachError,
    LayoutError,
    LoadError,
    UnsupportedKernelError,
)
from exporter.kernel import addresses, cgroups, host, layouts, module_types, netfilter, remotes
from exporter.kernel.features import KPROBE_PMU, Answer, Probes
from exporter.kernel.holding import Descriptors, Holding, Plan, unexpected
from exporter.kernel.hooks import (
    ANSWERS,
    APART,
    EXITS,
    INSTEAD,
    MAPS,
    NETFILTER,
    ON_CALL,
    PACKETS,
    SPARES,
    STRAYS,
    TRACEPOINTS,
    TRAMPOLINES,
    WALKS,
)
from exporter.kernel.libbpf import describe, open_library, over_map
from exporter.kernel.tables import read_iterator
from exporter.kernel.trampolines import try_trampoline
from exporter.kernel.types import BTF, KernelTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Self

    from exporter.kernel.hooks import Trampoline
    from exporter.kernel.libbpf import Translate

OBJECT: Final = Path(__file__).with_name("netatop.bpf.o")
ANSWER_AND_READ: Final = 2
"""As bpf/netatop.h has it."""


LAYOUTS: Final = ("main", "portable")
"""Kernel objects: of the second, sockets are known by their cookie (portable.py)."""


class Options(NamedTuple):
    """What can be chosen before the programs are loaded."""

    cgroup_path: str | None = None
    max_tasks: int = 65536
    count_threads: bool = False
    list_sockets: bool = False
    remotes: tuple[tuple[str, int], ...] = ()
    """Prefixes, as 10.0.0.0/8 or fd00::/8, and the class (0 to 15) of each; empty: not counted."""
    trampolines: bool = False
    """Take trampolines where there are tracepoints, too: for tests."""
    spares: bool = False
    """Attach two programs to each tracepoint even where one can't keep others out: for tests."""
    walk_files: bool = False
    """Settle by way of files even where the iterator over sockets is safe: for tests."""
    lifecycle: bool = False
    """Count events in the lives of processes and threads."""
    netfilter: bool = True
    """Count what the kernel itself sends and receives, where it has netfilter links."""
    max_hosts: int = 0
    """How many IP addresses are counted, of this host and behind it; 0: none."""
    devices: tuple[str, ...] = ()
    """By name: what they lead to is behind this host."""
    max_connections: int = 0
    """Of addresses behind this host: how many are counted."""
    compat: bool = False
    """Answer the options of getsockopt(2) that the kernel module netatop had."""
    reads_exits: bool = False
    """The caller itself reads the exit list that is kept for these options (exit_list.py)."""
    pin_path: str | None = None
    """A directory of a bpf file system: everything stays there, for the next to take over."""
    object_path: Path = OBJECT
    layout: str = ""
    """One of LAYOUTS; empty: the first that this kernel takes. A test names one."""
    owners: str = ""
    """Of the portable object: the set of hooks (portable.OWNERS); empty: the best that works."""


class CoreObject:
    """The object, in a `with` block; what it has attached outlives it only if it is handed over."""

    def __init__(self, options: Options) -> None:
        """Open it and decide how it is to run here; nothing is loaded yet. Raises KernelError."""
        host.require_capabilities("loading kernel programs")
        self._bpf = open_library()
        self._options = options
        self._programs: dict[str, int] = {}
        """Pointers of libbpf."""
        self._links: dict[str, int] = {}
        """Descriptors."""
        self._stack = contextlib.ExitStack()
        self._cgroup = cgroups.open_cgroup(options.cgroup_path)
        self._stack.callback(self._cgroup.close)
        try:
            self._object = self._open()
            self._check_sizes()
            self.plan = self._make_plan()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free everything, and with it what was loaded and attached but not handed over."""
        for fd in reversed(self._links.values()):
            os.close(fd)
        self._links.clear()
        self._stack.close()

    # Opening and loading

    def _open(self) -> int:
        path = str(self._options.object_path)
        if not BTF.exists():
            message = (
                f"{BTF} does not exist: this kernel has no type information (BTF), which the "
                "loader needs; boot one that is built with CONFIG_DEBUG_INFO_BTF"
            )
            raise UnsupportedKernelError(message)
        with self._bpf.capture() as log:
            opened = self._bpf.pointer(
                "bpf_object__open_file",
                path.encode(),
                None,
                error=lambda code: LoadError(
                    f"{path}: not a kernel object that libbpf can read: {describe(code)}; "
                    f"build it with 'make bpf'\n{log.quote()}".rstrip(),
                    log.text,
                ),
            )
        self._stack.callback(self._bpf.bpf_object__close, opened)
        program = self._bpf.bpf_object__next_program(opened, None)
        while program:
            self._programs[self._bpf.bpf_program__name(program).decode()] = program
            program = self._bpf.bpf_object__next_program(opened, program)
        return opened

    def _map(self, name: str) -> int:
        return self._bpf.pointer(
            "bpf_object__find_map_by_name",
            self._object,
            name.encode(),
            error=lambda _: LayoutError(
                f"map {name}: not in the object; rebuild it with 'make bpf'"
            ),
        )

    def _settings_map(self) -> int:
        """Return the map of read-only data, which is one struct settings."""
        data = self._map(".rodata")
        size = ctypes.c_size_t()
        start = self._bpf.bpf_map__initial_value(data, ctypes.byref(size))
        expected = layouts.SETTINGS.size
        if not start or size.value != expected:
            message = (
                f"settings: {size.value} bytes in the object, {expected} in layouts.py; "
                "rebuild with 'make layouts bpf'"
            )
            raise LayoutError(message)
        found = next(layouts.Settings.unpack_all(ctypes.string_at(start, expected))).fingerprint
        if found != layouts.FINGERPRINT:
            message = (
                f"layouts: fingerprint {found:08X} in the object, {layouts.FINGERPRINT:08X} in "
                "layouts.py; rebuild with 'make layouts bpf'"
            )
            raise LayoutError(message)
        return data

    def _check_sizes(self) -> None:
        self._settings_map()
        for name, expected in (
            ("tasks", layouts.TASK.size),
            ("unidentified", layouts.COUNTERS.size),
        ):
            found = self._bpf.bpf_map__value_size(self._map(name))
            if found != expected:
                message = (
                    f"map {name}: value is {found} bytes in the object, {expected} in layouts.py; "
                    "rebuild with 'make layouts bpf'"
                )
                raise LayoutError(message)

    # Deciding

    def _make_plan(self) -> Plan:
        """Find out what this kernel has, and take the way to all sockets that is safe on it."""
        options, cgroup = self._options, self._cgroup
        with KernelTypes() as types:
            walk = WALKS[options.walk_files or not types.has_safe_walk()]
            absent = {
                hook.program
                for hook in TRACEPOINTS
                if hook.without
                and (
                    not types.has_tracepoint(hook.tracepoint)
                    or (options.trampolines and hook.program in INSTEAD)
                )
            }
            taken = self._trampolines(types, absent)
            has_netfilter = types.has_netfilter_links()
            has_spares = options.spares or types.has_preemptible_tracepoints()
        missing = absent - {one.instead_of for one in taken}
        self._check_owners(missing)
        left_out = {*absent, *WALKS, *(one.program for one in TRAMPOLINES)}
        left_out -= {walk, *(one.program for one in taken)}
        left_out |= {two for one, two in SPARES.items() if one in absent or not has_spares}
        if cgroup.level:
            left_out |= {hook.program for hook in TRACEPOINTS if hook.whole_host}
        if cgroup.level or not options.netfilter or not has_netfilter:
            left_out |= set(NETFILTER)
        if not options.pin_path:
            left_out |= set(ON_CALL)
        answers = options.compat and Probes().answers().answer is not Answer.NOT_THERE
        if not answers:
            left_out.add(ANSWERS)
        if options.compat and not answers:
            missing.add(ANSWERS)
        return Plan(
            settings=layouts.SETTINGS.pack(
                layouts.FINGERPRINT,
                options.count_threads,
                options.list_sockets,
                cgroup.level,
                cgroup.cgroup_id,
                walk == "walk_socket_files",
                "own_tcp_sender" not in missing,
                bool(options.remotes),
                has_spares,
                remotes.digest(options.remotes),
                ANSWER_AND_READ if answers and options.reads_exits else answers,
                "own_sender" not in missing,
                options.max_hosts,
            ),
            max_tasks=options.max_tasks,
            hooks={
                name: self._bpf.bpf_program__section_name(program).decode()
                for name, program in self._programs.items()
            },
            walk=walk,
            missing=tuple(sorted(missing)),
            left_out=frozenset(left_out),
        )

    def _check_owners(self, missing: Container[str]) -> None:
        """Leave it to kprobes to tell users of sockets, where nothing else does.

        Raises UnsupportedKernelError. Not where something was asked for that only this object has.
        """
        options = self._options
        asked = options.pin_path or options.max_hosts or options.devices or options.compat
        can_tell = "own_sender" not in missing or not KPROBE_PMU.exists()
        if not can_tell and not asked and options.layout != "main":
            message = (
                f"users of sockets: this kernel, {host.kernel_release()}, has neither tracepoints "
                "(Linux 6.3) nor trampolines that tell them, but kprobes, which the main kernel "
                "object does not have"
            )
            raise UnsupportedKernelError(message)

    @staticmethod
    def _trampolines(types: KernelTypes, absent: Container[str]) -> list[Trampoline]:
        """Return what takes the place of absent tracepoints; nothing if the kernel refuses them."""
        wanted = [
            one
            for one in TRAMPOLINES
            if one.instead_of in absent and types.function(one.function) > 0
        ]
        return wanted if wanted and try_trampoline(types) >= 0 else []

    # Loading

    def _apply(self) -> None:
        """Set what is compiled in: the verifier then removes what is switched off."""
        self._bpf.call(
            "bpf_map__set_initial_value",
            self._settings_map(),
            self.plan.settings,
            len(self.plan.settings),
            error=unexpected("settings"),
        )
        self._size("tasks", self.plan.max_tasks)
        self._size("remote_prefixes", len(self._options.remotes) + 1)
        self._size("living", self.plan.max_tasks if self._options.compat else 1)
        self._size("hosts", addresses.room(self._options.max_hosts))
        self._size("exits", EXITS if self._options.compat else 1)
        for program in NETFILTER:  # libbpf knows the type by its section since 1.3
            self._bpf.bpf_program__set_type(self._programs[program], netfilter.PROGRAM_TYPE)
            self._bpf.bpf_program__set_expected_attach_type(
                self._programs[program], netfilter.ATTACH_TYPE
            )
        for program in self.plan.left_out:
            self._bpf.bpf_program__set_autoload(self._programs[program], False)

    def _size(self, name: str, entries: int) -> None:
        self._bpf.call(
            "bpf_map__set_max_entries",
            self._map(name),
            entries,
            error=unexpected(f"size of map {name}"),
        )

    def load(self, adopted: int = 1) -> None:
        """Have the kernel verify and load it; with room for so many records of another version.

        Raises LoadError, or UnsupportedKernelError if the kernel is too old for it.
        """
        self._apply()
        self._size("adopted", adopted)
        with self._bpf.capture() as log:
            code = module_types.load(self._bpf, self._object)
        if code:
            self._check_kernel()
            path, reason = self._options.object_path, describe(code)
            message = f"{path}: the kernel refused it: {reason}\n{log.quote()}"
            raise LoadError(message, log.text)
        self._fill_remotes()
        self._put("hosts", *addresses.rest())

    @staticmethod
    def _check_kernel() -> None:
        """Name what a kernel that has refused the object lacks.

        Raises LockdownError or UnsupportedKernelError.
        """
        with KernelTypes() as types:
            if not types.has_casts():
                host.require_no_lockdown("loading kernel programs")
        atomics = Probes().atomics()
        if atomics.answer is Answer.NOT_THERE:
            message = (
                f"{atomics.name}: this kernel, {host.kernel_release()}, refuses those that return "
                "the old value, which the main kernel object needs"
            )
            raise UnsupportedKernelError(message)

    def _fill_remotes(self) -> None:
        for key, value in remotes.entries(self._options.remotes):
            self._put("remote_prefixes", key, value)

    def _put(self, name: str, key: bytes, value: bytes) -> None:
        table = self._bpf.bpf_map__fd(self._map(name))
        self._bpf.call(
            *("bpf_map_update_elem", table, key, value, 0), error=unexpected(f"map {name}")
        )

    # Attaching

    def attach_owners(self) -> None:
        """Learn who uses which socket, from now on and until now, before a packet is counted."""
        for name, program in self._programs.items():
            if self._bpf.bpf_program__fd(program) >= 0 and name not in APART:
                self.attach(name)
        self._attach_iterators()
        read_iterator(self._bpf, self._links["walk_files"], "walk_files")

    def attach_strays(self) -> None:
        """Count what no socket wanted."""
        for name in STRAYS:
            if name not in self.plan.left_out:
                self.attach(name)

    def attach(self, name: str) -> None:
        """Attach one program to its hook. Raises AttachError."""
        hook = self.plan.hooks[name]
        place = f" of cgroup {self._cgroup.path}" if hook.startswith("cgroup") else ""
        program = self._programs[name]
        with self._bpf.capture():
            self._keep(
                name,
                "bpf_program__attach_cgroup" if place else "bpf_program__attach",
                *((program, self._cgroup.fd) if place else (program,)),
                error=_attach_error(f"program {name}: hook {hook}{place}"),
            )

    def _attach_iterators(self) -> None:
        options = over_map(self._bpf.bpf_map__fd(self._map("meters")))
        target = ctypes.byref(options) if self.plan.walk == "walk_sockets" else None
        for name, argument in ((self.plan.walk, target), ("walk_files", None)):
            self._keep(
                name,
                "bpf_program__attach_iter",
                self._programs[name],
                argument,
                error=_attach_error(f"iterator {name}"),
            )

    def _keep(self, name: str, function: str, *arguments: Any, error: Translate) -> None:
        """Call what returns a link, and keep that by its descriptor alone."""
        link = self._bpf.pointer(function, *arguments, error=error)
        self._links[name] = os.dup(self._bpf.bpf_link__fd(link))
        self._bpf.bpf_link__destroy(link)

    @property
    def cgroup_fd(self) -> int:
        """Return the descriptor of the cgroup that is counted; it stays this object's."""
        return self._cgroup.fd

    def hand_over(self) -> Descriptors:
        """Return all of it, to be closed by the caller."""
        links, self._links = self._links, {}
        programs = {
            name: self._bpf.bpf_program__fd(program) for name, program in self._programs.items()
        }
        return Descriptors(
            maps={name: os.dup(self._bpf.bpf_map__fd(self._map(name))) for name in MAPS},
            programs={name: os.dup(fd) for name, fd in programs.items() if fd >= 0},
            links=links,
        )


def load(options: Options) -> Holding:
    """Load and attach everything. Raises KernelError, with nothing left behind."""
    with CoreObject(options) as loading:
        loading.load()
        loading.attach_owners()
        loading.attach_strays()
        for name in PACKETS:
            loading.attach(name)
        return Holding(loading.plan, loading.hand_over())


def _attach_error(thing: str) -> Callable[[int], AttachError]:
    return lambda code: AttachError(f"{thing}: {describe(code)}")
