# SPDX-License-Identifier: Apache-2.0
"""The configuration of a running exporter: read at the start, and again when somebody asks.

All or nothing: a file with a mistake changes nothing, and neither does one that asks for what the
kernel programs were not loaded for. Counters stay as they are.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING

from exporter import metrics, pods, procfs
from exporter.attribution.namer import Namer, Sources
from exporter.config import document
from exporter.config.settings import Compat, Hosts, Settings
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.collector import Collector
    from exporter.config.flags import Flags

log = logging.getLogger(__name__)


def settings(flags: Flags) -> Settings:
    """Return what flags and file say together. Raises ConfigError."""
    said = Settings()
    if flags.config_file:
        said = document.load(flags.config_file)
    return dataclasses.replace(
        said,
        threads=said.threads or flags.threads,
        sockets=said.sockets or flags.sockets,
        remotes=said.remotes or flags.remotes,
        compat=Compat(
            netatop=said.compat.netatop or flags.compat_netatop,
            netatop_bpf=flags.compat_netatop_bpf or said.compat.netatop_bpf,
        ),
        hosts=said.hosts or (Hosts() if flags.hosts else None),
    )


def namer(said: Settings, cgroup_path: Callable[[int], str]) -> Namer:
    """Return who names processes from now on."""
    return Namer(said, sources(said, cgroup_path))


def sources(said: Settings, cgroup_path: Callable[[int], str]) -> Sources:
    """Return where names come from on this host."""
    return Sources(
        cgroup_path=cgroup_path,
        executable=procfs.executable,
        command_line=procfs.command_line,
        legacy_cgroups=procfs.legacy_cgroups,
        user=procfs.user,
        pods=pods.Pods(said.kubernetes.container_logs, said.kubernetes.pod_logs),
        has_legacy_cgroups=procfs.has_legacy_cgroups(),
    )


class Reloader:
    """Applies the file to a collector, anew with each call. Safe for threads."""

    def __init__(
        self, flags: Flags, collector: Collector, cgroup_path: Callable[[int], str]
    ) -> None:
        self._flags = flags
        self._collector = collector
        self._cgroup_path = cgroup_path
        self._lock = threading.Lock()
        self._loaded = collector.settings
        """What the kernel programs were loaded for."""
        self._succeeded_at = time.time()
        collector.reload = metrics.Reload(success=True, at_seconds=self._succeeded_at)

    def reload(self) -> None:
        """Read and apply. Raises ConfigError, which is logged, with everything as it was."""
        with self._lock:
            try:
                self._apply()
            except Exception as error:
                self._collector.reload = metrics.Reload(
                    success=False, at_seconds=self._succeeded_at
                )
                refused = error
                if not isinstance(error, ConfigError):  # whatever it is, it must not end us
                    refused = ConfigError(f"{self._flags.config_file}: {error!r}")
                _complain(refused)
                raise refused from error
            self._succeeded_at = time.time()
            self._collector.reload = metrics.Reload(success=True, at_seconds=self._succeeded_at)
            log.info("%s: applied", self._flags.config_file)

    def _apply(self) -> None:
        path = self._flags.config_file
        if not path:
            message = "there is no file to be read again; name one with --config.file"
            raise ConfigError(message)
        said = settings(self._flags)
        for what, wanted, loaded in (
            ("threads", said.shows_threads, self._loaded.shows_threads),
            ("sockets", said.shows_sockets, self._loaded.shows_sockets),
        ):
            if wanted and not loaded:
                message = (
                    f"{path}: found {what}: true; accepted without a restart is false, because the "
                    f"kernel programs were loaded without {what}"
                )
                raise ConfigError(message)
        if said.classes != self._loaded.classes:
            message = (
                f"{path}: found other remotes or address_classes than at the start; accepted "
                "without a restart are the same: the kernel programs were loaded for those"
            )
            raise ConfigError(message)
        for key in ("exit_log", "hosts", "compat"):
            if getattr(said, key) != getattr(self._loaded, key):
                message = (
                    f"{path}: found another {key} than at the start; accepted without a restart is "
                    "the same"
                )
                raise ConfigError(message)
        self._collector.configure(said, namer(said, self._cgroup_path))


def _complain(error: Exception) -> None:
    for line in str(error).splitlines():
        log.error("%s", line)
    log.error("nothing of it was applied")
