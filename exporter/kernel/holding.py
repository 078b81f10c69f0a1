# SPDX-License-Identifier: Apache-2.0
"""What is in the kernel, by descriptor: tables, programs, links; just loaded or found pinned."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, NamedTuple

from exporter.errors import LoadError, MapReadError
from exporter.kernel import layouts, links, netfilter
from exporter.kernel.hooks import NETFILTER
from exporter.kernel.libbpf import ProgramInfo, describe, open_library
from exporter.kernel.namespaces import NamespaceLinks
from exporter.kernel.tables import Table, read_iterator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Descriptors(NamedTuple):
    """Open descriptors by name; whoever has them closes them."""

    maps: dict[str, int]
    programs: dict[str, int]
    """Those that are loaded."""
    links: dict[str, int]
    """By the name of the program; of netfilter's many only those that are pinned."""

    def close(self) -> None:
        """Close all of them; may be called again."""
        # Last attached, first detached: what the packet programs still count finds its owner.
        for kind in reversed(self):
            for fd in reversed(kind.values()):
                os.close(fd)
            kind.clear()


class Plan(NamedTuple):
    """How the programs are set up on this host: what two runs must agree in to share them."""

    settings: bytes
    """struct settings."""
    max_tasks: int
    hooks: Mapping[str, str]
    """The section of every program, which names its hook."""
    walk: str
    """The iterator that settles all sockets."""
    missing: tuple[str, ...]
    """Optional programs that this kernel has no hook for."""
    left_out: frozenset[str]
    """Programs that are not loaded."""

    def read_settings(self) -> layouts.Settings:
        """Return what the programs were told."""
        (said,) = layouts.Settings.unpack_all(self.settings)
        return said


class Holding:
    """Owns the descriptors: closes them in the end, and with the last one of it a thing is gone."""

    def __init__(self, plan: Plan, held: Descriptors) -> None:
        self.plan = plan
        self.held = held
        self._watch = links.Watch(held.links)
        self.namespaces = NamespaceLinks(self._attach_netfilter)
        """The netfilter links; none where they are not wanted, or the kernel lacks them."""

    @property
    def attached(self) -> set[str]:
        """Return the names of the programs that are attached."""
        return {*self.held.links, *(NETFILTER if self.namespaces.count else ())}

    def in_force(self) -> set[str]:
        """Return those of them that nobody else has detached meanwhile."""
        return self.attached - self._watch.severed()

    def table(self, name: str) -> Table:
        """Return a map to read from."""
        return Table(open_library(), self.held.maps[name], name)

    def run(self, iterator: str) -> bytes:
        """Run an attached iterator and return what it wrote. Raises MapReadError."""
        return read_iterator(open_library(), self.held.links[iterator], iterator)

    def settle(self) -> bytes:
        """Run the iterator that settles all sockets."""
        return self.run(self.plan.walk)

    def info(self, program: str) -> ProgramInfo:
        """Return the kernel's statistics of a loaded program. Raises MapReadError."""
        return program_info(self.held.programs[program], program)

    def tend(self) -> None:
        """Attach in network namespaces that are new, and let go of those that nobody uses.

        What somebody else has detached is said in the log.
        """
        self._watch.severed()
        if NETFILTER[0] in self.held.programs:
            self.namespaces.tend()

    def _attach_netfilter(self) -> list[int]:
        """Attach in the calling thread's namespace."""
        return netfilter.attach({name: self.held.programs[name] for name in NETFILTER})

    def close(self) -> None:
        """Close everything; may be called again."""
        self.namespaces.close()
        self.held.close()


def program_info(fd: int, name: str) -> ProgramInfo:
    """Return the kernel's statistics of a program. Raises MapReadError."""
    info = ProgramInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    open_library().call(
        *("bpf_obj_get_info_by_fd", fd, ctypes.byref(info), ctypes.byref(size)),
        error=lambda code: MapReadError(f"program {name}: {describe(code)}"),
    )
    return info


def unexpected(thing: str) -> Callable[[int], LoadError]:
    """Return what makes the error of a step that should not fail."""
    return lambda code: LoadError(f"{thing}: {describe(code)}")
