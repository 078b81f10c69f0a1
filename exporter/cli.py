# SPDX-License-Identifier: Apache-2.0
"""The command line: flags, start-up order, signals, exit status."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import __version__, client, config, doctor, exits, log, metrics, status
from exporter.attribution import memory
from exporter.attribution.ledger import Ledger
from exporter.attribution.namer import by_command
from exporter.collector import Collector
from exporter.errors import ConfigError, NetatopError, StateError
from exporter.http import Server
from exporter.kernel import host
from exporter.kernel.core_loader import CoreTracer, Options
from exporter.kernel.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM: Final = "netatop-exporter"
UPKEEP_SECONDS: Final = 10.0
"""Less than packets can join a finished task (LATE_NS), so that none is left over."""
TEND_SECONDS: Final = 1.0
"""How long a network namespace that nobody else uses may be kept by our links."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

EPILOG: Final = """\
exit status: 0 all is well, 1 the kernel or the host does not permit it, 2 wrong usage
"""
SERVE: Final = """\
Count packets and bytes of every process on this host and serve the counters for Prometheus.
Needs root (or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN). Stop it with Ctrl-C or SIGTERM.
"""
ONCE: Final = (
    "Count for some seconds, print one exposition on standard output, and end. Needs root."
)
STATUS: Final = "Print the totals of the exporter that runs on this host, as /proc/netatop did."
EXITS: Final = """\
Print the finished processes that had used the network, as the exporter on this host knows them.
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
        print(f"{PROGRAM}: {error}", file=sys.stderr)
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
            (_kernel_flags, _pin_flags, _place_flags, _path_flags, _web_flags),
        ),
        ("once", "print one exposition", ONCE, once, (_kernel_flags, _once_flags)),
        (
            "status",
            "print totals of the running exporter",
            STATUS,
            show_status,
            (_place_flags, _path_flags),
        ),
        (
            "exits",
            "list finished processes",
            EXITS,
            list_exits,
            (_exits_flags, _place_flags),
        ),
        ("doctor", "examine this host", DOCTOR, run_doctor, (_kernel_flags,)),
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


def _kernel_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is counted")
    group.add_argument(
        "--cgroup-path",
        metavar="DIR",
        type=functools.partial(
            config.directory, "--cgroup-path", "the version 2 hierarchy of cgroups"
        ),
        help="count the processes of this version 2 cgroup only (default: the whole host)",
        default=argparse.SUPPRESS,
    )
    group.add_argument(
        "--collector.threads",
        dest="threads",
        action="store_true",
        default=argparse.SUPPRESS,
        help="count and show threads too",
    )
    group.add_argument(
        "--collector.sockets",
        dest="sockets",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show every socket with its addresses: many series",
    )
    group.add_argument(
        "--no-collector.netfilter",
        dest="netfilter",
        action="store_false",
        default=argparse.SUPPRESS,
        help="leave out what the kernel itself sends and receives: ICMP, TIME_WAIT, some RSTs",
    )
    group.add_argument(
        "--tasks.max",
        dest="max_tasks",
        metavar="N",
        type=functools.partial(config.whole, "--tasks.max", 1, config.MAX_TASKS),
        default=config.Settings().max_tasks,
        help="size of the task table; what does not fit counts as unidentified, reason overflow",
    )


def _pin_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pin-path",
        dest="pin_path",
        metavar="DIR",
        type=functools.partial(config.directory, "--pin-path", "a bpf file system"),
        default=argparse.SUPPRESS,
        help="go on counting from one run to the next: everything stays in this directory of a bpf "
        "file system, as /sys/fs/bpf/netatop-exporter, until 'detach' (default: it ends with us)",
    )


def _place_flags(parser: argparse.ArgumentParser) -> None:
    defaults = config.Settings()
    group = parser.add_argument_group("where the metrics are")
    group.add_argument(
        "--web.listen-address",
        dest="listen_address",
        metavar="HOST:PORT",
        type=config.address,
        default=defaults.listen_address,
        help="where the metrics are served; :PORT is every address of this host",
    )


def _path_flags(parser: argparse.ArgumentParser) -> None:
    defaults = config.Settings()
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        type=config.telemetry_path,
        default=defaults.telemetry_path,
        help="path of the metrics",
    )


def _exits_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--follow", action="store_true", help="go on with those that end from now on, until Ctrl-C"
    )
    parser.add_argument(
        "--json", dest="as_json", action="store_true", help="print each as a line of JSON"
    )


def _web_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exits.max",
        dest="max_exits",
        metavar="N",
        type=functools.partial(config.whole, "--exits.max", 0, 100_000),
        default=config.Settings().max_exits,
        help="finished processes that are kept to be listed; older ones make room",
    )
    parser.add_argument(
        "--web.max-requests",
        dest="max_requests",
        metavar="N",
        type=functools.partial(config.whole, "--web.max-requests", 1, 1000),
        default=config.Settings().max_requests,
        help="connections at a time; more get status 503",
    )


def _once_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=functools.partial(config.whole, "--seconds", 0, 86400),
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


def _settings(parsed: argparse.Namespace) -> config.Settings:
    """Return what was chosen; what a command has no flag for is as by default."""
    flags = vars(parsed)
    return config.Settings(**{k: flags[k] for k in config.Settings._fields if k in flags})


def _options(settings: config.Settings) -> Options:
    return Options(
        cgroup_path=settings.cgroup_path,
        max_tasks=settings.max_tasks,
        count_threads=settings.threads,
        list_sockets=settings.sockets,
        netfilter=settings.netfilter,
        pin_path=settings.pin_path,
    )


# Commands


def serve(parsed: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    settings = _settings(parsed)
    logger = logging.getLogger(PROGRAM)
    # Blocked and waited for: a handler may run too late, when the main thread has begun to wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    # The address first: that it is taken should be known before anything is loaded, and until then
    # /readyz can say no.
    server = Server(
        settings.listen_address,
        path=settings.telemetry_path,
        max_requests=settings.max_requests,
    )
    with server, CoreTracer(_options(settings)) as tracer:
        for tracepoint, loss in {hook.tracepoint: hook.without for hook in tracer.missing}.items():
            logger.warning("no tracepoint %s: %s", tracepoint, loss)
        collector = _collector(tracer, settings.max_exits)
        server.report, server.expose = collector.report, collector.expose
        logger.info(
            "%s serves http://%s%s", PROGRAM, server.listens.reachable, settings.telemetry_path
        )
        while signal.sigtimedwait(STOP_SIGNALS, TEND_SECONDS) is None:
            tracer.tend()
            collector.keep_up(UPKEEP_SECONDS)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        logger.info("stopping")
        collector.close()
    return 0


def once(parsed: argparse.Namespace) -> int:
    """Print one exposition."""
    with CoreTracer(_options(_settings(parsed))) as tracer:
        collector = _collector(tracer)
        time.sleep(parsed.seconds)
        sys.stdout.buffer.write(collector.expose())
        sys.stdout.buffer.flush()
    return 0


def show_status(parsed: argparse.Namespace) -> int:
    """Print the totals of a running exporter."""
    settings = _settings(parsed)
    print(status.report(client.fetch(settings.listen_address, settings.telemetry_path)))
    return 0


def list_exits(parsed: argparse.Namespace) -> int:
    """Print the exit list of a running exporter."""
    address = _settings(parsed).listen_address
    for line in exits.listing(address, as_json=parsed.as_json, follow=parsed.follow):
        print(line, flush=parsed.follow)
    return 0


def run_doctor(parsed: argparse.Namespace) -> int:
    """Examine the host."""
    examination = doctor.examine(_options(_settings(parsed)))
    print("\n".join(examination.lines))
    return 0 if examination.works else 1


def detach(parsed: argparse.Namespace) -> int:
    """Remove what is pinned."""
    path = _settings(parsed).pin_path
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


def _collector(tracer: CoreTracer, max_exits: int = 0) -> Collector:
    build = metrics.Build(
        version=__version__,
        python=platform.python_version(),
        loader=tracer.loader,
        libbpf=tracer.libbpf_version,
        kernel=host.kernel_release(),
    )
    ledger = Ledger(by_command, max_exits, tracer.cgroup_path)
    remembered = tracer.recall()
    try:
        if remembered:
            ledger.memory = memory.restore(remembered, max_exits)
    except StateError as error:
        logger = logging.getLogger(PROGRAM)
        logger.warning("%s; totals of groups start anew, from the processes there are", error)
    return Collector(tracer, ledger, build)
