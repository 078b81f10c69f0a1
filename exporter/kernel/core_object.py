# SPDX-License-Identifier: Apache-2.0
"""The CO-RE object in the kernel: opened, set, loaded, attached; closed with one call."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import (
    AttachError,
    LayoutError,
    LoadError,
    MapReadError,
    MissingCapabilityError,
    UnsupportedKernelError,
)
from exporter.kernel import cgroups, host, layouts, netfilter
from exporter.kernel.hooks import ITERATORS, NETFILTER, PACKETS, TRACEPOINTS, WALKS
from exporter.kernel.libbpf import IterMap, IterOptions, ProgramInfo, describe, open_library
from exporter.kernel.namespaces import NamespaceLinks
from exporter.kernel.tables import Table, read_iterator
from exporter.kernel.types import BTF, KernelTypes

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.kernel.hooks import Hook

OBJECT: Final = Path(__file__).with_name("netatop.bpf.o")


class Options(NamedTuple):
    """What can be chosen before the programs are loaded."""

    cgroup_path: str | None = None
    max_tasks: int = 65536
    count_threads: bool = False
    list_sockets: bool = False
    walk_files: bool = False
    """Settle by way of files even where the iterator over sockets is safe: for tests."""
    netfilter: bool = True
    """Count what the kernel itself sends and receives, where it has netfilter links."""
    object_path: Path = OBJECT


class CoreObject:
    """Maps, programs and links of the object, by name."""

    def __init__(self, options: Options) -> None:
        missing = host.missing_capabilities()
        if missing:
            message = (
                f"loading kernel programs: {', '.join(missing)} missing; run as root, or with "
                f"the capabilities {', '.join(host.CAPABILITIES)}"
            )
            raise MissingCapabilityError(message)
        self._bpf = open_library()
        self._options = options
        self.links: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self.missing: list[Hook] = []
        """Optional hooks that this kernel does not have."""
        self.walk = WALKS[0]
        """The iterator that settles all sockets."""
        self.namespaces = NamespaceLinks(self._attach_netfilter)
        """The netfilter links; without any where they are not wanted, or the kernel lacks them."""
        self._stack = contextlib.ExitStack()
        self._cgroup = cgroups.open_cgroup(options.cgroup_path)
        self._stack.callback(self._cgroup.close)
        try:
            self._object = self._open()
            self._load()
            self._attach()
        except BaseException:
            self.close()
            raise

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
            self.programs[self._bpf.bpf_program__name(program).decode()] = program
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

    def _settings(self) -> int:
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

    def _set(self) -> None:
        """Set what is compiled in: the verifier then removes what is switched off."""
        options, cgroup = self._options, self._cgroup
        data = layouts.SETTINGS.pack(
            layouts.FINGERPRINT,
            options.count_threads,
            options.list_sockets,
            cgroup.level,
            cgroup.cgroup_id,
            self.walk == "walk_socket_files",
            all(hook.program != "own_tcp_sender" for hook in self.missing),
        )
        self._bpf.call(
            "bpf_map__set_initial_value",
            self._settings(),
            data,
            len(data),
            error=_unexpected("settings"),
        )
        self._bpf.call(
            "bpf_map__set_max_entries",
            self._map("tasks"),
            options.max_tasks,
            error=_unexpected("size of map tasks"),
        )

    def _choose(self) -> None:
        """Leave out what this kernel does not have, and the walk that is not taken."""
        with KernelTypes() as types:
            self.walk = WALKS[self._options.walk_files or not types.has_safe_walk()]
            left_out = [walk for walk in WALKS if walk != self.walk]
            wanted = self._options.netfilter and not self._cgroup.level
            if not (wanted and types.has_netfilter_links()):
                left_out += NETFILTER
            for hook in TRACEPOINTS:
                if hook.without and not types.has_tracepoint(hook.tracepoint):
                    self.missing.append(hook)
                if hook in self.missing or (hook.whole_host and self._cgroup.level):
                    left_out.append(hook.program)
        for program in NETFILTER:  # libbpf knows the type by its section since 1.3
            self._bpf.bpf_program__set_type(self.programs[program], netfilter.PROGRAM_TYPE)
            self._bpf.bpf_program__set_expected_attach_type(
                self.programs[program], netfilter.ATTACH_TYPE
            )
        for program in left_out:
            self._bpf.bpf_program__set_autoload(self.programs[program], False)

    def _load(self) -> None:
        self._check_sizes()
        self._choose()
        self._set()
        with self._bpf.capture() as log:
            code = -self._bpf.bpf_object__load(self._object)
        if code:
            path, reason = self._options.object_path, describe(code)
            message = f"{path}: the kernel refused it: {reason}\n{log.quote()}"
            raise LoadError(message, log.text)

    # Attaching

    def _attach(self) -> None:
        for name, program in self.programs.items():
            loaded = self._bpf.bpf_program__fd(program) >= 0
            if loaded and name not in (*ITERATORS, *PACKETS, *NETFILTER):
                self._attach_program(name)
        self._attach_iterators()
        self.run("walk_files")
        for name in PACKETS:
            self._attach_program(name)
        self._stack.callback(self.namespaces.close)
        self.tend()

    def _attach_program(self, name: str) -> None:
        program = self.programs[name]
        hook = self.hook(name)
        place = f" of cgroup {self._cgroup.path}" if hook.startswith("cgroup") else ""
        with self._bpf.capture():
            link = self._bpf.pointer(
                "bpf_program__attach_cgroup" if place else "bpf_program__attach",
                *((program, self._cgroup.fd) if place else (program,)),
                error=_attach_error(f"program {name}: hook {hook}{place}"),
            )
        self._keep(name, link)

    def _attach_netfilter(self) -> list[int]:
        """Attach in the calling thread's namespace."""
        return netfilter.attach(
            {name: self._bpf.bpf_program__fd(self.programs[name]) for name in NETFILTER}
        )

    def tend(self) -> None:
        """Attach in network namespaces that are new, and let go of those that nobody uses."""
        if self._bpf.bpf_program__fd(self.programs[NETFILTER[0]]) >= 0:
            self.namespaces.tend()

    def _keep(self, name: str, link: int) -> None:
        self.links[name] = link
        self._stack.callback(self._bpf.bpf_link__destroy, link)

    def _attach_iterators(self) -> None:
        meters = IterMap(map_fd=self._bpf.bpf_map__fd(self._map("meters")))
        options = IterOptions(
            sz=ctypes.sizeof(IterOptions),
            link_info=ctypes.cast(ctypes.byref(meters), ctypes.c_void_p),
            link_info_len=ctypes.sizeof(meters),
        )
        target = ctypes.byref(options) if self.walk == "walk_sockets" else None
        for name, argument in ((self.walk, target), ("walk_files", None)):
            link = self._bpf.pointer(
                "bpf_program__attach_iter",
                self.programs[name],
                argument,
                error=_attach_error(f"iterator {name}"),
            )
            self._keep(name, link)

    # What the tracer reads

    @property
    def attached(self) -> set[str]:
        """Return the names of programs that are attached."""
        return {*self.links, *(NETFILTER if self.namespaces.count else ())}

    def table(self, name: str) -> Table:
        """Return a map to read from."""
        return Table(self._bpf, self._map(name))

    def run(self, iterator: str) -> bytes:
        """Run an attached iterator and return what it wrote. Raises MapReadError."""
        link: int = self._bpf.bpf_link__fd(self.links[iterator])
        return read_iterator(self._bpf, link, iterator)

    def hook(self, program: str) -> str:
        """Return the section of a program, which names its hook."""
        section: bytes = self._bpf.bpf_program__section_name(self.programs[program])
        return section.decode()

    def info(self, program: str) -> ProgramInfo:
        """Return the kernel's statistics of a loaded program. Raises MapReadError."""
        info = ProgramInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        self._bpf.call(
            "bpf_obj_get_info_by_fd",
            self._bpf.bpf_program__fd(self.programs[program]),
            ctypes.byref(info),
            ctypes.byref(size),
            error=lambda code: MapReadError(f"program {program}: {describe(code)}"),
        )
        return info

    def close(self) -> None:
        """Detach and free everything; may be called again."""
        self.links.clear()
        self.programs.clear()
        # Last attached, first detached: what the packet programs still count finds its owner.
        self._stack.close()


def _unexpected(thing: str) -> Callable[[int], LoadError]:
    return lambda code: LoadError(f"{thing}: {describe(code)}")


def _attach_error(thing: str) -> Callable[[int], AttachError]:
    return lambda code: AttachError(f"{thing}: {describe(code)}")
