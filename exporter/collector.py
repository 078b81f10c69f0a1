# SPDX-License-Identifier: Apache-2.0
"""One scrape: settle, read, attribute, families, exposition; each timed, each failing alone.

Scrapes that come together share the reading, and those that ask for the same the exposition.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from prometheus_client import ProcessCollector

from exporter import metrics, procfs
from exporter.attribution import memory
from exporter.attribution.bounds import Bounds
from exporter.errors import KernelError, NetatopError
from exporter.exposition.renderer import Renderer
from exporter.exposition.rendering import EVERYTHING, Rendering, Scrape
from exporter.model import LIFE_EVENTS, WIDTH
from exporter.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.attribution.ledger import Ledger
    from exporter.attribution.namer import Namer
    from exporter.config.settings import Settings
    from exporter.exposition.table import Families
    from exporter.kernel.tracer import Tracer
    from exporter.model import (
        Connection,
        ExitedProcess,
        Member,
        Network,
        ProgramStatus,
        Report,
        Snapshot,
        SocketRecord,
        SocketWalk,
    )

T = TypeVar("T")
log = logging.getLogger(__name__)


class ExitLog(metrics.Log, Protocol):
    """A log of finished processes: exporter.exit_log.Writer."""

    def add(self, entries: Iterable[ExitedProcess]) -> None:
        """Take entries; never waits."""
        ...


class Connections(NamedTuple):
    """Every connection at one instant: this host's own by their sockets, and those behind it."""

    snapshot: Snapshot
    sockets: tuple[SocketRecord, ...]
    forwarded: tuple[Connection, ...]


class Reading(NamedTuple):
    """What a round of scrapes has in common; None where a stage has failed."""

    walk: SocketWalk | None
    snapshot: Snapshot | None
    report: Report | None
    programs: Sequence[ProgramStatus] = ()


class Answers(NamedTuple):
    """What a round of scrapes was answered."""

    report: Report | None
    renderings: Mapping[Scrape, Rendering | None]


class Health(NamedTuple):
    """What whoever looks after a service wants to know at a glance."""

    attached: int
    """Programs; of those that do the same for different kernels, one."""
    lost: Mapping[tuple[str, str], int]
    """By (object, reason); nothing that is 0."""
    failed: tuple[str, ...]
    """Stages of the last scrape."""
    configured: bool
    """The configuration file was good when it was read last."""

    def __str__(self) -> str:
        """Return it as a line."""
        lost = ", ".join(f"{n} {thing} ({why})" for (thing, why), n in sorted(self.lost.items()))
        return "; ".join(
            (
                f"{self.attached} programs attached",
                f"lost: {lost or 'nothing'}",
                *(f"failed: {stage}" for stage in self.failed),
                *(() if self.configured else ("the new configuration was refused: see the log",)),
            )
        )


class Collector:
    """Calls tracer, ledger and metrics in this order. Safe for threads."""

    def __init__(
        self, tracer: Tracer, ledger: Ledger, settings: Settings, build: metrics.Build
    ) -> None:
        self._tracer = tracer
        self._ledger = ledger
        self._bounds = Bounds(settings.series_limits)
        self._build = build
        self.settings = settings
        self.exit_log: ExitLog | None = None
        """Who writes down finished processes."""
        self.reload: metrics.Reload | None = None
        """How the last reading of the configuration file went; None: there is none."""
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        """Held, and taken first, while connections are listed."""
        self._stages: dict[str, metrics.Stage] = {}
        self._attributed_at = -math.inf
        self._closed = False
        self._booted_at = procfs.booted_at()
        """Once: a clock that is put right must not change labels."""
        self._own_process = ProcessCollector(registry=None)
        self._renderer = Renderer()
        self._rounds: Rounds[Scrape | None, Answers] = Rounds(self._lock, self._answer)

    def expose(self, scrape: Scrape = EVERYTHING) -> Rendering | None:
        """Return the exposition of this moment; None if it failed or all is over."""
        return self._rounds.ask(scrape).renderings.get(scrape)

    def keep_up(self, seconds: float) -> None:
        """Account for finished tasks if no scrape has done so for this long.

        Without it, records would pile up in the kernel while nobody scrapes.
        """
        with self._lock:
            if not self._closed and time.monotonic() - self._attributed_at >= seconds:
                self._attribute(*self._read())

    def health(self) -> Health | None:
        """Say how it goes, by a look of its own; None as `report`."""
        with self._lock:
            if self._closed:
                return None
            _, snapshot = self._read()
            programs = self._stage("programs", self._tracer.programs) or ()
            return Health(
                attached=sum(program.attached for program in programs),
                lost={of: n for of, n in snapshot.lost.items() if n} if snapshot else {},
                failed=tuple(stage.name for stage in self._stages.values() if not stage.success),
                configured=self.reload is None or self.reload.success,
            )

    def report(self) -> Report | None:
        """Read and attribute; None if that fails or all is over."""
        return self._rounds.ask(None).report

    def connections(self, wanted: Network | None) -> Connections | None:
        """Read, attribute, and list connections; None as `report`.

        wanted: of those behind this host, whose; of this host, all.
        """
        with self._listing:
            with self._lock:
                if self._closed:
                    return None
                walk, snapshot = self._read(list_sockets=True)
                report = self._attribute(walk, snapshot)
            if walk is None or snapshot is None or report is None:
                return None
            try:
                # There may be many: no scrape should wait for them.
                forwarded = tuple(self._tracer.connections(wanted))
            except NetatopError as error:
                log.error("connections: %s", error)  # noqa: TRY400 (it says all there is to say)
                return None
            return Connections(snapshot, walk.sockets, forwarded)

    def configure(self, settings: Settings, namer: Namer) -> None:
        """Name and bound in another way from now on; what was counted stays where it is."""
        with self._lock:
            self.settings = settings
            self._bounds.limits = settings.series_limits
            self._ledger.namer = namer
            self._ledger.max_groups = settings.limits.groups
            self._renderer = Renderer()  # without the labels of what is not shown any more

    def close(self) -> None:
        """Wait for a scrape in progress and answer no more: the tracer may be closed then."""
        with self._listing, self._lock:
            self._closed = True

    def _answer(self, questions: Collection[Scrape | None]) -> Answers:
        """Read once, and render what each wants; None wants the report only."""
        if self._closed:
            return Answers(None, {})
        walk, snapshot = self._read()
        reading = Reading(walk, snapshot, self._attribute(walk, snapshot))
        scrapes = [question for question in questions if question is not None]
        if any("programs" in _wanted(scrape) for scrape in scrapes):
            programs = self._stage("programs", self._tracer.programs) or ()
            reading = reading._replace(programs=programs)
        renderings = {scrape: self._render(reading, scrape) for scrape in scrapes}
        return Answers(reading.report, renderings)

    def _render(self, reading: Reading, scrape: Scrape) -> Rendering | None:
        found = self._stage("families", lambda: self._families(reading, scrape)) or []
        if "exporter" in _wanted(scrape):
            found += self._own_families()
        found += metrics.stage_families(self._stages.values())
        return self._stage(
            "exposition",
            lambda: Rendering(self._renderer.render(found, openmetrics=scrape.openmetrics)),
        )

    def _own_families(self) -> Iterator[Families]:
        yield from metrics.reload_families(self.reload)
        yield from metrics.log_families(self.exit_log)
        yield from metrics.build_families(self._build)
        yield from metrics.own_families(self._own_process.collect())

    def _read(self, *, list_sockets: bool = False) -> tuple[SocketWalk | None, Snapshot | None]:
        walk = self._stage("settle", lambda: self._tracer.settle(list_sockets=list_sockets))
        return walk, self._stage("read", self._tracer.read)

    def _families(self, reading: Reading, scrape: Scrape) -> list[Families]:
        """Return what one client wants: now it is decided who has series of his own."""
        walk, snapshot, report, programs = reading
        facts = metrics.Facts(report, snapshot, walk, programs)
        wanted = _wanted(scrape)
        kinds = {kind for collector, kind in metrics.MEMBERS.items() if collector in wanted}
        if report and kinds:
            shown = self._bounds.choose(report, report.now_ns, scrape.client, kinds)
            described = self._describe(report, shown.get("process", ())[:-1])
            facts = facts._replace(shown=shown, information=tuple(described))
        found = list(metrics.families(facts, wanted))
        if report and "exporter" in wanted:
            limits = {"group": self.settings.limits.groups, **self.settings.series_limits}
            more = WIDTH * sum(map(bool, self.settings.class_names))
            more += len(LIFE_EVENTS) if report.lives else 0
            found += metrics.bound_families(found, limits, more)
        return found

    def _describe(self, report: Report, shown: Iterable[Member]) -> Iterator[tuple[str, ...]]:
        """Yield the wide labels of processes that have series, but not of those that are gone."""
        for pid, name in dict.fromkeys(member.labels[:2] for member in shown):
            process = report.processes.get(int(pid))
            if process is None or process.task.name != name:
                continue
            task, where = process.task, process.container
            yield (
                str(task.pid),
                task.name,
                self._ledger.namer.executable(task),
                procfs.user(task.uid),
                process.cgroup,
                process.unit,
                where.container,
                where.pod,
                where.namespace,
                f"{task.start_ns / 1e9 + self._booted_at:.2f}",
            )

    def _attribute(self, walk: SocketWalk | None, snapshot: Snapshot | None) -> Report | None:
        def attribute() -> Report:
            if snapshot is None:
                message = "nothing was read"
                raise KernelError(message)
            report = self._ledger.report(snapshot, walk.sockets if walk else ())
            self._bounds.follow(report)
            if self.exit_log:
                self.exit_log.add(report.final)
            self._attributed_at = time.monotonic()
            if self._tracer.keeps:
                self._tracer.remember(memory.dump(self._ledger.memory))
            # What the ledger has accounted for, and remembers, may go, and no earlier.
            self._tracer.forget(report.forgettable)
            for host in report.idle_hosts:
                self._ledger.hosts.leave(self._tracer.forget_host(host.address, host.device))
            return report

        return self._stage("attribute", attribute)

    def _stage(self, name: str, step: Callable[[], T]) -> T | None:
        """Run one step; None if it failed. Says so once, and once more when it works again."""
        before = self._stages.get(name)
        failure, result = None, None
        start = time.perf_counter()
        try:
            result = step()
        except NetatopError as error:
            failure = str(error)
        except Exception as error:  # whatever it is, it must not cost the other stages
            failure = repr(error)
            log.debug("stage %s", name, exc_info=True)
        self._stages[name] = metrics.Stage(name, time.perf_counter() - start, failure is None)
        if failure and (before is None or before.success):
            log.error("stage %s failed: %s", name, failure)
        if not failure and before and not before.success:
            log.info("stage %s works again", name)
        return result


def _wanted(scrape: Scrape) -> Collection[str]:
    """Return the collectors that a scrape is for."""
    return scrape.collectors or metrics.COLLECTORS
