# SPDX-License-Identifier: Apache-2.0
"""An object beside the main one, for one purpose: loaded with settings of its own, never pinned."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING

from exporter.errors import AttachError, LayoutError, LoadError
from exporter.kernel import layouts, module_types
from exporter.kernel.libbpf import describe, open_library
from exporter.kernel.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping
    from pathlib import Path
    from typing import Self


class OwnObject:
    """Loaded when it is made; all of it goes with its `with` block."""

    def __init__(
        self,
        path: Path,
        settings: bytes,
        entries: Mapping[str, int],
        left_out: Container[str] = (),
    ) -> None:
        """Load it, with room for so many entries in tables by name. Raises KernelError.

        settings: all of its read-only data, a struct that begins with the fingerprint.
        left_out: programs that are not loaded.
        """
        self.path = path
        self._left_out = left_out
        self.bpf = open_library()
        self.stack = contextlib.ExitStack()
        """What is undone in the end."""
        try:
            self._open()
            self._set(settings)
            for name, room in entries.items():
                self.bpf.bpf_map__set_max_entries(self._map(name), room)
            for name, program in self._all_programs():
                if name in left_out:
                    self.bpf.bpf_program__set_autoload(program, False)
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Detach and free everything; may be called again."""
        self.stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        with self.bpf.capture() as log:
            self._handle = self.bpf.pointer(
                "bpf_object__open_file",
                str(self.path).encode(),
                None,
                error=lambda code: LoadError(
                    f"{self.path}: {describe(code)}; build it with 'make bpf'\n{log.quote()}",
                    log.text,
                ),
            )
        self.stack.callback(self.bpf.bpf_object__close, self._handle)

    def _set(self, settings: bytes) -> None:
        data = self._map(".rodata")
        size = ctypes.c_size_t()
        start = self.bpf.bpf_map__initial_value(data, ctypes.byref(size))
        # The fingerprint comes first.
        found = int.from_bytes(ctypes.string_at(start, 4), "little") if size.value >= 4 else 0
        if size.value != len(settings) or found != layouts.FINGERPRINT:
            message = f"{self.path}: not that of layouts.py; rebuild with 'make layouts bpf'"
            raise LayoutError(message)
        self.bpf.call(
            *("bpf_map__set_initial_value", data, settings, len(settings)),
            error=lambda code: LoadError(f"{self.path}: settings: {describe(code)}"),
        )

    def _load(self) -> None:
        with self.bpf.capture() as log:
            code = module_types.load(self.bpf, self._handle)
        if code:
            message = f"{self.path}: the kernel refused it: {describe(code)}\n{log.quote()}"
            raise LoadError(message, log.text)

    def _map(self, name: str) -> int:
        return self.bpf.pointer(
            "bpf_object__find_map_by_name",
            self._handle,
            name.encode(),
            error=lambda _: LayoutError(f"map {name}: not in {self.path}; rebuild with 'make bpf'"),
        )

    def fd(self, name: str) -> int:
        """Return the descriptor of a map; it is closed with the object."""
        fd: int = self.bpf.bpf_map__fd(self._map(name))
        return fd

    def table(self, name: str) -> Table:
        """Return a map to read from."""
        return Table(self.bpf, self.fd(name), name)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        """Set an entry of a map. Raises AttachError."""
        self.bpf.call(
            *("bpf_map_update_elem", self.fd(name), key, value, 0),
            error=attach_error(f"map {name}"),
        )

    def programs(self) -> Iterator[tuple[str, int]]:
        """Yield name and libbpf's pointer of each program that is loaded."""
        return (found for found in self._all_programs() if found[0] not in self._left_out)

    def _all_programs(self) -> Iterator[tuple[str, int]]:
        program = self.bpf.bpf_object__next_program(self._handle, None)
        while program:
            yield self.bpf.bpf_program__name(program).decode(), program
            program = self.bpf.bpf_object__next_program(self._handle, program)


def attach_error(thing: str) -> Callable[[int], AttachError]:
    """Return what makes the error of a step that should not fail."""
    return lambda code: AttachError(f"{thing}: {describe(code)}")
