# SPDX-License-Identifier: Apache-2.0
"""Commands and flags: what there is, what it means, what is accepted."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING, Final

from exporter import __version__, log
from exporter.config import flags
from exporter.errors import ConfigError
from exporter.model import LIFE_EVENTS
from exporter.top.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROGRAM: Final = "netatop-exporter"
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


def parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser, and that of each command; the manual is made of them, too."""
    whole = _Parser(
        prog=PROGRAM,
        description="Who is using the network on this host? Exact counters per process, from eBPF.",
        epilog=f"'{PROGRAM} COMMAND --help' tells the flags of a command.\n{EPILOG}",
    )
    whole.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, brief, text, groups in (
        (
            "serve",
            "serve the counters (default)",
            SERVE,
            (
                *(_file_flags, _kernel_flags, _compat_flags, _bpf_socket_flags, _pin_flags),
                *(_privilege_flags, _listen_flags, _path_flags, _web_flags),
            ),
        ),
        ("once", "print one exposition", ONCE, (_file_flags, _kernel_flags, _once_flags)),
        ("top", "show a live table in the terminal", TOP, (_top_flags, _place_flags)),
        (
            "status",
            "print totals of the running exporter",
            STATUS,
            (_json_flags, _ready_flags, _place_flags, _path_flags),
        ),
        (
            "exits",
            "list finished processes",
            EXITS,
            (_exits_flags, _place_flags),
        ),
        (
            "hosts",
            "list IP addresses and their traffic",
            HOSTS,
            (_hosts_flags, _place_flags),
        ),
        (
            "connections",
            "list the connections of an IP address",
            CONNECTIONS,
            (_connections_flags, _place_flags),
        ),
        (
            "watch",
            "print events in the lives of processes",
            WATCH,
            (_watch_flags, _place_flags),
        ),
        ("wait", "wait for the end of any process", WAIT, (_wait_flags,)),
        (
            "check-config",
            "check a configuration file",
            CHECK_CONFIG,
            (_file_flags, _schema_flags),
        ),
        (
            "doctor",
            "examine this host",
            DOCTOR,
            (_file_flags, _kernel_flags, _compat_flags),
        ),
        ("detach", "remove what is pinned", DETACH, (_pin_flags,)),
    ):
        sub = commands.add_parser(name, help=brief, description=text, epilog=EPILOG)
        sub.set_defaults(command=name)
        for add in (*groups, _log_flags):
            add(sub)
    return whole, commands.choices


def parse(words: list[str]) -> argparse.Namespace:
    """Parse flags; without a command it is `serve`."""
    whole, commands = parser()
    word = words[0] if words else ""
    if word and not word.startswith("-") and word not in commands:
        accepted = ", ".join(commands)
        message = f"command: found {word!r}; accepted are {accepted}, and flags for serve"
        raise ConfigError(message)
    if word not in commands and word not in PARSER_FLAGS:
        words = ["serve", *words]
    return whole.parse_args(words)


def chosen(parsed: argparse.Namespace) -> flags.Flags:
    """Return what was chosen; what a command has no flag for is as by default."""
    given = vars(parsed)
    if "systemd_socket" in given and "listen_addresses" in given:
        message = (
            "--web.systemd-socket: found with --web.listen-address; accepted is one of them: "
            "with the first, the socket unit says where it listens"
        )
        raise ConfigError(message)
    return flags.Flags(**{k: given[k] for k in flags.Flags._fields if k in given})


PARSER_FLAGS: Final = {"-h", "--help", "--version"}


class _Parser(argparse.ArgumentParser):
    """Keeps line breaks, takes no abbreviations, and says what a default is."""

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", _Formatter)
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Leave out defaults that say nothing."""
        says_nothing = action.default is None or action.default is False or action.default == ""
        return action.help if says_nothing else super()._get_help_string(action)


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


def _listen_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the metrics are")
    group.add_argument(
        "--web.listen-address",
        dest="listen_addresses",
        metavar="ADDRESS",
        type=flags.address,
        action="append",
        default=argparse.SUPPRESS,
        help="where the metrics are served: HOST:PORT, :PORT for every address of this host, or "
        f"unix:/PATH; may be given again (default: {flags.DEFAULT_ADDRESS})",
    )
    group.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        default=argparse.SUPPRESS,
        help="on the sockets of the socket unit that has started us, instead",
    )
    group.add_argument(
        "--web.config.file",
        dest="web_config_file",
        metavar="FILE",
        type=functools.partial(flags.file, "--web.config.file"),
        default=argparse.SUPPRESS,
        help="TLS, users and headers, as Prometheus and its exporters have them (docs/web.md; "
        "default: plain HTTP for everybody)",
    )


def _place_flags(parser: argparse.ArgumentParser) -> None:
    defaults = flags.Flags()
    group = parser.add_argument_group("where the metrics are")
    group.add_argument(
        "--web.listen-address",
        dest="listen_address",
        metavar="ADDRESS",
        type=flags.address,
        default=defaults.listen_address,
        help="where the exporter serves: HOST:PORT, :PORT or unix:/PATH",
    )
    group.add_argument(
        "--http.config.file",
        dest="http_config_file",
        metavar="FILE",
        type=functools.partial(flags.file, "--http.config.file"),
        default=argparse.SUPPRESS,
        help="user, password and certificates, as promtool has them (docs/web.md)",
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


def _ready_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ready",
        action="store_true",
        help="print nothing; the exit status is 0 only if the exporter says that it is ready",
    )


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
        "--web.allowed-host",
        dest="allowed_hosts",
        metavar="NAME",
        type=functools.partial(flags.host, "--web.allowed-host"),
        action="append",
        default=argparse.SUPPRESS,
        help="a name under which browsers and proxies on this host may ask, beside the host's own; "
        "may be given again (docs/web.md)",
    )
    parser.add_argument(
        "--web.max-requests",
        dest="max_requests",
        metavar="N",
        type=functools.partial(flags.whole, "--web.max-requests", 1, 1000),
        default=flags.Flags().max_requests,
        help="answers that are worked for at a time; more requests get status 503",
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
