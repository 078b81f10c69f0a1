# SPDX-License-Identifier: Apache-2.0
"""A place to measure in: two namespaces and a cable, a cgroup, a tracer and its witnesses.

The tracer counts the whole host, where other programs may be at work, in buffers of many packets.
What the processes of the lab do is told apart by their cgroup. Unidentified packets have none, so a
witness in the initial namespace tells how many of them came from there.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import functools
import itertools
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from exporter import model
from exporter.kernel import bcc_loader, cgroups, namespaces
from exporter.kernel.choice import open_tracer
from exporter.kernel.core_loader import CoreTracer, Options
from exporter.kernel.portable_tracer import PortableTracer
from exporter.kernel.succession import HOSTS
from tests import needs
from tests.network import HOST, Cable, cable
from tests.witness import EVERYTHING, STRAYS, UNSEEN, witness
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exporter.kernel.tracer import Tracer
    from exporter.model import Counters, Snapshot, TaskRecord
    from tests.network import End, Namespace
    from tests.witness import Witness

NAMES = itertools.count(1)
PAUSE: Final = 0.01
LOCK: Final = Path(tempfile.gettempdir(), "netatop-lab.lock")


def total(counters: Iterable[Counters]) -> Counters:
    """Add up."""
    return functools.reduce(model.add, counters, model.ZERO)


def readable(counters: Counters, *protocols: str) -> dict[str, tuple[int, int]]:
    """Return packets and bytes by protocol and direction, without zeros; of all protocols or some.

    So a comparison that fails says which number differs.
    """
    pairs = zip(counters[::2], counters[1::2], strict=True)
    named = zip(itertools.product(model.PROTOCOLS, model.DIRECTIONS), pairs, strict=True)
    return {
        f"{protocol} {direction}": pair
        for (protocol, direction), pair in named
        if any(pair) and protocol in (protocols or model.PROTOCOLS)
    }


class Reading(NamedTuple):
    """What both sides said at one instant."""

    snapshot: Snapshot
    seen: Mapping[Namespace, Counters]


class Difference(NamedTuple):
    """What has passed since a reading."""

    processes: Mapping[int, Counters]
    """Of the lab, by pid."""
    records: Mapping[int, TaskRecord]
    """The same processes, as they are now."""
    unidentified: Mapping[str, Counters]
    lost: Mapping[tuple[str, str], int]
    """Without zeros."""
    seen: Mapping[Namespace, Counters]

    @property
    def nobodys(self) -> Counters:
        """Return what was unidentified in the lab, whatever the reason."""
        return model.subtract(total(self.unidentified.values()), self.seen[HOST])

    def assert_law(self, *protocols: str) -> None:
        """Hold the law of conservation: nothing is missing, nothing is counted twice."""
        counted = total([*self.processes.values(), *self.unidentified.values()])
        assert readable(counted, *protocols) == readable(total(self.seen.values()), *protocols)

    def assert_carried(self, process: Process, end: End, protocol: str) -> None:
        """Hold that a process carried all of its namespace's traffic of a protocol."""
        seen = self.seen[end.namespace]
        assert readable(self.processes[process.pid], protocol) == readable(seen, protocol)


class Lab:
    """The place."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        ends: Cable,
        witnesses: Mapping[Namespace, Witness],
        cgroup: Path,
    ) -> None:
        self._stack = stack
        self._witnesses = witnesses
        self.tracer: Tracer
        self.left, self.right = ends
        self.cgroup = cgroup

    def twin(self, tracer: Tracer) -> Lab:
        """Return the same lab with another tracer."""
        twin = copy.copy(self)
        twin.tracer = tracer
        return twin

    def trace(self, options: Options | None = None) -> None:
        """Load and attach the programs."""
        chosen = needs.chosen(options or Options())
        if needs.PLACES == "headers":
            load = functools.partial(bcc_loader.load, use_types=False)
            tracer = self._stack.enter_context(PortableTracer(chosen, load, needs.LOADER))
        else:
            tracer = self._stack.enter_context(open_tracer(chosen, needs.LOADER))
        self.tracer = tracer
        if not isinstance(tracer, CoreTracer):
            return
        # What the kernel itself does in the initial namespace, it does for others.
        if tracer._held.namespaces.count:
            tracer._held.namespaces._let_go(namespaces.own())
        if tracer._pins:
            for pinned in (tracer._pins.current.path / "links").iterdir():
                if pinned.name.startswith(HOSTS):
                    pinned.unlink()

    def start(self, function: Callable[..., None], *arguments: Any, at: End) -> Process:
        """Start a process at one end of the cable."""
        started = Process(function, *arguments, namespace=at.namespace, cgroup=self.cgroup)
        return self._stack.enter_context(started)

    def _seen(self) -> dict[Namespace, Counters]:
        return {namespace: witness.read() for namespace, witness in self._witnesses.items()}

    def read(self) -> Reading:
        """Read both sides at rest.

        The two can't be read at one instant. So the witnesses are read before and after the
        tracer, and all again as long as they moved meanwhile: a reading that counts is one during
        which nothing passed.
        """
        deadline = time.monotonic() + PATIENCE
        before = self._seen()
        while True:
            self.tracer.settle()
            snapshot = self.tracer.read()
            after = self._seen()
            if before == after:
                return Reading(snapshot, after)
            if time.monotonic() > deadline:
                pytest.fail(f"the lab does not come to rest within {PATIENCE:.0f} s")
            time.sleep(PAUSE)
            before = self._seen()

    def since(self, start: Reading) -> Difference:
        """Read again and return what has passed."""
        end = self.read()
        mine = self.cgroup.stat().st_ino
        old = {record.identity: record.counters for record in start.snapshot.tasks}
        new = {
            record.pid: record
            for record in end.snapshot.tasks
            if record.is_process and record.cgroup_id == mine
        }
        return Difference(
            processes={
                pid: model.subtract(record.counters, old.get(record.identity, model.ZERO))
                for pid, record in new.items()
            },
            records=new,
            unidentified={
                reason: model.subtract(counters, start.snapshot.unidentified[reason])
                for reason, counters in end.snapshot.unidentified.items()
            },
            lost={
                what: count - start.snapshot.lost[what]
                for what, count in end.snapshot.lost.items()
                if count > start.snapshot.lost[what]
            },
            seen={
                where: model.subtract(seen, start.seen[where]) for where, seen in end.seen.items()
            },
        )


def cgroup_root() -> Path:
    """Return where the version 2 hierarchy is mounted."""
    for mount in cgroups.mounts(cgroups.MOUNTINFO):
        if mount.kind == "cgroup2" and mount.root == "/":
            return Path(mount.point)
    pytest.fail("no version 2 cgroup hierarchy is mounted: mount -t cgroup2 none /mnt")


@contextlib.contextmanager
def cgroup() -> Iterator[Path]:
    """Make a cgroup; its processes must have ended when the block does."""
    made = cgroup_root() / f"netatop-{os.getpid()}-{next(NAMES)}"
    made.mkdir()
    try:
        yield made
    finally:
        _end_all(made)
        events = made / "cgroup.events"
        wait_until(lambda: "populated 0" in events.read_text(), f"{made} empty")
        made.rmdir()


def _end_all(group: Path) -> None:
    """End every process of a cgroup of ours."""
    if (group / "cgroup.kill").exists():
        (group / "cgroup.kill").write_text("1")
        return
    for pid in (group / "cgroup.procs").read_text().split():  # before Linux 5.14
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other lab is open: what is unidentified in one would be seen in the other."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def open_lab(
    options: Options | None = None, *, single_packets: bool = True, traced: bool = True
) -> Iterator[Lab]:
    """Set up everything; `single_packets`: one buffer is one packet, so the law can be held.

    Not `traced`: the test calls Lab.trace when the time has come.
    """
    with alone(), cgroup() as group, contextlib.ExitStack() as stack:
        ends = stack.enter_context(cable())
        if single_packets:
            for end in ends:
                end.carry_single_packets()
        rules = (*(() if needs.filters_unopened() else UNSEEN), *EVERYTHING)
        witnesses = {
            end.namespace: stack.enter_context(witness(end.namespace, rules)) for end in ends
        }
        witnesses[HOST] = stack.enter_context(witness(HOST, STRAYS))
        lab = Lab(stack, ends, witnesses, group)
        if traced:
            lab.trace(options)
        yield lab
