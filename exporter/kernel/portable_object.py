# SPDX-License-Identifier: Apache-2.0
"""The portable object through libbpf: a Blueprint becomes Descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.errors import LayoutError, LoadError, UnsupportedKernelError
from exporter.kernel import layouts, module_types
from exporter.kernel.holding import Descriptors, unexpected
from exporter.kernel.libbpf import Libbpf, describe, open_library
from exporter.kernel.types import BTF

if TYPE_CHECKING:
    from exporter.kernel.portable import Blueprint

OBJECT: Final = Path(__file__).with_name("portable.bpf.o")
REFUSED: Final = re.compile(r"prog '(\w+)': BPF program load failed")
"""What libbpf says of a program that the kernel does not take (src/libbpf.c)."""


def load(blueprint: Blueprint, path: Path = OBJECT) -> Descriptors:
    """Make and load it. Raises KernelError, with nothing left behind."""
    if not BTF.exists():
        message = (
            f"{BTF} does not exist: this kernel has no type information (BTF), which libbpf needs; "
            "boot one that is built with CONFIG_DEBUG_INFO_BTF"
        )
        raise UnsupportedKernelError(message)
    optional = {program.name for program in blueprint.programs if program.without}
    left_out: set[str] = set()
    while True:
        with contextlib.ExitStack() as stack:
            opened = _Opened(blueprint, path, stack)
            refused = opened.load(left_out)
            if not refused:
                return opened.hand_over()
            name, error = refused
            if name not in optional - left_out:
                raise error
            left_out.add(name)


class _Opened:
    """The object, opened once."""

    def __init__(self, blueprint: Blueprint, path: Path, stack: contextlib.ExitStack) -> None:
        self._bpf: Libbpf = open_library()
        self._path = path
        self._blueprint = blueprint
        with self._bpf.capture() as log:
            self._object = self._bpf.pointer(
                "bpf_object__open_file",
                str(path).encode(),
                None,
                error=lambda code: LoadError(
                    f"{path}: not a kernel object that libbpf can read: {describe(code)}; "
                    f"build it with 'make bpf'\n{log.quote()}".rstrip(),
                    log.text,
                ),
            )
        stack.callback(self._bpf.bpf_object__close, self._object)
        self._programs: dict[str, int] = {}
        program = self._bpf.bpf_object__next_program(self._object, None)
        while program:
            self._programs[self._bpf.bpf_program__name(program).decode()] = program
            program = self._bpf.bpf_object__next_program(self._object, program)
        self._set()

    def _map(self, name: str) -> int:
        return self._bpf.pointer(
            "bpf_object__find_map_by_name",
            self._object,
            name.encode(),
            error=lambda _: self._stale(f"map {name}: not in it"),
        )

    def _stale(self, what: str) -> LayoutError:
        return LayoutError(f"{self._path}: {what}; rebuild it with 'make layouts bpf'")

    def _set(self) -> None:
        """Set what is compiled in, and the sizes of the tables."""
        data, size = self._map(".rodata"), ctypes.c_size_t()
        start = self._bpf.bpf_map__initial_value(data, ctypes.byref(size))
        settings = layouts.PORTABLE_SETTINGS.pack(*self._blueprint.settings)
        # The fingerprint comes first.
        found = int.from_bytes(ctypes.string_at(start, 4), "little") if size.value >= 4 else 0
        if size.value != len(settings) or found != layouts.FINGERPRINT:
            msg = "not that of layouts.py"
            raise self._stale(msg)
        self._bpf.call(
            *("bpf_map__set_initial_value", data, settings, len(settings)),
            error=unexpected("settings"),
        )
        for name, shape in self._blueprint.maps.items():
            table = self._map(name)
            sizes = (self._bpf.bpf_map__key_size(table), self._bpf.bpf_map__value_size(table))
            if sizes != (shape.key_size, shape.value_size):
                msg = f"map {name}: sizes of key and value are {sizes}"
                raise self._stale(msg)
            self._bpf.call(
                *("bpf_map__set_max_entries", table, shape.entries),
                error=unexpected(f"size of map {name}"),
            )

    def load(self, left_out: set[str]) -> tuple[str, LoadError] | None:
        """Load all programs but these; return one that was refused, and how to say so."""
        wanted = {program.name for program in self._blueprint.programs} - left_out
        for name, program in self._programs.items():
            if name not in wanted:
                self._bpf.bpf_program__set_autoload(program, False)
        with self._bpf.capture() as log:
            code = module_types.load(self._bpf, self._object)
        if not code:
            return None
        refused = REFUSED.search(log.text)
        message = f"{self._path}: the kernel refused it: {describe(code)}\n{log.quote()}"
        return refused[1] if refused else "", LoadError(message, log.text)

    def hand_over(self) -> Descriptors:
        """Return all of it, to be closed by the caller."""
        fds = {name: self._bpf.bpf_program__fd(one) for name, one in self._programs.items()}
        return Descriptors(
            maps={
                name: os.dup(self._bpf.bpf_map__fd(self._map(name)))
                for name in self._blueprint.maps
            },
            programs={name: os.dup(fd) for name, fd in fds.items() if fd >= 0},
            links={},
        )
