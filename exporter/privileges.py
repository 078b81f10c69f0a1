# SPDX-License-Identifier: Apache-2.0
"""What each feature takes (docs/privileges.md): to begin, while it runs, and what is lost without.

What is loaded and attached stays open; to go on with it takes much less. So `serve` loads in a
thread of its own. The main thread gives up, before it starts any other, what is not needed from
then on, and the thread that has loaded ends: with it goes the rest.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from exporter.kernel import capabilities, features
from exporter.kernel.capabilities import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exporter.kernel.core_object import Options

T = TypeVar("T")
log = logging.getLogger(__name__)

STANDS_IN: Final = {Capability.CAP_BPF: Capability.CAP_SYS_ADMIN}
"""Also does what the first one was split off for (capabilities(7)); CAP_PERFMON is never kept."""


class Need(NamedTuple):
    """A feature that is on."""

    feature: str
    capability: Capability
    """What it takes beside the three that everything takes."""
    loss: str
    """What there is not without."""
    from_start: bool = True
    """Not only while it runs: whoever starts may lack it."""


def needs(options: Options, places: Iterable[str] = ()) -> Iterator[Need]:
    """Yield what is needed while the exporter runs; places: where files are made and removed."""
    kernel = features.Running.here()
    if kernel.has_netfilter and options.netfilter and not options.cgroup_path:
        yield Need(
            "other network namespaces",
            Capability.CAP_SYS_ADMIN,
            "the kernel's own packets there are not counted",
        )
    yield Need(
        "other users' processes",
        Capability.CAP_SYS_PTRACE,
        "their executables, and their network namespaces without a name, are not seen",
    )
    yield Need(
        "cgroups by id, closed directories",
        Capability.CAP_DAC_READ_SEARCH,
        "a cgroup is known 5 s late, and not if it is gone by then",
    )
    for place in places:
        if not _can_write(place):
            yield Need(
                "directory of another user",
                Capability.CAP_DAC_OVERRIDE,
                f"files in {place} can't be made or removed",
            )
    yield from _ours(options, kernel)


def _ours(options: Options, kernel: features.Running) -> Iterator[Need]:
    """Yield those of what everything takes at the start that stay."""
    for is_on, feature, capability, loss in (
        (
            options.devices and not kernel.has_tcx,
            "devices that come later",
            Capability.CAP_NET_ADMIN,
            "what they lead to is not counted",
        ),
        (
            options.reads_exits,
            "exit_log for atop",
            Capability.CAP_NET_ADMIN,
            "the exit list can't be read",
        ),
        (
            options.pin_path,
            "memory beside the pins",
            Capability.CAP_BPF,
            "the exit list and totals of groups start anew",
        ),
        (
            kernel.tables_take_bpf,
            "open tables on this kernel",
            Capability.CAP_BPF,
            "nothing can be read",
        ),
    ):
        if is_on:
            yield Need(feature, capability, loss, from_start=False)


def _can_write(place: str) -> bool:
    """Tell whether it takes no CAP_DAC_OVERRIDE; a directory that is not there we will make."""
    return not Path(place).exists() or capabilities.try_without(
        (Capability.CAP_DAC_OVERRIDE,), functools.partial(capabilities.can_write, place)
    )


def load(make: Callable[[], T], needed: Iterable[Need] | None) -> Loading[T]:
    """Begin to make something with all capabilities; the caller keeps what is needed.

    None: he keeps all. To be called while there is no other thread.
    """
    wanted = None if needed is None else tuple(needed)  # found out with all capabilities
    loading = Loading(make)
    if wanted is None:
        capabilities.never_more()
        loading.notes.append("capabilities: all were kept (--capabilities.keep)")
    else:
        loading.notes += _keep(wanted)
    return loading


class Loading(Generic[T]):
    """A thread that makes one thing and ends."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "load")
        self._made = self._worker.submit(make)
        self.notes: list[str] = []
        """For the log, when it is made: if it can't be, there is only one thing to say."""

    def result(self) -> T:
        """Wait until it is made and the thread has ended. Raises what making it has raised."""
        self._worker.shutdown()
        made = self._made.result()
        for note in self.notes:
            log.info("%s", note)
        return made


def _keep(needed: Iterable[Need]) -> Iterator[str]:
    """Give up the rest; yield what there is to say of it."""
    had = capabilities.effective()
    kept: dict[Capability, list[str]] = {}
    for need in needed:
        stand_in = STANDS_IN.get(need.capability, need.capability)
        capability = need.capability if need.capability in had else stand_in
        if capability in had:
            kept.setdefault(capability, []).append(need.feature)
        else:
            yield f"{need.feature}: {need.capability.name} missing; {need.loss}"
    capabilities.give_up(kept)
    told = (f"{capability.name} ({', '.join(kept[capability])})" for capability in sorted(kept))
    yield f"capabilities kept: {'; '.join(told) or 'none'}"
