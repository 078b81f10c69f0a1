# SPDX-License-Identifier: Apache-2.0
"""The seam between the kernel side and everything above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from exporter.model import Connection, Counters, Network, ProgramStatus, Snapshot, SocketWalk


class Tracer(Protocol):
    """Attached programs and their tables. Not safe for threads: hold a lock."""

    loader: str
    """How it was loaded: `core` or `bcc`."""
    layout: str
    """Which kernel object it is: `main`, or `portable`."""
    libbpf_version: str
    owners: str
    """How a socket's user is known beside its creation: `tracepoint`, `fentry`, or `creation`.

    Of the portable object: `tracepoint`, `kprobe`, or `cgroup`.
    """

    @property
    def losses(self) -> tuple[str, ...]:
        """Return what this kernel, or this object, can't tell: each a sentence for people."""
        ...

    @property
    def answers(self) -> bool:
        """Tell whether getsockopt(2) is answered as if netatop were loaded."""
        ...

    def settle(self, *, list_sockets: bool = False) -> SocketWalk:
        """Move what waits in the sockets to the tasks. Raises MapReadError.

        list_sockets: list all of them this time, whatever the tracer was made for.
        """
        ...

    def read(self) -> Snapshot:
        """Read all tables. Raises MapReadError."""
        ...

    def programs(self) -> tuple[ProgramStatus, ...]:
        """Return the state of each program. Raises MapReadError."""
        ...

    def tend(self) -> None:
        """Follow network namespaces as they come and go; to be called about once a second."""
        ...

    def forget(self, identities: Iterable[int]) -> None:
        """Remove the records of finished tasks from the kernel. Raises MapReadError."""
        ...

    def connections(self, wanted: Network | None = None) -> Iterable[Connection]:
        """Return those of addresses behind this host, or of a prefix. Raises MapReadError."""
        ...

    def forget_host(self, address: str, device: str) -> Counters:
        """Remove an IP address; return what it had in the end. Raises MapReadError."""
        ...

    @property
    def keeps(self) -> bool:
        """Tell whether the tables outlive this process, and with them what is remembered."""
        ...

    def recall(self) -> bytes:
        """Return what was remembered last, by this process or one before it; empty: nothing."""
        ...

    def remember(self, memory: bytes) -> None:
        """Keep this with the tables, in place of what was kept before."""
        ...

    def cgroup_path(self, cgroup_id: int) -> str:
        """Return where a cgroup is in the version 2 hierarchy; empty if it is gone."""
        ...

    def close(self) -> None:
        """Detach and free everything; may be called again."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
