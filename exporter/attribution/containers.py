# SPDX-License-Identifier: Apache-2.0
"""What the path of a cgroup says: container, pod, unit.

The forms are those that docker, containerd, CRI-O and podman write with either cgroup driver, alone
or under a kubelet, and systemd for its units. A path is no proof: who may make cgroups may choose
their names. So what a user or a container may have made is kept apart from what the host has made.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from exporter.model import printable

RUNTIMES: Final = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "nerdctl": "nerdctl",
}
"""By what their containers' cgroups are called."""
CONTAINER: Final = re.compile(
    rf"(?:(?P<runtime>{'|'.join(RUNTIMES)})[-:])?(?P<id>[0-9a-f]{{64}})(?:\.scope)?"
)
USER: Final = re.compile(r"(?P<owner>user-[0-9]+)\.slice")
"""What is below belongs to a user, but for one service, by which systemd runs it."""
MACHINE: Final = re.compile(r"(?:machine-(?P<id>.+)\.scope|systemd-nspawn@(?P<nspawn>.+)\.service)")
"""As systemd-machined and systemd-nspawn name them; virtual machines of libvirt too."""
RUNTIME_UNITS: Final = ("containerd.service", "crio.service", "docker.service", "kubelet.service")
"""Below these it is the runtime that makes cgroups; below any other unit, the unit itself does."""
LXC: Final = re.compile(r"lxc\.payload\.(?P<id>.+)")
POD: Final = re.compile(
    r"(?:.*-)?pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
)
"""The second form is that of a static pod: the hash of its configuration."""
ESCAPED: Final = re.compile(r"\\x([0-9a-f]{2})")


class Place(NamedTuple):
    """Where a process belongs; empty strings for what there is not."""

    runtime: str = ""
    """Also empty where the path does not tell it."""
    container_id: str = ""
    pod_uid: str = ""
    """With dashes; of a static pod 32 digits."""
    unit: str = ""
    """A systemd service, as systemctl prints it; of processes in no container."""
    within: str = ""
    """The user, `user-1000`, or the outer container, whose part of the hierarchy it is in."""

    @property
    def qualified_unit(self) -> str:
        """Return the service, with the user to whom it belongs if it is not the host's."""
        return f"{self.within}/{self.unit}" if self.unit and self.within else self.unit


NOWHERE: Final = Place()


def place(path: str) -> Place:
    """Return what a path in the hierarchy says; of containers in containers, the deepest."""
    reader = _Reader()
    for segment in _segments(path):
        reader.read(segment)
    return reader.place()


class _Reader:
    """Reads a path from the root on."""

    def __init__(self) -> None:
        self._parent = self._pod = ""
        self._container = NOWHERE
        self._unit = self._within = self._border = ""
        """What is below the border was made by whoever is named so: a container or a unit."""

    def read(self, segment: str) -> None:
        """Take in the next name."""
        if match := USER.fullmatch(segment):
            self._within = self._within or self._border or match["owner"]
        elif match := POD.fullmatch(segment):
            self._pod = match["uid"].replace("_", "-")
        elif match := CONTAINER.fullmatch(segment):
            # A bare number means something only where a runtime puts it.
            if match["runtime"] or POD.fullmatch(self._parent) or self._parent == "docker":
                runtime = RUNTIMES.get(match["runtime"] or self._parent, "")
                self._enter(Place(runtime, match["id"], self._pod))
        elif match := LXC.fullmatch(segment):
            self._enter(Place("lxc", match["id"]))
        elif match := MACHINE.fullmatch(segment):
            name = printable(unescape(match["id"] or match["nspawn"]))
            self._enter(Place("machine", name))
        elif segment.endswith((".service", ".scope")) and not self._border:
            self._enter_unit(segment)
        self._parent = segment

    def _enter(self, container: Place) -> None:
        self._within = self._within or self._border
        self._container = container
        self._border = container.container_id

    def _enter_unit(self, segment: str) -> None:
        name = printable(unescape(segment))
        is_users = name == f"{self._within.replace('-', '@')}.service"
        if not is_users and segment not in RUNTIME_UNITS:
            self._border = name
        if name.endswith(".service"):
            self._unit = name

    def place(self) -> Place:
        """Return what was found."""
        if self._container.container_id:
            return self._container._replace(within=self._within)
        is_users = self._unit == f"{self._within.replace('-', '@')}.service"
        within = "" if is_users else self._within  # that one is the host's
        return Place(unit=self._unit, within=within) if self._unit else NOWHERE


def _segments(path: str) -> list[str]:
    """Split, also the form SLICE:RUNTIME:ID that runc writes if it is told the wrong driver."""
    segments = []
    for segment in path.split("/"):
        slice_, colon, rest = segment.partition(".slice:")
        segments += [f"{slice_}.slice", rest] if colon else [segment]
    return segments


def unescape(unit: str) -> str:
    """Undo systemd's escapes of single bytes (systemd.unit(5), "String Escaping")."""
    raw = ESCAPED.sub(lambda match: chr(int(match[1], 16)), unit)
    try:
        return raw.encode("latin-1").decode()
    except UnicodeError:
        return unit
