# SPDX-License-Identifier: Apache-2.0
"""The CO-RE loader's tracer: settles, reads and decodes what the attached object counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter import model
from exporter.kernel import decode, layouts
from exporter.kernel.core_object import OBJECT, CoreObject, Options
from exporter.kernel.hooks import IN_PAIRS
from exporter.kernel.libbpf import ProgramInfo, open_library, possible_processors
from exporter.kernel.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.kernel.hooks import Hook


class CoreTracer(Tracer):
    """Programs loaded through libbpf."""

    loader = "core"

    def __init__(self, options: Options) -> None:
        """Load and attach. Raises KernelError, with nothing left behind."""
        self._object = CoreObject(options)
        self._tasks, self._unidentified, self._lost = map(
            self._object.table, ("tasks", "unidentified", "lost")
        )
        self._processors = possible_processors()
        self.libbpf_version = open_library().version

    @property
    def missing(self) -> tuple[Hook, ...]:
        """Return the optional hooks that this kernel does not have."""
        return tuple(self._object.missing)

    def settle(self) -> model.SocketWalk:
        """Move what waits in the sockets to the tasks."""
        return decode.walk(self._object.run(self._object.walk))

    def read(self) -> model.Snapshot:
        """Read all tables."""
        records = decode.tasks(*self._tasks.read_all())
        unidentified = {
            reason: decode.sum_counters(self._unidentified.read_per_cpu(index, self._processors))
            for index, reason in enumerate(layouts.REASONS)
        }
        lost = {
            decode.loss(index): sum(
                self._lost.read_per_cpu(index, self._processors).cast("B").cast("Q")
            )
            for index in range(len(layouts.LOSSES))
        }
        lost["program", "recursion"] = sum(
            self._object.info(name).recursion_misses for name in self._object.attached - IN_PAIRS
        )
        return model.Snapshot(
            now_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            tasks=records,
            unidentified=unidentified,
            lost=lost,
            tables=(model.TableStatus(self._tasks.name, len(records), self._tasks.capacity),),
        )

    def programs(self) -> tuple[model.ProgramStatus, ...]:
        """Return the state of each program."""
        attached, info = self._object.attached, self._object.info
        infos = {
            name: info(name) if name in attached else ProgramInfo()
            for name in self._object.programs
        }
        return tuple(
            model.ProgramStatus(
                name=name,
                hook=self._object.hook(name),
                attached=name in attached,
                runs=found.run_cnt,
                run_time_ns=found.run_time_ns,
            )
            for name, found in infos.items()
        )

    def tend(self) -> None:
        """Follow network namespaces as they come and go."""
        self._object.tend()

    def forget(self, identities: Iterable[int]) -> None:
        """Remove the records of finished tasks."""
        for identity in identities:
            self._tasks.delete(identity)

    def close(self) -> None:
        """Detach and free everything; may be called again."""
        self._object.close()


__all__ = ["OBJECT", "CoreTracer", "Options"]
