# SPDX-License-Identifier: Apache-2.0
"""Events in the lives of processes and threads, as they come: an object of its own per watcher."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import MapReadError
from exporter.kernel import decode, host, layouts
from exporter.kernel.libbpf import RING_CALLBACK, describe
from exporter.kernel.own_object import OwnObject, attach_error
from exporter.kernel.types import KernelTypes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from exporter.model import LifeEvent, LifeKey

RING_BYTES: Final = 1 << 20
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
"""The least that a ring can be; not 4,096 on every arm64."""
TREE, COUNT, SPARES = 1, 2, 4
"""LIFE_* (bpf/watch.h)."""
SPARE_PROGRAMS: Final = ("watch_fork_spare", "watch_exec_spare", "watch_exit_spare")
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
    spares: bool = False
    """Attach two programs to each tracepoint even where one can't keep others out: for tests."""


class _Attached(OwnObject):
    """The object, loaded and attached, in a `with` block."""

    def __init__(self, chosen: Filter, *, count: bool) -> None:
        """Load and attach. Raises KernelError."""
        with KernelTypes() as types:
            has_spares = chosen.spares or types.has_preemptible_tracepoints()
        settings = layouts.LIFE_FILTER.pack(
            layouts.FINGERPRINT,
            sum(1 << layouts.LIFE_EVENTS.index(event) for event in chosen.events),
            chosen.pid,
            TREE * chosen.tree | COUNT * count | SPARES * has_spares,
            chosen.command.encode(errors="surrogateescape"),
        )
        host.require_capabilities("watching processes", ("CAP_PERFMON", "CAP_BPF"))
        super().__init__(
            *(OBJECT, settings, {"lives": PAGE if count else RING_BYTES}),
            left_out=() if has_spares else SPARE_PROGRAMS,
        )
        try:
            self._prepare(chosen)
            self._attach()
        except BaseException:
            self.close()
            raise

    def _prepare(self, chosen: Filter) -> None:
        """Do what must be done before the first event."""

    def _attach(self) -> None:
        for name, program in self.programs():
            with self.bpf.capture():
                link = self.bpf.pointer(
                    "bpf_program__attach", program, error=attach_error(f"program {name}")
                )
            self.stack.callback(self.bpf.bpf_link__destroy, link)


class Watcher(_Attached):
    """Hears of each event."""

    def __init__(self, chosen: Filter, descendants: Iterable[int] = ()) -> None:
        """Load and attach; `descendants` are those that live now. Raises KernelError."""
        self._descendants = descendants
        self._waiting: list[bytes] = []
        self._callback = RING_CALLBACK(self._on_event)  # libbpf keeps the pointer
        super().__init__(chosen, count=False)
        self._missed = self.table("missed")

    def _prepare(self, chosen: Filter) -> None:
        for pid in (chosen.pid, *self._descendants) if chosen.tree else ():
            self.put("tree", pid.to_bytes(4, "little"), b"\1")
        self._ring = self.bpf.pointer(
            "ring_buffer__new",
            self.fd("lives"),
            self._callback,
            None,
            None,
            error=attach_error("map lives"),
        )
        self.stack.callback(self.bpf.ring_buffer__free, self._ring)

    def poll(self, seconds: float) -> list[LifeEvent]:
        """Wait so long for events; return those that have come. Raises MapReadError."""
        code = -self.bpf.ring_buffer__poll(self._ring, int(seconds * 1000))
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
        self.put("counts", bytes(layouts.LIFE_KEY.size), bytes(layouts.LIFE_COUNTS.size))

    def read(self) -> Mapping[LifeKey, tuple[int, ...]]:
        """Return all counts; they only grow. Raises MapReadError."""
        return decode.life_counts(*self.table("counts").read_all())
