# SPDX-License-Identifier: Apache-2.0
"""`serve`: the order in which everything is started, looked after, and ended."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import logging
import platform
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import (
    __version__,
    exit_log,
    metrics,
    netatop_bpf,
    notify,
    privileges,
    reload,
    self_test,
)
from exporter.arguments import PROGRAM
from exporter.attribution import memory
from exporter.attribution.ledger import Ledger
from exporter.collector import Collector
from exporter.errors import ConfigError, StateError
from exporter.kernel import allocator, host, layouts, namespaces
from exporter.kernel.choice import open_tracer
from exporter.kernel.core_object import Options
from exporter.kernel.exit_list import ExitList
from exporter.listeners import Listeners
from exporter.reload import Reloader
from exporter.web.authority import own_names
from exporter.web.policy import Policies
from exporter.web.server import Server
from exporter.web.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.config.flags import Flags
    from exporter.config.settings import Settings
    from exporter.kernel.tracer import Tracer

log = logging.getLogger(PROGRAM)

UPKEEP_SECONDS: Final = 10.0
"""Less than packets can join a finished task (LATE_NS), so that none is left over."""
TEND_SECONDS: Final = 1.0
"""How long a network namespace that nobody else uses may be kept by our links."""
FINISH_SECONDS: Final = 1.0
"""How long who has asked is waited for in the end: a restart need not cost a scrape."""
SEARCH_AFTER: Final = 50_000
"""New objects after which Python looks for circles of them: a scrape makes many, and no circle."""
LAYOUT_NAMES: Final = {"portable": "portable "}
"""What stands before the fingerprint; nothing for the main kernel object."""
NO_PIDS: Final = (
    "process ids are those of a pid namespace, not the host's: executables, command lines and "
    "network namespaces of processes are not known; run it in the host's (hostPID in Kubernetes, "
    "--pid=host of docker)"
)
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(chosen: Flags) -> None:
    """Serve until SIGTERM or SIGINT; read the configuration again on SIGHUP."""
    settings = reload.settings(chosen)
    allocator.map_large_blocks()
    gc.set_threshold(SEARCH_AFTER)
    # Blocked and waited for: a handler may run too late, when the main thread has begun to wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # The address first: that it is taken should be known before anything is loaded, and until then
    # /readyz can say no.
    site, policies = Site(chosen.telemetry_path), Policies(chosen.web_config_file)
    names = own_names((*chosen.allowed_hosts, *(one.host for one in chosen.listen_addresses)))
    server = Server(site, _listeners(chosen), policies, chosen.max_requests, names)
    writer = exit_log.Writer(settings.exit_log) if settings.exit_log else None
    path = settings.compat.netatop_bpf
    netatop_clients = netatop_bpf.Server(path) if path else None
    wanted = options(chosen, settings)
    # What all threads have is settled here, before there is one.
    loading = privileges.load(
        functools.partial(open_tracer, wanted, chosen.loader),
        None if chosen.keep_capabilities else privileges.needs(wanted, places(chosen, settings)),
    )
    with (
        contextlib.nullcontext() if chosen.systemd_socket else server,
        netatop_clients or contextlib.nullcontext(),
        contextlib.ExitStack() as ends,
        writer or contextlib.nullcontext(),
        loading.result() as tracer,
    ):
        _warn(tracer)
        site.unfit = _test(tracer, chosen)
        collector = make_collector(tracer, settings, chosen.max_exits)
        collector.exit_log = writer
        if writer and tracer.answers and _reads_exits(chosen, settings):
            writer.source = ends.enter_context(ExitList())
        reloader = Reloader(chosen, collector, tracer.cgroup_path)
        if chosen.enable_lifecycle:
            site.reload = reloader.reload
        if netatop_clients:
            netatop_clients.report = collector.report
        site.connections = collector.connections
        site.report, site.expose = collector.report, collector.expose
        if chosen.systemd_socket:
            ends.enter_context(server)  # who has asked meanwhile waits there: no scrape is missed
        for url in server.urls:
            log.info("%s serves %s%s", PROGRAM, url, chosen.telemetry_path)
        manager = notify.Manager()
        if manager.watches:
            faulthandler.enable()  # it ends who hangs by SIGABRT: then the log says where
        manager.ready(collector.health)
        while not _is_stopped(functools.partial(_reload, reloader, manager, collector)):
            tracer.tend()
            collector.keep_up(UPKEEP_SECONDS)
            if server.goes_round(TEND_SECONDS):
                manager.alive(collector.health)
        manager.stopping()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        log.info("stopping")
        server.finish(FINISH_SECONDS)
        collector.close()


def _listeners(chosen: Flags) -> Listeners:
    if chosen.systemd_socket:
        return Listeners.handed_over()
    return Listeners.open(chosen.listen_addresses)


def _warn(tracer: Tracer) -> None:
    """Tell what this kernel, or the place where we run, keeps from us."""
    for loss in tracer.losses:
        log.warning("%s", loss)
    if not namespaces.has_hosts_pids():
        log.warning("%s", NO_PIDS)


def _test(tracer: Tracer, chosen: Flags) -> str:
    """Hold that packets are counted; return what is wrong, which /readyz says."""
    if chosen.cgroup_path:
        return ""  # ours are not
    verdict = self_test.run(tracer)
    if verdict.passed:
        how = f"loader {tracer.loader}, users of sockets by {tracer.owners}"
        log.info("self-test: %s; %s", verdict.said, how)
        return ""
    if verdict.passed is None:
        log.warning("self-test: not made: %s", verdict.said)
        return ""
    log.error("self-test failed: %s; /readyz says no", verdict.said)
    return f"self-test failed: {verdict.said}"


def _reload(reloader: Reloader, manager: notify.Manager, collector: Collector) -> None:
    manager.reloading()
    with contextlib.suppress(ConfigError):  # which is in the log
        reloader.reload()
    manager.ready(collector.health)


def _is_stopped(reload_: Callable[[], None]) -> bool:
    """Wait for a signal for a while; tell whether it means the end."""
    received = signal.sigtimedwait(SIGNALS, TEND_SECONDS)
    if received and received.si_signo == signal.SIGHUP:
        reload_()
        return False
    return received is not None


def options(chosen: Flags, settings: Settings) -> Options:
    """Return what flags and file mean for the kernel side."""
    return Options(
        cgroup_path=chosen.cgroup_path,
        max_tasks=chosen.max_tasks,
        count_threads=settings.shows_threads,
        remotes=settings.classes.prefixes if settings.classes else (),
        list_sockets=settings.shows_sockets,
        max_hosts=settings.hosts.addresses if settings.hosts else 0,
        devices=settings.hosts.devices if settings.hosts else (),
        max_connections=settings.hosts.connections if settings.hosts else 0,
        lifecycle=chosen.lifecycle,
        netfilter=chosen.netfilter,
        compat=settings.compat.netatop,
        reads_exits=_reads_exits(chosen, settings),
        pin_path=chosen.pin_path,
    )


def _reads_exits(chosen: Flags, settings: Settings) -> bool:
    """Tell whether we are netatop's daemon too: atop wants to read at once who has ended.

    Not with a cgroup of its own: only sockets that were made there are answered, and ours was not.
    """
    choice = settings.exit_log
    is_daemon = choice is not None and choice.format == "netatop"
    return settings.compat.netatop and is_daemon and not chosen.cgroup_path


def places(chosen: Flags, settings: Settings) -> tuple[str, ...]:
    """Return the directories in which files are made and removed while it runs."""
    log_path = exit_log.path(settings.exit_log) if settings.exit_log else None
    named = (chosen.pin_path, settings.compat.netatop_bpf, log_path)
    pins, *files = (Path(name) if name else None for name in named)
    return tuple(str(path) for path in (pins, *(file and file.parent for file in files)) if path)


def make_collector(tracer: Tracer, settings: Settings, max_exits: int = 0) -> Collector:
    """Return who scrapes a tracer, with what an earlier run has left to be remembered."""
    build = metrics.Build(
        version=__version__,
        python=platform.python_version(),
        loader=tracer.loader,
        libbpf=tracer.libbpf_version,
        kernel=host.kernel_release(),
        layout=f"{LAYOUT_NAMES.get(tracer.layout, '')}{layouts.FINGERPRINT:08x}",
        owners=tracer.owners,
    )
    namer = reload.namer(settings, tracer.cgroup_path)
    ledger = Ledger(namer, settings.limits.groups, max_exits, settings.class_names)
    if settings.hosts:
        ledger.hosts.idle_ns = settings.hosts.idle_minutes * 60 * 10**9
    remembered = tracer.recall()
    try:
        if remembered:
            ledger.recall(memory.restore(remembered, max_exits))
    except StateError as error:
        log.warning("%s; totals of groups start anew, from the processes there are", error)
    return Collector(tracer, ledger, settings, build)
