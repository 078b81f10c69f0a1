# SPDX-License-Identifier: Apache-2.0
"""The command line: flags, start-up order, signals, exit status."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import (
    __version__,
    client,
    doctor,
    exit_log,
    exits,
    hosts,
    log,
    metrics,
    netatop_bpf,
    privileges,
    reload,
    self_test,
    status,
    top,
    watch,
)
from exporter.api.exits import signal_name
from exporter.attribution import memory
from exporter.attribution.ledger import Ledger
from exporter.collector import Collector
from exporter.config import document, flags
from exporter.errors import ConfigError, NetatopError, StateError
from exporter.http import Server
from exporter.kernel import host, layouts
from exporter.kernel.choice import open_tracer
from exporter.kernel.core_object import Options
from exporter.kernel.exit_list import ExitList
from exporter.kernel.pins import Pins
from exporter.kernel.watcher import Filter
from exporter.model import LIFE_EVENTS
from exporter.reload import Reloader
from exporter.top.choice import Choice
from exporter.top.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.config.settings import Settings
    from exporter.kernel.tracer import Tracer

PROGRAM: Final = "netatop-exporter"
UPKEEP_SECONDS: Final = 10.0
"""Less than packets can join a finished task (LATE_NS), so that none is left over."""
TEND_SECONDS: Final = 1.0
"""How long a network namespace that nobody else uses may be kept by our links."""
LAYOUT_NAMES: Final = {"portable": "portable "}
"""What stands before the fingerprint; nothing for the main kernel object."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

EPILOG: Final = """\
exit status: 0 all is well, 1 the kernel or the host does not permit it, 2 wrong usage
"""
SERVE: Final = """\
Count packets and bytes of every process on this host and serve the counters for Prometheus.
Needs root (or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN). Stop it with Ctrl-C or SIGTERM; SIGHUP reads
the configuration file again.
"""
ONCE: Final = (
    "Count for some seconds, print one exposition on standard output, and end. Needs root."
)
TOP: Final = """\
Show who is using the network now, as a live table in the terminal: processes, threads, sockets,
hosts, groups, and processes that have ended, as the exporter on this host knows them. Press ? for
the keys. With --batch, print tables on standard output, exact and in full, for pipes.
"""
STATUS: Final = """\
Print totals, what is unidentified and why, sockets, tasks, what was lost, and versions, of the
exporter that runs on this host; in the end the lines of /proc/netatop, under its names.
"""
EXITS: Final = """\
Print the finished processes that had used the network, as the exporter on this host knows them.
"""
HOSTS: Final = """\
Print the IP addresses of this host, and those behind it, with what they have received and
transmitted; of a single address, by protocol. The exporter must count them (--collector.hosts).
"""
CONNECTIONS: Final = """\
Print the connections of an IP address of this host, behind it, or anywhere, with packets and bytes
in both directions and the process that has them, as the exporter on this host knows them.
"""
WATCH: Final = """\
Print fork, exec, exit, abort (killed by a signal), thread_create and thread_exit as they happen,
until Ctrl-C; for what ends, also what it had used, if an exporter runs here. What is not wanted is
left out in the kernel. Nothing is attached when nobody watches. Needs root, or CAP_BPF and
CAP_PERFMON.
"""
WAIT: Final = """\
Wait until a process ends, whoever has started it, print how, and end with the same exit status (128
and the signal's number if a signal has killed it).
"""
CHECK_CONFIG: Final = """\
Say whether a configuration file is good, or all that is wrong with it: line, key, what was found
and what is accepted. The exit status is 0 only if it is good.
"""
DETACH: Final = """\
Remove everything that 'serve --pin-path DIR' has left in the kernel: nothing is counted any more,
and the totals are gone. Refused while an exporter uses it.
"""
DOCTOR: Final = """\
Say what this host offers and lacks, how to mend it, and whether 'serve' would work. The exit status
is 0 only if it would.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except NetatopError as error:
        # A line for each mistake in a file; other errors may quote what libbpf has said.
        lines = str(error).splitlines() if isinstance(error, ConfigError) else [str(error)]
        print(*(f"{PROGRAM}: {line}" for line in lines), sep="\n", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Standard output: whatever else is opened has errors of its own. Python must not try to
        # write again when it ends. That its reader has gone (EPIPE) is nobody's fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"{PROGRAM}: standard output: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(words: list[str]) -> int:
    """Parse and run; help and version end here too, with SystemExit."""
    try:
        parsed = _parse(words)
        log.start(parsed.log_level, parsed.log_format)
        command: Callable[[argparse.Namespace], int] = parsed.command
        return command(parsed)
    finally:
        sys.stdout.flush()  # now, when a failure can still be told


# Flags


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse flags; without a command it is `serve`."""
    parser = _Parser(
        prog=PROGRAM,
        description="Who is using the network on this host? Exact counters per process, from eBPF.",
        epilog=f"'{PROGRAM} COMMAND --help' tells the flags of a command.\n{EPILOG}",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, brief, text, command, groups in (
        (
            "serve",
            "serve the counters (default)",
            SERVE,
            serve,
            (
                *(_file_flags, _kernel_flags, _compat_flags, _bpf_socket_flags, _pin_flags),
                *(_privilege_flags, _place_flags, _path_flags, _web_flags),
            ),
        ),
        ("once", "print one exposition", ONCE, once, (_file_flags, _kernel_flags, _once_flags)),
        ("top", "show a live table in the terminal", TOP, show_top, (_top_flags, _place_flags)),
        (
            "status",
            "print totals of the running exporter",
            STATUS,
            show_status,
            (_json_flags, _place_flags, _path_flags),
        ),
        (
            "exits",
            "list finished processes",
            EXITS,
            list_exits,
            (_exits_flags, _place_flags),
        ),
        (
            "hosts",
            "list IP addresses and their traffic",
            HOSTS,
            list_hosts,
            (_hosts_flags, _place_flags),
        ),
        (
            "connections",
            "list the connections of an IP address",
            CONNECTIONS,
            list_connections,
            (_connections_flags, _place_flags),
        ),
        (
            "watch",
            "print events in the lives of processes",
            WATCH,
            watch_events,
            (_watch_flags, _place_flags),
        ),
        ("wait", "wait for the end of any process", WAIT, wait_for, (_wait_flags,)),
        (
            "check-config",
            "check a configuration file",
            CHECK_CONFIG,
            check_config,
            (_file_flags, _schema_flags),
        ),
        (
            "doctor",
            "examine this host",
            DOCTOR,
            run_doctor,
            (_file_flags, _kernel_flags, _compat_flags),
        ),
        ("detach", "remove what is pinned", DETACH, detach, (_pin_flags,)),
    ):
        sub = commands.add_parser(name, help=brief, description=text, epilog=EPILOG)
        sub.set_defaults(command=command)
        for add in (*groups, _log_flags):
            add(sub)
    word = words[0] if words else ""
    if word and not word.startswith("-") and word not in commands.choices:
        accepted = ", ".join(commands.choices)
        message = f"command: found {word!r}; accepted are {accepted}, and flags for serve"
        raise ConfigError(message)
    if word not in commands.choices and word not in PARSER_FLAGS:
        words = ["serve", *words]
    return parser.parse_args(words)


PARSER_FLAGS: Final = {"-h", "--help", "--version"}


class _Parser(argparse.ArgumentParser):
    """Keeps line breaks, takes no abbreviations, and says what a default is."""

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", _Formatter)
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


def _file_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
        type=functools.partial(flags.file, "--config.file"),
        default=argparse.SUPPRESS,
        help="names of groups and limits of series, in YAML (default: what docs/groups.md tells)",
    )


def _schema_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON schema of the file, for editors"
    )


def _kernel_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is counted")
    group.add_argument(
        "--cgroup-path",
        metavar="DIR",
        type=functools.partial(
            flags.directory, "--cgroup-path", "the version 2 hierarchy of cgroups"
        ),
        help="count the processes of this version 2 cgroup only (default: the whole host)",
        default=argparse.SUPPRESS,
    )
    for flag, chosen, text in (
        ("threads", True, "count threads, and show the busiest of all groups"),
        ("sockets", True, "show the busiest sockets of all groups, with their addresses"),
        ("remotes", True, "count by class of remote address too: loopback, lan, internet, yours"),
        ("hosts", True, "count by IP address of this host too, and its connections"),
        ("lifecycle", True, "count forks, execs, exits and aborts, and threads that come and go"),
        (
            "netfilter",
            False,
            "leave out what the kernel itself sends and receives: ICMP, TIME_WAIT, some RSTs",
        ),
    ):
        group.add_argument(
            f"--{'' if chosen else 'no-'}collector.{flag}",
            dest=flag,
            action="store_const",
            const=chosen,
            default=argparse.SUPPRESS,
            help=text,
        )
    group.add_argument(
        "--tasks.max",
        dest="max_tasks",
        metavar="N",
        type=functools.partial(flags.whole, "--tasks.max", 1, flags.MAX_TASKS),
        default=flags.Flags().max_tasks,
        help="size of the task table; what does not fit counts as unidentified, reason overflow",
    )
    parser.add_argument(
        "--loader",
        choices=flags.LOADERS,
        default=flags.Flags().loader,
        help="how kernel programs are loaded: built beforehand, with the kernel's type information "
        "(core), compiled now (bcc), or as core and only where the kernel can't, as bcc (auto; "
        "docs/loaders.md)",
    )


def _compat_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compat.netatop",
        dest="compat_netatop",
        action="store_true",
        default=argparse.SUPPRESS,
        help="answer programs that ask the kernel module netatop, as atop -K does; every "
        "getsockopt(2) and every packet costs more then (docs/atop.md)",
    )


def _bpf_socket_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compat.netatop-bpf",
        dest="compat_netatop_bpf",
        metavar="PATH",
        nargs="?",
        const=flags.NETATOP_BPF,
        type=functools.partial(flags.socket_path, "--compat.netatop-bpf"),
        default=argparse.SUPPRESS,
        help=f"answer programs that ask netatop-bpf, as atop 2.10 does, on this socket; without a "
        f"path on {flags.NETATOP_BPF} (docs/atop.md)",
    )


def _pin_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pin-path",
        dest="pin_path",
        metavar="DIR",
        type=functools.partial(flags.directory, "--pin-path", "a bpf file system"),
        default=argparse.SUPPRESS,
        help="go on counting from one run to the next: everything stays in this directory of a bpf "
        "file system, as /sys/fs/bpf/netatop-exporter, until 'detach' (default: it ends with us)",
    )


def _privilege_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capabilities.keep",
        dest="keep_capabilities",
        action="store_true",
        default=argparse.SUPPRESS,
        help="keep all capabilities when everything is attached, not only those that are needed "
        "from then on (docs/privileges.md)",
    )


def _place_flags(parser: argparse.ArgumentParser) -> None:
    defaults = flags.Flags()
    group = parser.add_argument_group("where the metrics are")
    group.add_argument(
        "--web.listen-address",
        dest="listen_address",
        metavar="HOST:PORT",
        type=flags.address,
        default=defaults.listen_address,
        help="where the metrics are served; :PORT is every address of this host",
    )


def _path_flags(parser: argparse.ArgumentParser) -> None:
    defaults = flags.Flags()
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        type=flags.telemetry_path,
        default=defaults.telemetry_path,
        help="path of the metrics",
    )


def _json_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="print it as JSON")


def _exits_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--follow", action="store_true", help="go on with those that end from now on, until Ctrl-C"
    )
    _json_flag(parser)


def _hosts_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        nargs="?",
        type=functools.partial(flags.network, "ADDRESS"),
        help="this one in detail, or those of a prefix as 10.0.0.0/8 (default: all)",
    )
    parser.add_argument("--count", action="store_true", help="print only how many there are")
    _json_flag(parser)


def _connections_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        type=functools.partial(flags.network, "ADDRESS"),
        help="the address, or a prefix as 10.0.0.0/8",
    )
    _json_flag(parser)


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", dest="as_json", action="store_true", help="print each as a line of JSON"
    )


def _top_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=functools.partial(flags.seconds, "--interval", 0.1, 3600),
        default=2.0,
        help="how often to ask; rates are those of this time",
    )
    parser.add_argument("--view", choices=VIEWS, default="processes", help="what to show first")
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        default=argparse.SUPPRESS,
        help="by the title of a column: numbers from the greatest, names from the least (default: "
        "the busiest first)",
    )
    parser.add_argument("--reverse", action="store_true", help="in the other direction")
    parser.add_argument(
        "--filter", metavar="TEXT", default="", help="only what has this text in one of its names"
    )
    group = parser.add_argument_group("without a terminal")
    group.add_argument("--batch", action="store_true", help="print tables, one each interval")
    group.add_argument(
        "--count",
        metavar="N",
        type=functools.partial(flags.whole, "--count", 1, 1_000_000),
        default=argparse.SUPPRESS,
        help="so many (default: until Ctrl-C)",
    )


def _watch_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which events")
    group.add_argument("--pid", metavar="PID", type=_pid("--pid"), help="of this process only")
    group.add_argument(
        "--tree", action="store_true", help="of that process and of all its descendants"
    )
    group.add_argument(
        "--event", action="append", choices=LIFE_EVENTS, help="of this kind; may be given again"
    )
    group.add_argument(
        "--comm",
        metavar="NAME",
        type=functools.partial(flags.command, "--comm"),
        help="of processes and threads with this command name",
    )
    _json_flag(parser)


def _wait_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pid", metavar="PID", type=_pid("PID"), help="the process")


def _pid(flag: str) -> Callable[[str], int]:
    return functools.partial(flags.whole, flag, 1, 1 << 22)


def _web_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exits.max",
        dest="max_exits",
        metavar="N",
        type=functools.partial(flags.whole, "--exits.max", 0, 100_000),
        default=flags.Flags().max_exits,
        help="finished processes that are kept to be listed; older ones make room",
    )
    parser.add_argument(
        "--web.max-requests",
        dest="max_requests",
        metavar="N",
        type=functools.partial(flags.whole, "--web.max-requests", 1, 1000),
        default=flags.Flags().max_requests,
        help="connections at a time; more get status 503",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="enable_lifecycle",
        action="store_true",
        default=argparse.SUPPRESS,
        help="let POST /-/reload read the configuration file again, as SIGHUP does",
    )


def _once_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=functools.partial(flags.whole, "--seconds", 0, 86400),
        default=1,
        help="how long to count before printing",
    )


def _log_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("log, on standard error")
    group.add_argument(
        "--log.level",
        dest="log_level",
        choices=log.LEVELS,
        default="info",
        help="the least severe lines that are written",
    )
    group.add_argument(
        "--log.format",
        dest="log_format",
        choices=log.FORMATS,
        default="logfmt",
        help="how they are written",
    )


def _flags(parsed: argparse.Namespace) -> flags.Flags:
    """Return what was chosen; what a command has no flag for is as by default."""
    chosen = vars(parsed)
    return flags.Flags(**{k: chosen[k] for k in flags.Flags._fields if k in chosen})


def _options(chosen: flags.Flags, settings: Settings) -> Options:
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


def _reads_exits(chosen: flags.Flags, settings: Settings) -> bool:
    """Tell whether we are netatop's daemon too: atop wants to read at once who has ended.

    Not with a cgroup of its own: only sockets that were made there are answered, and ours was not.
    """
    choice = settings.exit_log
    is_daemon = choice is not None and choice.format == "netatop"
    return settings.compat.netatop and is_daemon and not chosen.cgroup_path


def _places(chosen: flags.Flags, settings: Settings) -> tuple[str, ...]:
    """Return the directories in which files are made and removed while it runs."""
    log_path = exit_log.path(settings.exit_log) if settings.exit_log else None
    named = (chosen.pin_path, settings.compat.netatop_bpf, log_path)
    pins, *files = (Path(name) if name else None for name in named)
    return tuple(str(path) for path in (pins, *(file and file.parent for file in files)) if path)


# Commands


def serve(parsed: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; read the configuration again on SIGHUP."""
    chosen = _flags(parsed)
    settings = reload.settings(chosen)
    logger = logging.getLogger(PROGRAM)
    # Blocked and waited for: a handler may run too late, when the main thread has begun to wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # The address first: that it is taken should be known before anything is loaded, and until then
    # /readyz can say no.
    server = Server(
        chosen.listen_address,
        path=chosen.telemetry_path,
        max_requests=chosen.max_requests,
    )
    writer = exit_log.Writer(settings.exit_log) if settings.exit_log else None
    path = settings.compat.netatop_bpf
    netatop_clients = netatop_bpf.Server(path) if path else None
    options = _options(chosen, settings)
    # What all threads have is settled here, before there is one.
    loading = privileges.load(
        functools.partial(open_tracer, options, chosen.loader),
        None if chosen.keep_capabilities else privileges.needs(options, _places(chosen, settings)),
    )
    with (
        server,
        netatop_clients or contextlib.nullcontext(),
        contextlib.ExitStack() as ends,
        writer or contextlib.nullcontext(),
        loading.result() as tracer,
    ):
        for loss in tracer.losses:
            logger.warning("%s", loss)
        server.unfit = _test(tracer, chosen)
        collector = _collector(tracer, settings, chosen.max_exits)
        collector.exit_log = writer
        if writer and tracer.answers and _reads_exits(chosen, settings):
            writer.source = ends.enter_context(ExitList())
        reloader = Reloader(chosen, collector, tracer.cgroup_path)
        if chosen.enable_lifecycle:
            server.reload = reloader.reload
        if netatop_clients:
            netatop_clients.report = collector.report
        server.connections = collector.connections
        server.report, server.expose = collector.report, collector.expose
        logger.info(
            "%s serves http://%s%s", PROGRAM, server.listens.reachable, chosen.telemetry_path
        )
        while not _is_stopped(reloader):
            tracer.tend()
            collector.keep_up(UPKEEP_SECONDS)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        logger.info("stopping")
        collector.close()
    return 0


def _test(tracer: Tracer, chosen: flags.Flags) -> str:
    """Hold that packets are counted; return what is wrong, which /readyz says."""
    logger = logging.getLogger(PROGRAM)
    if chosen.cgroup_path:
        return ""  # ours are not
    verdict = self_test.run(tracer)
    if verdict.passed:
        how = f"loader {tracer.loader}, users of sockets by {tracer.owners}"
        logger.info("self-test: %s; %s", verdict.said, how)
        return ""
    if verdict.passed is None:
        logger.warning("self-test: not made: %s", verdict.said)
        return ""
    logger.error("self-test failed: %s; /readyz says no", verdict.said)
    return f"self-test failed: {verdict.said}"


def _is_stopped(reloader: Reloader) -> bool:
    """Wait for a signal for a while; tell whether it means the end."""
    received = signal.sigtimedwait(SIGNALS, TEND_SECONDS)
    if received and received.si_signo == signal.SIGHUP:
        with contextlib.suppress(ConfigError):  # which is in the log
            reloader.reload()
        return False
    return received is not None


def once(parsed: argparse.Namespace) -> int:
    """Print one exposition."""
    chosen = _flags(parsed)
    settings = reload.settings(chosen)
    with open_tracer(_options(chosen, settings), chosen.loader) as tracer:
        collector = _collector(tracer, settings)
        time.sleep(parsed.seconds)
        sys.stdout.buffer.write(collector.expose())
        sys.stdout.buffer.flush()
    return 0


def check_config(parsed: argparse.Namespace) -> int:
    """Read a configuration file, or print what one may hold."""
    if parsed.schema:
        print(document.schema())
        return 0
    path = _flags(parsed).config_file
    if not path:
        message = "check-config: --config.file is missing; name the file that is to be checked"
        raise ConfigError(message)
    found = document.load(path)
    rules = len(found.groups)
    print(f"{path}: good; {rules} {'rule' if rules == 1 else 'rules'} for groups")
    return 0


def show_status(parsed: argparse.Namespace) -> int:
    """Print the totals of a running exporter."""
    chosen = _flags(parsed)
    text = client.fetch(chosen.listen_address, chosen.telemetry_path)
    print(status.report(text, as_json=parsed.as_json))
    return 0


def list_exits(parsed: argparse.Namespace) -> int:
    """Print the exit list of a running exporter."""
    address = _flags(parsed).listen_address
    for line in exits.listing(address, as_json=parsed.as_json, follow=parsed.follow):
        print(line, flush=parsed.follow)
    return 0


def show_top(parsed: argparse.Namespace) -> int:
    """Show a live table, or print tables."""
    given = vars(parsed)
    return top.start(
        _flags(parsed).listen_address,
        Choice.make(parsed.view, given.get("sort"), wanted=parsed.filter, reverse=parsed.reverse),
        parsed.interval,
        batch=parsed.batch,
        count=given.get("count"),
    )


def list_hosts(parsed: argparse.Namespace) -> int:
    """Print the IP addresses that a running exporter knows."""
    where = _flags(parsed).listen_address
    if parsed.count:
        print(hosts.count(where, parsed.address, as_json=parsed.as_json))
        return 0
    for line in hosts.listing(where, parsed.address, as_json=parsed.as_json):
        print(line)
    return 0


def list_connections(parsed: argparse.Namespace) -> int:
    """Print the connections that a running exporter knows."""
    where = _flags(parsed).listen_address
    for line in hosts.connections(where, parsed.address, as_json=parsed.as_json):
        print(line)
    return 0


def watch_events(parsed: argparse.Namespace) -> int:
    """Print events until Ctrl-C."""
    chosen = Filter(
        events=frozenset(parsed.event or LIFE_EVENTS),
        pid=parsed.pid or 0,
        tree=parsed.tree,
        command=parsed.comm or "",
    )
    if chosen.tree and not chosen.pid:
        message = "--tree: found without --pid; accepted is the process whose descendants are meant"
        raise ConfigError(message)
    address = _flags(parsed).listen_address
    for line in watch.events(chosen, address, as_json=parsed.as_json):
        print(line, flush=True)
    return 0


def wait_for(parsed: argparse.Namespace) -> int:
    """Wait for a process; end as it has."""
    status = watch.wait_for(parsed.pid)
    number = status & 0x7F
    said = f"killed by {signal_name(number)}" if number else f"exit status {status >> 8}"
    print(f"{parsed.pid}: {said}")
    return 128 + number if number else status >> 8


def run_doctor(parsed: argparse.Namespace) -> int:
    """Examine the host."""
    chosen = _flags(parsed)
    settings = reload.settings(chosen)
    options, places = _options(chosen, settings), _places(chosen, settings)
    examination = doctor.examine(options, places, chosen.loader)
    print("\n".join(examination.lines))
    return 0 if examination.works else 1


def detach(parsed: argparse.Namespace) -> int:
    """Remove what is pinned."""
    path = _flags(parsed).pin_path
    if path is None:
        message = "detach: --pin-path is missing; name the directory that 'serve' was given"
        raise ConfigError(message)
    if not Path(path).exists():
        print(f"{path}: nothing is pinned there")
        return 0
    with Pins(path) as pins:
        pins.remove()
        Path(path).rmdir()
    print(f"{path}: removed")
    return 0


def _collector(tracer: Tracer, settings: Settings, max_exits: int = 0) -> Collector:
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
        logger = logging.getLogger(PROGRAM)
        logger.warning("%s; totals of groups start anew, from the processes there are", error)
    return Collector(tracer, ledger, settings, build)
