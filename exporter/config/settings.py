# SPDX-License-Identifier: Apache-2.0
"""Everything that can be said in the configuration file, with its default and its description.

deploy/netatop-exporter.yml shows it all; the JSON schema is made from this.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from exporter.config.expression import Expression
from exporter.config.kinds import (
    Conflict,
    Path,
    Section,
    Several,
    Switch,
    Text,
    Whole,
    one_of,
    option,
    shown,
    word,
)
from exporter.config.remotes import BUILT_IN, MOST, AddressClass, Remotes, remotes
from exporter.config.template import ACCEPTED, Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_SERIES: Final = 100_000
COMMAND_BYTES: Final = 15
"""That is all the kernel keeps of a command name (include/linux/sched.h, TASK_COMM_LEN)."""


def _command(text: str) -> str:
    if not 0 < len(text.encode()) <= COMMAND_BYTES:
        raise ValueError
    return text


def _executable(text: str) -> str:
    if not text or text.endswith("/") or ("/" in text and not text.startswith("/")):
        raise ValueError
    return text


def _path(text: str) -> str:
    if not PurePosixPath(text).is_absolute():
        raise ValueError
    return text


def _device(text: str) -> str:
    """Take what the kernel does (net/core/dev.c, dev_valid_name)."""
    if not 0 < len(text.encode()) < 16 or text in {".", ".."} or re.search(r"[/:\s]", text):
        raise ValueError
    return text


DEVICES: Final = Several(Text("the name of a network device, 1 to 15 bytes", _device))


def _socket(text: str) -> str:
    if len(os.fsencode(text)) > 107:
        raise ValueError
    return _path(text)


WORDS: Final = Several(Text("text that is not empty", word, minLength=1))
COMMANDS: Final = Several(
    Text(f"a command name of 1 to {COMMAND_BYTES} bytes, as ps -o comm prints it", _command)
)
EXECUTABLES: Final = Several(Text("an absolute path, or a file's name", _executable))
EXPRESSIONS: Final = Several(Text("a regular expression (RE2)", Expression.parse))
SOCKET: Final = Text("an absolute path of up to 107 bytes", _socket, pattern="^/")
DIRECTORY: Final = Text("an absolute path", _path, pattern="^/")
NAME: Final = Text(f"text that is not empty, in which may stand {ACCEPTED}", Template.parse)


def _limit(what: str) -> int:
    text = f"The busiest {what} have series of their own; the rest is summed as `other`."
    return option(Whole(0, MAX_SERIES), text, 500)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many of a kind have series of their own."""

    groups: int = option(
        Whole(1, MAX_SERIES),
        "Groups that have series of their own, the first to come: they never go. What comes after "
        "them is in the group `other`.",
        500,
    )
    processes: int = _limit("processes")
    threads: int = _limit("threads")
    sockets: int = _limit("sockets")
    hosts: int = _limit("IP addresses")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """Where the names of pods are, without asking Kubernetes."""

    container_logs: str = option(
        DIRECTORY,
        "The kubelet's links to the logs of containers: their names tell pod, namespace and "
        "container. They are listed, never opened.",
        "/var/log/containers",
    )
    pod_logs: str = option(
        DIRECTORY,
        "The kubelet's directories of logs: their names tell pod and namespace, where there is no "
        "link.",
        "/var/log/pods",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitLog:
    """A durable log of finished processes."""

    format: str = option(
        one_of("json", "netatop"),
        "json: one object a line, rotated; netatop: that of netatopd, for programs that read it.",
        "json",
    )
    path: str = option(
        DIRECTORY,
        "The file. Default: /var/log/netatop-exporter/exits.jsonl, or /run/netatop.log.",
        "",
    )
    max_bytes: int = option(
        Whole(1000, 1 << 34), "A file of this size is put away; of json alone.", 100_000_000
    )
    max_hours: int = option(
        Whole(1, 100_000), "So is one that is so many hours old; of json alone.", 24
    )
    keep: int = option(Whole(0, 1000), "So many files are kept, compressed; of json alone.", 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compat:
    """Who is answered as if another program were here."""

    netatop: bool = option(
        Switch(), "Programs that ask the kernel module netatop, as by --compat.netatop.", False
    )
    netatop_bpf: str = option(
        SOCKET,
        "Programs that ask netatop-bpf, at this socket, as by --compat.netatop-bpf. Default: none.",
        "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Traffic by IP address."""

    devices: tuple[str, ...] = option(
        DEVICES,
        "Addresses that these network devices lead to are behind this host: what it forwards for "
        "them is counted, as they see it.",
        (),
    )
    addresses: int = option(
        Whole(1, 1 << 17),
        "How many are counted, own ones and those behind this host each; others together.",
        4099,
    )
    connections: int = option(
        Whole(0, 1 << 22), "How many of addresses behind this host are counted.", 65536
    )
    idle_minutes: int = option(
        Whole(1, 100_000), "An address that nobody has used for so long is forgotten.", 15
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which processes are a group. A process must satisfy every key that is there."""

    name: Template | None = option(
        NAME,
        "The group's name. Without it: the container or pod, else the service, else the command.",
        None,
    )
    comm: tuple[str, ...] = option(COMMANDS, "The command name is one of these.", ())
    exe: tuple[str, ...] = option(
        EXECUTABLES,
        "The executable is one of these: its path, or what follows the last slash.",
        (),
    )
    cmdline: tuple[Expression, ...] = option(
        EXPRESSIONS, "All of these are found in the command line, its words joined by spaces.", ()
    )
    user: tuple[str, ...] = option(WORDS, "The user is one of these: name or number.", ())
    cgroup: tuple[Expression, ...] = option(
        EXPRESSIONS, "One of these is found in the path of the cgroup.", ()
    )
    unit: tuple[Expression, ...] = option(
        EXPRESSIONS, "One of these is the systemd service, nginx.service.", ()
    )
    container: tuple[Expression, ...] = option(
        EXPRESSIONS, "One of these is the container's name, or the beginning of its id.", ()
    )
    pod: tuple[Expression, ...] = option(EXPRESSIONS, "One of these is the pod's name.", ())
    namespace: tuple[Expression, ...] = option(
        EXPRESSIONS, "One of these is the pod's namespace.", ()
    )
    container_labels: bool = option(
        Switch(),
        "Whether the group is one for each container; false: one for all of them, without the "
        "labels container, pod and namespace.",
        True,
    )
    threads: bool = option(Switch(), "Whether its threads have series.", False)
    sockets: bool = option(Switch(), "Whether its sockets have series.", False)

    @property
    def conditions(self) -> tuple[tuple[object, ...], ...]:
        """Return what a process must satisfy."""
        return (
            self.comm,
            self.exe,
            self.cmdline,
            self.user,
            self.cgroup,
            self.unit,
            self.container,
            self.pod,
            self.namespace,
        )

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Return those whose named groups a name may repeat."""
        return (
            *self.cmdline,
            *self.cgroup,
            *self.unit,
            *self.container,
            *self.pod,
            *self.namespace,
        )

    def conflicts(self) -> Iterator[Conflict]:
        """Tell of a name that repeats what no expression finds, and of what excludes each other."""
        names = {name for expression in self.expressions for name in expression.names}
        for variable in sorted(self.name.variables if self.name else ()):
            _, _, wanted = variable.partition(".")
            if wanted and wanted not in names:
                named = ", ".join(sorted(names)) or "none"
                yield Conflict(
                    ("name",), f"{{{{.{variable}}}}}", f"a group named in an expression: {named}"
                )
        if self.unit and (self.container or self.pod or self.namespace):
            yield Conflict(
                ("unit",), "it with container, pod or namespace", "one: none has the other"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole file."""

    groups: tuple[Rule, ...] = option(
        Several(Section(Rule)),
        "Which processes are a group; the first rule that fits decides.",
        (),
    )
    threads: bool = option(
        Switch(), "Whether the threads of all groups have series, as by --collector.threads.", False
    )
    sockets: bool = option(
        Switch(), "Whether the sockets of all groups have series, as by --collector.sockets.", False
    )
    remotes: bool = option(
        Switch(),
        "Whether groups have series by class of remote address, as by --collector.remotes.",
        False,
    )
    address_classes: tuple[AddressClass, ...] = option(
        Several(Section(AddressClass)),
        "Classes of remote addresses beside `loopback`, `lan` and `internet`, which is the rest.",
        (),
    )
    hosts: Hosts | None = option(
        Section(Hosts),
        "Count by IP address, as by --collector.hosts. Left out: it is not counted.",
        None,
    )
    exit_log: ExitLog | None = option(
        Section(ExitLog), "Log finished processes to a file. Left out: they are not.", None
    )
    compat: Compat = option(
        Section(Compat), "Who is answered as if another program were here.", Compat()
    )
    limits: Limits = option(Section(Limits), "How many have series of their own.", Limits())
    kubernetes: Kubernetes = option(
        Section(Kubernetes), "Where the names of pods are.", Kubernetes()
    )

    @property
    def shows_threads(self) -> bool:
        """Tell whether the threads of any group have series."""
        return self.threads or any(rule.threads for rule in self.groups)

    @property
    def shows_sockets(self) -> bool:
        """Tell whether the sockets of any group have series."""
        return self.sockets or any(rule.sockets for rule in self.groups)

    @property
    def classes(self) -> Remotes | None:
        """Return the classes of remote addresses; None if they are not told apart."""
        return remotes(self.address_classes) if self.remotes else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of classes of remote addresses by number; none if they are not told."""
        return self.classes.names if self.classes else ()

    @property
    def series_limits(self) -> Mapping[str, int]:
        """Return the limits of the kinds that have series of their own."""
        limits = self.limits
        return {
            "process": limits.processes,
            **({"thread": limits.threads} if self.shows_threads else {}),
            **({"socket": limits.sockets} if self.shows_sockets else {}),
            **({"host": limits.hosts} if self.hosts else {}),
        }

    def conflicts(self) -> Iterator[Conflict]:
        """Tell of rules that can never fit, and of classes that are told twice."""
        yield from self._rule_conflicts()
        yield from self._class_conflicts()

    def _rule_conflicts(self) -> Iterator[Conflict]:
        for number, rule in enumerate(self.groups[:-1]):
            if not any(rule.conditions):
                yield Conflict(
                    ("groups", number), "a rule that every process satisfies", "it as the last one"
                )
        seen: dict[tuple[object, ...], int] = {}
        for number, rule in enumerate(self.groups):
            first = seen.setdefault(rule.conditions, number)
            if first != number and any(rule.conditions):
                yield Conflict(
                    ("groups", number),
                    f"what groups[{first}] asks for already",
                    "another condition",
                )

    def _class_conflicts(self) -> Iterator[Conflict]:
        names: set[str] = set()
        prefixes: dict[str, str] = {}
        for number, one in enumerate(self.address_classes):
            if one.name in names:
                place: Path = ("address_classes", number, "name")
                yield Conflict(place, f"{shown(one.name)} again", "a name of its own")
            names.add(one.name)
            for index, prefix in enumerate(one.addresses):
                if prefix in prefixes:
                    place = ("address_classes", number, "addresses", index)
                    what = f"{prefix}, which is in the class {shown(prefixes[prefix])} already"
                    yield Conflict(place, what, "each prefix once")
                prefixes[prefix] = one.name
        total = len({*BUILT_IN, *names})
        if total > MOST:
            what = f"{total} classes, {', '.join(BUILT_IN)} included"
            yield Conflict(("address_classes",), what, f"up to {MOST}")
