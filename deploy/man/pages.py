# SPDX-License-Identifier: Apache-2.0
"""Writes netatop-exporter(1) and netatop-exporter(5) into a directory.

What flags and keys mean is said in one place, from which --help and the schema are made too: a page
can't say anything else. Beside it here is what a manual has and they have not.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter import __version__, arguments
from exporter.config.kinds import Section, Several
from exporter.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "netatop-exporter"
FILE: Final = "/etc/netatop-exporter/netatop-exporter.yml"
PINS: Final = "/sys/fs/bpf/netatop-exporter"

BRIEF: Final = "Prometheus exporter of network traffic by process"
ABOUT: Final = (
    "counts every IP packet that a socket of this host sends or receives, by eBPF programs in the "
    "kernel, and serves the counters for Prometheus: packets and bytes per process, thread, "
    "socket, group of processes, container and IP address, for TCP, UDP, ICMP and the rest; and "
    "what could not be identified, and why. Nothing is sampled. The layer is IP: headers of IP and "
    "transport are counted, those of the link are not."
)
STATUS: Final = (
    ("0", "All is well."),
    ("1", "The kernel or the host does not permit it."),
    ("2", "Wrong usage, or a mistake in the configuration file; a restart does not mend it."),
)
SIGNALS: Final = (
    ("SIGTERM, SIGINT", "The end, with status 0. What --pin-path names goes on counting."),
    ("SIGHUP", "Read the configuration file again. A file with a mistake changes nothing."),
)
FILES: Final = (
    (FILE, f"What the service reads: {NAME}(5)."),
    (f"/etc/default/{NAME}", "ARGS, more flags for the service."),
    (PINS, "Where the service's counters are, in a bpf file system, from one run to the next."),
    (f"/var/log/{NAME}/exits.jsonl", "Finished processes, if the configuration asks for it."),
)
ENVIRONMENT: Final = (
    ("NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID", "Whom to tell how it goes: sd_notify(3)."),
    ("LISTEN_FDS, LISTEN_PID", "The sockets of socket activation: sd_listen_fds(3)."),
    ("BCC_KERNEL_SOURCE", "Kernel headers for --loader bcc."),
)
EXAMPLES: Final = (
    ("Serve on 127.0.0.1:10048 until Ctrl-C:", NAME),
    ("Count for ten seconds and print:", f"{NAME} once --seconds 10"),
    ("Who is using the network now, while another one serves:", f"{NAME} top"),
    ("Check a configuration file:", f"{NAME} check-config --config.file {FILE}"),
    ("Remove what the service has left in the kernel:", f"{NAME} detach --pin-path {PINS}"),
)
EXAMPLE: Final = """\
groups:
  - name: "{{.Comm}} of {{.Username}}"
    comm: [rsync, curl]
    threads: true
  - name: "jobs of {{.Namespace}}"
    namespace: ["batch-.*"]
    container_labels: false
exit_log:
  format: json
limits:
  processes: 1009
"""


def main(directory: str) -> None:
    """Write both pages."""
    for section, lines in ((1, _program()), (5, _file())):
        text = "\n".join((*_head(section), *lines)) + "\n"
        Path(directory, f"{NAME}.{section}").write_text(text)


def _program() -> Iterator[str]:
    """Yield the first page."""
    whole, commands = arguments.parser()
    yield from _section("Name", f"{_text(NAME)} \\- {_text(BRIEF)}")
    yield ".SH SYNOPSIS"
    for number, (name, parser) in enumerate(commands.items()):
        word = f"[{name}]" if name == "serve" else name
        operands = [_usage(a) for a in parser._actions if not a.option_strings]
        words = " ".join((_bold(NAME), _text(word), f"[{_italic('flag')} ...]", *operands))
        yield from ((".br",) if number else ())
        yield words
    yield from _section("Description", f"{_bold(NAME)} {_text(ABOUT)}")
    yield ".SH COMMANDS"
    for name, parser in commands.items():
        yield from (f".SS {_text(name)}", _text(parser.description or ""))
        for group in parser._action_groups:
            actions = group._group_actions
            shown = [a for a in actions if not isinstance(a, argparse._HelpAction)]
            for action in shown:
                yield from _item(_usage(action), _help(parser, action))
    for action in whole._actions:
        if isinstance(action, argparse._VersionAction):
            yield from (".SS Instead of a command", *_item(_usage(action), _help(whole, action)))
    for title, entries in (
        ("Exit status", STATUS),
        ("Signals", SIGNALS),
        ("Files", FILES),
        ("Environment", ENVIRONMENT),
    ):
        yield f".SH {title.upper()}"
        for word, meaning in entries:
            yield from _item(_bold(word), _text(meaning))
    yield ".SH EXAMPLES"
    for number, (meaning, command) in enumerate(EXAMPLES):
        yield from ((".PP",) if number else ())
        yield from (_text(meaning), *_verbatim(command))
    yield from _section("See also", f"{_reference(NAME, 5)}, {_reference('atop', 1)}")


def _file() -> Iterator[str]:
    """Yield the fifth page."""
    yield from _section("Name", f"{_text(NAME)}.yml \\- {_text(f'configuration of {NAME}')}")
    yield from _section(
        "Description",
        _text(
            "How processes are named and how many series there may be, in YAML. The file may be "
            "empty, and a key may be left out unless it says otherwise. It is strict: a key that "
            "is not known, a number in quotes, yes for true, an alias are mistakes, all of which "
            f"'{NAME} check-config' tells at once, with line and column. 'systemctl reload "
            f"{NAME}', or SIGHUP, applies it without losing a count. What the kernel programs are "
            "loaded for takes a restart."
        ),
    )
    yield ".SH KEYS"
    yield from _keys(Settings)
    yield from (".SH EXAMPLE", *_verbatim(EXAMPLE))
    yield ".SH FILES"
    yield from _item(_bold(FILE), _text("The service's file."))
    yield from _item(
        _bold(f"/usr/share/doc/{NAME}/examples/{NAME}.yml"),
        _text("Every key, with examples and what they are for."),
    )
    yield from _section("See also", _reference(NAME, 1))


def _keys(section: type[Any]) -> Iterator[str]:
    """Yield the keys of a mapping, and below each those of the mapping that it holds."""
    for field in dataclasses.fields(section):
        kind, said = field.metadata["kind"], field.metadata["help"]
        inner = kind._kind if isinstance(kind, Several) else kind
        accepted = (
            ("a mapping" if inner is kind else "a list of mappings")
            if isinstance(inner, Section)
            else kind.accepted
        )
        default = ""
        if field.default is dataclasses.MISSING:
            default = "; it must be there"
        elif isinstance(field.default, bool | int | str) and field.default != "":
            default = f"; default: {str(field.default).lower()}"
        yield from _item(_bold(field.name), _text(f"{said} Accepted is {accepted}{default}."))
        if isinstance(inner, Section):
            yield from (".RS", *_keys(inner._cls), ".RE")


def _head(section: int) -> tuple[str, ...]:
    at = int(os.environ.get("SOURCE_DATE_EPOCH", "0")) or None
    day = dt.datetime.fromtimestamp(at, dt.UTC) if at else dt.datetime.now(dt.UTC)
    title = f"{NAME.upper()}".replace("-", "\\-")
    return (
        '.\\" Written by deploy/man/pages.py from what --help and the settings say.',
        f'.TH {title} {section} {day:%Y-%m-%d} "{NAME} {__version__}"',
        ".nh",
        ".ad l",
    )


def _section(title: str, *lines: str) -> tuple[str, ...]:
    return (f".SH {title.upper()}", *lines)


def _item(head: str, text: str) -> tuple[str, ...]:
    return (".TP", head, text)


def _verbatim(text: str) -> tuple[str, ...]:
    return (".RS 4", ".nf", *map(_text, text.rstrip("\n").split("\n")), ".fi", ".RE")


def _usage(action: argparse.Action) -> str:
    """Return a flag, or an argument, as it is typed."""
    value = ""
    if action.nargs != 0:
        named = action.metavar if isinstance(action.metavar, str) else None
        value = named or "|".join(map(str, action.choices or ())) or action.dest.upper()
    if not action.option_strings:
        return _italic(f"[{value}]" if action.nargs == "?" else value)
    flags = ", ".join(map(_bold, action.option_strings))
    if not value:
        return flags
    return f"{flags} [{_italic(value)}]" if action.nargs == "?" else f"{flags} {_italic(value)}"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return what --help says of it, defaults included."""
    said = parser._get_formatter()._expand_help(action)
    return _text(f"{said[:1].upper()}{said[1:]}.")


def _reference(name: str, section: int) -> str:
    return f"{_bold(name)}({section})"


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_text(text)}\\fR"


def _text(text: str) -> str:
    """Return text that means itself to troff, whatever is in it."""
    escaped = text.strip("\n").replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    escaped = escaped.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    lines = (
        f"\\&{line}" if line.startswith((".", "\\(aq")) else line for line in escaped.split("\n")
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
