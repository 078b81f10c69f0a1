# SPDX-License-Identifier: Apache-2.0
"""Events in the lives of processes and threads, as they come: an object of its own per watcher."""

from __future__ import annotations

import contextlib
import ctypes
import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import AttachError, LayoutError, LoadError, MapReadError
from exporter.kernel import decode, layouts
from exporter.kernel.libbpf import RING_CALLBACK, describe, open_library
from exporter.kernel.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from typing import Self

    from exporter.model import LifeEvent, LifeKey

RING_BYTES: Final = 1 << 20
PAGE: Final = 4096
TREE, COUNT = 1, 2
"""LIFE_TREE, LIFE_COUNT (bpf/watch.h)."""
OBJECT: Final = Path(__file__).with_name("watch.bpf.o")


class Filter(NamedTuple):
    """What a watcher wants to hear of; the kernel keeps the rest to itself."""

    events: Collection[str] = layouts.LIFE_EVENTS
    pid: int = 0
    """0: every process."""
    tree: bool = False
    """Its descendants too."""
    command: str = ""
    """The command name, whole; empty: any."""


class _Attached:
    """The object, loaded and attached, in a `with` block."""

    def __init__(self, chosen: Filter, *, count: bool) -> None:
        """Load and attach. Raises KernelError."""
        self._bpf = open_library()
        self._stack = contextlib.ExitStack()
        try:
            self._open(chosen, count=count)
            self._prepare(chosen)
            self._attach()
        except BaseException:
            self.close()
            raise

    def _prepare(self, chosen: Filter) -> None:
        """Do what must be done before the first event."""

    def close(self) -> None:
        """Detach and free everything; may be called again."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, chosen: Filter, *, count: bool) -> None:
        with self._bpf.capture() as log:
            self.handle = self._bpf.pointer(
                "bpf_object__open_file",
                str(OBJECT).encode(),
                None,
                error=lambda code: LoadError(
                    f"{OBJECT}: {describe(code)}; build it with 'make bpf'\n{log.quote()}", log.text
                ),
            )
            """libbpf's pointer to the object."""
        self._stack.callback(self._bpf.bpf_object__close, self.handle)
        self._set(chosen, count=count)
        self._bpf.bpf_map__set_max_entries(self._map("lives"), PAGE if count else RING_BYTES)
        with self._bpf.capture() as log:
            code = -self._bpf.bpf_object__load(self.handle)
        if code:
            message = f"{OBJECT}: the kernel refused it: {describe(code)}\n{log.quote()}"
            raise LoadError(message, log.text)

    def _set(self, chosen: Filter, *, count: bool) -> None:
        data = self._map(".rodata")
        size = ctypes.c_size_t()
        start = self._bpf.bpf_map__initial_value(data, ctypes.byref(size))
        said = ctypes.string_at(start, min(size.value, layouts.LIFE_FILTER.size))
        if (
            size.value != layouts.LIFE_FILTER.size
            or next(layouts.LifeFilter.unpack_all(said)).fingerprint != layouts.FINGERPRINT
        ):
            message = f"{OBJECT}: not that of layouts.py; rebuild with 'make layouts bpf'"
            raise LayoutError(message)
        settings = layouts.LIFE_FILTER.pack(
            layouts.FINGERPRINT,
            sum(1 << layouts.LIFE_EVENTS.index(event) for event in chosen.events),
            chosen.pid,
            TREE * chosen.tree | COUNT * count,
            chosen.command.encode(errors="surrogateescape"),
        )
        self._bpf.call(
            *("bpf_map__set_initial_value", data, settings, len(settings)),
            error=lambda code: LoadError(f"{OBJECT}: filter: {describe(code)}"),
        )

    def _map(self, name: str) -> int:
        return self._bpf.pointer(
            "bpf_object__find_map_by_name",
            self.handle,
            name.encode(),
            error=lambda _: LayoutError(f"map {name}: not in {OBJECT}; rebuild with 'make bpf'"),
        )

    def _table(self, name: str) -> Table:
        return Table(self._bpf, self._bpf.bpf_map__fd(self._map(name)), name)

    def _put(self, name: str, key: bytes, value: bytes) -> None:
        self._bpf.call(
            *("bpf_map_update_elem", self._bpf.bpf_map__fd(self._map(name)), key, value, 0),
            error=lambda code: AttachError(f"map {name}: {describe(code)}"),
        )

    def _attach(self) -> None:
        program = self._bpf.bpf_object__next_program(self.handle, None)
        while program:
            name = self._bpf.bpf_program__name(program).decode()
            with self._bpf.capture():
                link = self._bpf.pointer(
                    "bpf_program__attach", program, error=_attach_error(f"program {name}")
                )
            self._stack.callback(self._bpf.bpf_link__destroy, link)
            program = self._bpf.bpf_object__next_program(self.handle, program)


class Watcher(_Attached):
    """Hears of each event."""

    def __init__(self, chosen: Filter, descendants: Iterable[int] = ()) -> None:
        """Load and attach; `descendants` are those that live now. Raises KernelError."""
        self._descendants = descendants
        self._waiting: list[bytes] = []
        self._callback = RING_CALLBACK(self._on_event)  # libbpf keeps the pointer
        super().__init__(chosen, count=False)
        self._missed = self._table("missed")

    def _prepare(self, chosen: Filter) -> None:
        for pid in (chosen.pid, *self._descendants) if chosen.tree else ():
            self._put("tree", pid.to_bytes(4, "little"), b"\1")
        self._ring = self._bpf.pointer(
            "ring_buffer__new",
            self._bpf.bpf_map__fd(self._map("lives")),
            self._callback,
            None,
            None,
            error=_attach_error("map lives"),
        )
        self._stack.callback(self._bpf.ring_buffer__free, self._ring)

    def poll(self, seconds: float) -> list[LifeEvent]:
        """Wait so long for events; return those that have come. Raises MapReadError."""
        code = -self._bpf.ring_buffer__poll(self._ring, int(seconds * 1000))
        if code > 0 and code != errno.EINTR:
            message = f"map lives: waiting for events: {describe(code)}"
            raise MapReadError(message)
        found, self._waiting = self._waiting, []
        return decode.lives(b"".join(found))

    @property
    def missed(self) -> int:
        """Return how many events found no room, because nobody has read the others."""
        return int.from_bytes(self._missed.read_one(), "little")

    def _on_event(self, _context: int, data: int, size: int) -> int:
        self._waiting.append(ctypes.string_at(data, size))
        return 0


class LifeCounter(_Attached):
    """Counts events by what a process's group can be made of."""

    def __init__(self) -> None:
        """Load and attach. Raises KernelError."""
        super().__init__(Filter(), count=True)

    def _prepare(self, chosen: Filter) -> None:  # noqa: ARG002
        """Make room for those for whom there will be none."""
        self._put("counts", bytes(layouts.LIFE_KEY.size), bytes(layouts.LIFE_COUNTS.size))

    def read(self) -> Mapping[LifeKey, tuple[int, ...]]:
        """Return all counts; they only grow. Raises MapReadError."""
        return decode.life_counts(*self._table("counts").read_all())


def _attach_error(thing: str) -> Callable[[int], AttachError]:
    return lambda code: AttachError(f"{thing}: {describe(code)}")
