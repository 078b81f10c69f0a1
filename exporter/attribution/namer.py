# SPDX-License-Identifier: Apache-2.0
"""A process's group: by the user's rules, else by where it runs, else its command."""

from __future__ import annotations

import functools
import logging
import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from exporter.attribution.containers import place
from exporter.model import ZERO, Group, TaskRecord, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from exporter.config.expression import Expression
    from exporter.config.settings import Rule, Settings
    from exporter.config.template import Template
    from exporter.model import LifeKey

log = logging.getLogger(__name__)

UNKNOWN: Final = "unknown"
"""The label of what there is, or may have been, and nobody could tell."""
UNNAMED: Final = "unnamed"
"""The group of processes that have given themselves no name at all."""
SHORT_ID: Final = 12
"""Digits of a container's id, as docker prints it."""
MAX_NAME: Final = 128
"""Characters of a group's name: a template may repeat what a program says of itself."""
ID: Final = re.compile("[0-9a-f]{64}")
SERVICE: Final = ".service"
UNSEEN: Final = TaskRecord(0, 0, 0, 0, "", 0, 0, 0, 0, 0, ZERO)
"""A process that nobody has looked at."""
MOST_MADE: Final = 10_000
RESERVED: Final = re.compile(r"other_*")


class Names(Protocol):
    """What a container is called: exporter.pods.Names."""

    @property
    def container(self) -> str: ...  # noqa: D102
    @property
    def pod(self) -> str: ...  # noqa: D102
    @property
    def namespace(self) -> str: ...  # noqa: D102


class Pods(Protocol):
    """Who knows names: exporter.pods.Pods."""

    generation: int

    def refresh(self) -> None: ...  # noqa: D102
    def find(self, container_id: str, pod_uid: str) -> Names | None: ...  # noqa: D102


class Sources(NamedTuple):
    """Where names come from."""

    cgroup_path: Callable[[int], str]
    """By a cgroup's id; empty if it is gone."""
    executable: Callable[[int, int], str]
    """By pid and start, in nanoseconds since boot; as the next two."""
    command_line: Callable[[int, int], str]
    legacy_cgroups: Callable[[int, int], tuple[str, ...]]
    user: Callable[[int], str]
    pods: Pods
    has_legacy_cgroups: bool
    """A container's cgroup may be in a version 1 hierarchy."""


class Named(NamedTuple):
    """What is known of a process beside its record."""

    group: Group
    container: Group
    """Where it is, whatever its group; without a name."""
    unit: str
    cgroup: str
    threads: bool
    sockets: bool
    """Whether its threads and its sockets are shown."""


class _Kept(NamedTuple):
    """A decision, and what it was made of."""

    facts: tuple[str, int, int]
    """Command name, user and cgroup: what of a process can change and be seen."""
    generation: int
    """Of the pods' names if one was missing, else -1."""
    named: Named


class Namer:
    """Decides when a process is new or has changed. Not safe for threads."""

    def __init__(self, settings: Settings, sources: Sources) -> None:
        self._settings = settings
        self._sources = sources
        self._templates = [rule.name for rule in settings.groups if rule.name]
        self._made: set[str] = set()
        """Names that rules have made."""
        self._kept: dict[int, _Kept] = {}
        """By identity."""
        self._executables: dict[int, tuple[str, str]] = {}
        """With the command name, which says when there may be another one."""

    def name(self, task: TaskRecord) -> Named:
        """Return what is known of a process."""
        facts = (task.name, task.uid, task.cgroup_id)
        kept = self._kept.get(task.identity)
        if kept and kept.generation != -1:
            self._sources.pods.refresh()  # which looks once in a while
        if (
            kept is None
            or kept.facts != facts
            or kept.generation not in {-1, self._sources.pods.generation}
        ):
            kept = self._look(task, facts)
            self._kept[task.identity] = kept
        return kept.named

    def _look(self, task: TaskRecord, facts: tuple[str, int, int]) -> _Kept:
        try:
            candidate = _Candidate(task, self._sources)
            missing = self._sources.pods.generation if candidate.names_missing else -1
            return _Kept(facts, missing, self._decide(candidate))
        except Exception:  # one process that can't be named must not cost all others theirs
            log.exception("pid %d: its group can't be found; it is in its command's", task.pid)
            where = Group("", UNKNOWN)
            group = where._replace(name=legal(task.name))
            return _Kept(facts, -1, Named(group, where, "", "", threads=False, sockets=False))

    def group_of(self, key: LifeKey) -> Group:
        """Return the group of processes of which no more is known: nothing that /proc would say."""
        return self._look(UNSEEN._replace(**key._asdict()), key).named.group

    def executable(self, task: TaskRecord) -> str:
        """Return the path of a process's executable; empty if it can't be known."""
        known = self._executables.get(task.identity)
        if known is None or known[0] != task.name:
            known = task.name, self._sources.executable(task.pid, task.start_ns)
            self._executables[task.identity] = known
        return known[1]

    @property
    def shown(self) -> frozenset[str]:
        """Return the kinds of which any are shown."""
        return frozenset(self._settings.series_limits)

    @property
    def shows_strangers(self) -> bool:
        """Tell whether sockets are shown that nobody is known to use."""
        return self._settings.sockets

    def keep(self, identities: Container[int]) -> None:
        """Drop what is known of all other processes."""
        for table in (self._kept, self._executables):
            for identity in [identity for identity in table if identity not in identities]:
                del table[identity]

    def _decide(self, candidate: _Candidate) -> Named:
        settings, container = self._settings, candidate.container
        name, labels, threads, sockets = "", container, settings.threads, settings.sockets
        by_itself = True
        for rule in settings.groups:
            matches = _matches(rule, candidate)
            if matches is not None:
                if rule.name:
                    name = _render(rule.name, candidate, matches)
                    by_itself = not rule.name.variables <= OF_OTHERS
                if not rule.container_labels:
                    labels = Group("")
                threads, sockets = threads or rule.threads, sockets or rule.sockets
                break
        name = name.strip()
        if name and len(self._made) < MOST_MADE:
            self._made.add(name)
        name = name or self._default(candidate)
        if name.endswith(SERVICE) and name != candidate.unit and by_itself:
            name += "_"
        return Named(
            group=labels._replace(name=legal(name)),
            container=container,
            unit=candidate.unit,
            cgroup=candidate.path,
            threads=threads,
            sockets=sockets,
        )

    def _default(self, candidate: _Candidate) -> str:
        """Return what the group is called if no rule says so."""
        if candidate.default:
            return candidate.default
        # Any program chooses its name, but not that of a service or of a rule's group.
        name = printable(candidate.task.name).strip()
        taken = name in self._made or any(t.can_be(name) for t in self._templates)
        return f"{name}_" if taken else name


class _Candidate:
    """A process on its way to a group; what costs something is looked up when it is asked for."""

    def __init__(self, task: TaskRecord, sources: Sources) -> None:
        self.task = task
        self._sources = sources
        self.path = printable(sources.cgroup_path(task.cgroup_id))
        self.place = place(self.path)
        if sources.has_legacy_cgroups and not self.place.container_id:
            self._look_at_legacy()
        self.container, self.names_missing = self._container()

    @functools.cached_property
    def executable(self) -> str:
        """Return the path of its executable."""
        return self._sources.executable(self.task.pid, self.task.start_ns)

    @functools.cached_property
    def command_line(self) -> str:
        """Return its words, joined by spaces."""
        return self._sources.command_line(self.task.pid, self.task.start_ns)

    @property
    def unit(self) -> str:
        """Return the systemd service; a user's own with the user before it."""
        return self.place.qualified_unit

    @property
    def user(self) -> str:
        """Return its user's name."""
        return self._sources.user(self.task.uid)

    @property
    def default(self) -> str:
        """Return the container's or pod's name, else the service's; empty if there is none."""
        if not self.place.container_id:
            return self.unit
        if self.names_missing and self.container.pod != UNKNOWN:
            return self.container.pod
        return self.container.container

    def _look_at_legacy(self) -> None:
        """Find a container that is in no version 2 cgroup of its own, or a unit."""
        for path in self._sources.legacy_cgroups(self.task.pid, self.task.start_ns):
            found = place(path)
            if found.container_id or (found.unit and not self.place.unit):
                self.path, self.place = path, found
            if found.container_id:
                return

    def _container(self) -> tuple[Group, bool]:
        """Return the labels, and whether a name is missing."""
        where = self.place
        if not where.container_id:
            # A cgroup that is gone, or whose path can't be read, may have been a container's.
            return Group("", "" if self.path else UNKNOWN), False
        # The kubelet knows what the host has made; any id can be claimed below that.
        names = None if where.within else self._sources.pods.find(where.container_id, where.pod_uid)
        is_pod = bool(where.pod_uid or names)
        short = where.container_id if where.runtime == "lxc" else where.container_id[:SHORT_ID]
        if where.within:
            outer = where.within[:SHORT_ID] if ID.fullmatch(where.within) else where.within
            short = f"{outer}/{short}"
        group = Group(
            "",
            container=(names and names.container) or short,
            pod=names.pod if names else UNKNOWN if is_pod else "",
            namespace=names.namespace if names else UNKNOWN if is_pod else "",
        )
        return group, is_pod and not (names and names.container)


VALUES: Final[Mapping[str, Callable[[_Candidate], str]]] = {
    "Comm": lambda candidate: candidate.task.name,
    "ExeBase": lambda candidate: candidate.executable.rpartition("/")[2],
    "ExeFull": lambda candidate: candidate.executable,
    "Username": lambda candidate: candidate.user,
    "PID": lambda candidate: str(candidate.task.pid),
    "Cgroup": lambda candidate: candidate.path,
    "Unit": lambda candidate: candidate.unit,
    "Container": lambda candidate: candidate.container.container,
    "Pod": lambda candidate: candidate.container.pod,
    "Namespace": lambda candidate: candidate.container.namespace,
}
"""What the variables of a template stand for."""
OF_OTHERS: Final = frozenset(("Username", "PID", "Cgroup", "Unit", "Pod", "Namespace"))
"""Those of them that a program can't choose by itself."""


def _render(template: Template, candidate: _Candidate, matches: Mapping[str, str]) -> str:
    return template.render(
        {
            variable: VALUES[variable](candidate)
            if variable in VALUES
            else matches.get(variable.removeprefix("Matches."), "")
            for variable in template.variables
        }
    )


def _matches(rule: Rule, candidate: _Candidate) -> Mapping[str, str] | None:
    """Return the named groups of a rule that fits; None if it does not. Cheap questions first."""
    task, found = candidate.task, dict[str, str]()
    fits = (
        (not rule.comm or task.name in rule.comm)
        and (not rule.user or bool({candidate.user, str(task.uid)} & {*rule.user}))
        and _fits_place(rule, candidate, found)
        and (not rule.exe or _is_executable(rule.exe, candidate.executable))
        and _fits_command_line(rule, candidate, found)
    )
    return found if fits else None


def _fits_place(rule: Rule, candidate: _Candidate, found: dict[str, str]) -> bool:
    where = candidate.container
    return (
        _any(rule.unit, candidate.unit, found, whole=True)
        and _any(rule.container, where.container, found, whole=True)
        and _any(rule.pod, where.pod, found, whole=True)
        and _any(rule.namespace, where.namespace, found, whole=True)
        and _any(rule.cgroup, candidate.path, found, whole=False)
    )


def _fits_command_line(rule: Rule, candidate: _Candidate, found: dict[str, str]) -> bool:
    if rule.cmdline and not candidate.command_line:
        return False  # what there is not fits nothing, as below
    for expression in rule.cmdline:
        groups = expression.search(candidate.command_line)
        if groups is None:
            return False
        found.update(groups)
    return True


def _any(
    expressions: Sequence[Expression], text: str, found: dict[str, str], *, whole: bool
) -> bool:
    """Tell whether none is asked for or one fits, and take over what it has named."""
    if not expressions:
        return True
    if not text:
        return False  # what there is not fits nothing, not even `.*`
    for expression in expressions:
        groups = expression.fullmatch(text) if whole else expression.search(text)
        if groups is not None:
            found.update(groups)
            return True
    return False


def _is_executable(wanted: Sequence[str], path: str) -> bool:
    return bool(path) and (path in wanted or path.rpartition("/")[2] in wanted)


def legal(name: str) -> str:
    """Return a name that can be shown and is nobody else's: `other` is the name of the rest."""
    name = printable(name)[:MAX_NAME].strip() or UNNAMED
    return f"{name}_" if RESERVED.fullmatch(name) else name
