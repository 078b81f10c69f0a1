# SPDX-License-Identifier: Apache-2.0
"""One scrape: settle, read, attribute, families, exposition; each timed, each failing alone."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector as RegistryCollector

from exporter import metrics, procfs
from exporter.attribution import memory
from exporter.attribution.bounds import Bounds
from exporter.errors import KernelError, NetatopError
from exporter.model import LIFE_EVENTS, WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from exporter.attribution.ledger import Ledger
    from exporter.attribution.namer import Namer
    from exporter.config.settings import Settings
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

    def expose(self, openmetrics: bool = False, client: str = "") -> bytes:  # noqa: FBT001, FBT002
        """Scrape and return the exposition: text 0.0.4, or OpenMetrics 1.0; empty if it failed.

        client: who scrapes; what one has seen has nothing to do with what another has.
        """
        render = generate_openmetrics if openmetrics else generate_latest
        with self._lock:
            if self._closed:
                return b""
            registry = CollectorRegistry()
            registry.register(_Ready(self._collect(client)))
            return self._stage("exposition", lambda: render(registry)) or b""

    def keep_up(self, seconds: float) -> None:
        """Account for finished tasks if no scrape has done so for this long.

        Without it, records would pile up in the kernel while nobody scrapes.
        """
        with self._lock:
            if not self._closed and time.monotonic() - self._attributed_at >= seconds:
                self._attribute(*self._read())

    def report(self) -> Report | None:
        """Read and attribute; None if that fails or all is over."""
        with self._lock:
            return None if self._closed else self._attribute(*self._read())

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

    def close(self) -> None:
        """Wait for a scrape in progress and answer no more: the tracer may be closed then."""
        with self._listing, self._lock:
            self._closed = True

    def _collect(self, client: str) -> list[Metric]:
        walk, snapshot = self._read()
        report = self._attribute(walk, snapshot)
        programs = self._stage("programs", self._tracer.programs) or ()
        found = self._stage(
            "families", lambda: self._families(report, snapshot, walk, programs, client)
        )
        return [
            *(found or ()),
            *metrics.reload_families(self.reload),
            *metrics.log_families(self.exit_log),
            *metrics.build_families(self._build),
            *metrics.stage_families(self._stages.values()),
            *self._own_process.collect(),
        ]

    def _read(self, *, list_sockets: bool = False) -> tuple[SocketWalk | None, Snapshot | None]:
        walk = self._stage("settle", lambda: self._tracer.settle(list_sockets=list_sockets))
        return walk, self._stage("read", self._tracer.read)

    def _families(
        self,
        report: Report | None,
        snapshot: Snapshot | None,
        walk: SocketWalk | None,
        programs: tuple[ProgramStatus, ...],
        client: str,
    ) -> list[Metric]:
        """Return the families of one scrape: now it is decided who has series of his own."""
        shown: Mapping[str, tuple[Member, ...]] = {}
        if report and snapshot:
            shown = self._bounds.choose(report, snapshot.now_ns, client)
        found: list[Metric] = list(metrics.families(report, shown, snapshot, walk, programs))
        if report:
            found += metrics.information(self._describe(report, shown["process"][:-1]))
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


class _Ready(RegistryCollector):
    """Families that are there already, as prometheus_client wants them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
