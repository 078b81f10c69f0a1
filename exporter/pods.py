# SPDX-License-Identifier: Apache-2.0
"""Names of pods and their containers, from the names of the kubelet's log files.

Nothing is asked of Kubernetes or a container runtime, no file is opened: whoever may list two
directories knows who runs here. The kubelet (pkg/kubelet/kuberuntime) names

- a link POD_NAMESPACE_CONTAINER-ID.log for each container; a name of more than 255 bytes is cut,
  and then its id may be missing;
- a directory NAMESPACE_POD_UID for each pod, with one for each container in it.

Neither pods nor namespaces can have an underscore in their names.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LINK: Final = re.compile(
    r"(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<container>.+)-(?P<id>[0-9a-f]{64})\.log"
)
DIRECTORY: Final = re.compile(r"(?P<namespace>[^_]+)_(?P<pod>[^_]+)_(?P<uid>[0-9a-f-]{32,36})")
REST_SECONDS: Final = 1.0
"""A directory is looked at again for a name that is missing, but not more often than this."""


class Names(NamedTuple):
    """Of a container; empty where unknown."""

    container: str
    pod: str
    namespace: str


class Pods:
    """Lists the directories when a name is missing and they have changed. Not safe for threads."""

    def __init__(self, container_logs: str, pod_logs: str) -> None:
        self._containers = _Listing(container_logs, _container)
        self._pods = _Listing(pod_logs, _pod)
        self._looked_at = -REST_SECONDS
        self.generation = 0
        """Counts up when there may be something to learn."""

    def find(self, container_id: str, pod_uid: str) -> Names | None:
        """Return the names of a container, or of its pod alone; None if neither is known."""
        if container_id not in self._containers.known:
            self.refresh()
        return self._containers.known.get(container_id) or self._pods.known.get(pod_uid)

    def refresh(self) -> None:
        """List what has changed, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._looked_at >= REST_SECONDS:
            self._looked_at = now
            changed = [self._containers.refresh(), self._pods.refresh()]
            self.generation += any(changed)


class _Listing:
    """What the names in a directory say, by id."""

    def __init__(self, path: str, parse: Callable[[str], tuple[str, Names] | None]) -> None:
        self._path = path
        self._parse = parse
        self._changed_ns = 0
        self.known: dict[str, Names] = {}

    def refresh(self) -> bool:
        """List it if it has changed since the last time, and tell."""
        try:
            changed_ns = Path(self._path).stat().st_mtime_ns
            # What changed a moment ago may change again within one tick of the clock.
            if changed_ns == self._changed_ns and changed_ns < time.time_ns() - 10**9:
                return False
            names = (path.name for path in Path(self._path).iterdir())
            self.known = dict(filter(None, map(self._parse, names)))
        except (OSError, ValueError):
            return False
        self._changed_ns = changed_ns
        return True


def _container(name: str) -> tuple[str, Names] | None:
    match = LINK.fullmatch(name)
    return (match["id"], Names(*match.group("container", "pod", "namespace"))) if match else None


def _pod(name: str) -> tuple[str, Names] | None:
    match = DIRECTORY.fullmatch(name)
    return (match["uid"], Names("", *match.group("pod", "namespace"))) if match else None
