# SPDX-License-Identifier: Apache-2.0
"""Sockets that wait for clients: of TCP, with a name in the file system, or from systemd."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING, Final

from exporter.config.flags import Address
from exporter.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

QUEUE: Final = 512
"""Connections that wait to be accepted; the kernel has a limit of its own (net.core.somaxconn)."""
ANY_SIX: Final = "::"
UNIX_MODE: Final = 0o660
FIRST_HANDED: Final = 3
"""The first descriptor that systemd hands over (sd_listen_fds(3))."""
VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
ANOTHER: Final = "choose another address with --web.listen-address"


class Listener:
    """One such socket."""

    def __init__(self, sock: socket.socket, address: Address, *, owned: bool = True) -> None:
        self.socket = sock
        self.address = address
        """Where clients find it: with port 0, the port that the kernel chose."""
        path = address.path if owned else ""
        self._inode = os.stat(path).st_ino if path else 0  # noqa: PTH116 (as it was given)

    def close(self) -> None:
        """Listen no more; a name in the file system goes too, if it is still ours."""
        self.socket.close()
        if self._inode:
            remove(self.address.path, self._inode)


class Listeners(list[Listener]):
    """All of a server."""

    @classmethod
    def open(cls, addresses: Iterable[Address]) -> Self:
        """Listen on all of them. Raises ServeError."""
        made = cls()
        try:
            for address in addresses:
                made.append(_unix(address) if address.path else _tcp(address))
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def handed_over(cls) -> Self:
        """Take those that systemd has opened. Raises ServeError."""
        told = {name: os.environ.pop(name, "") for name in VARIABLES}
        count = told["LISTEN_FDS"]
        if told["LISTEN_PID"] != str(os.getpid()) or not count.isdigit() or int(count) < 1:
            message = (
                "--web.systemd-socket: found no sockets from systemd (LISTEN_FDS); accepted is a "
                "start by a socket unit: systemctl enable --now netatop-exporter.socket"
            )
            raise ServeError(message)
        return cls(_taken(FIRST_HANDED + number) for number in range(int(count)))

    def close(self) -> None:
        """Close all of them."""
        for listener in self:
            listener.close()


def _tcp(address: Address) -> Listener:
    try:
        family, host = _resolve(address)
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != ANY_SIX))
            made.bind((host, address.port))
            made.listen(QUEUE)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        message = f"cannot listen on {address}: {error.strerror or error}; {ANOTHER}"
        raise ServeError(message) from error
    return Listener(made, address._replace(port=int(made.getsockname()[1])))


def _resolve(address: Address) -> tuple[socket.AddressFamily, str]:
    """Return family and numeric address; without a host, one that serves both families."""
    if not address.host:
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, ANY_SIX
        return socket.AF_INET, "0.0.0.0"  # noqa: S104 (that is what was asked for)
    family, _, _, _, target = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )[0]
    return family, str(target[0])


def _unix(address: Address) -> Listener:
    try:
        make_way(address.path, "--web.listen-address")
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.bind(address.path)
            os.chmod(address.path, UNIX_MODE)  # noqa: PTH101
            made.listen(QUEUE)  # only now can anybody connect
            return Listener(made, address)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        message = f"cannot listen on {address}: {error.strerror or error}; {ANOTHER}"
        raise ServeError(message) from error


def _taken(descriptor: int) -> Listener:
    try:
        taken = socket.socket(fileno=descriptor)
        is_stream = taken.type == socket.SOCK_STREAM
        listens = is_stream and taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listens = False
    if not listens:
        message = (
            f"--web.systemd-socket: found something else at descriptor {descriptor}; accepted are "
            "listening stream sockets: ListenStream= with Accept=no"
        )
        raise ServeError(message)
    taken.set_inheritable(False)
    name = taken.getsockname()
    if taken.family == socket.AF_UNIX:
        return Listener(taken, Address(path=str(name)), owned=False)
    host = str(name[0])
    return Listener(taken, Address("" if host in {ANY_SIX, "0.0.0.0"} else host, int(name[1])))  # noqa: S104


def remove(path: str, inode: int) -> None:
    """Remove a socket's name, unless another one has put his there."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_ino == inode:  # noqa: PTH116 (as it was given)
            os.unlink(path)  # noqa: PTH108


def make_way(path: str, flag: str) -> None:
    """Remove a socket that nobody listens on. Raises OSError; ServeError if somebody does."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        message = (
            f"{flag}: {path}: found a file that is no socket; accepted is a name that is free, or "
            "a socket that is left over"
        )
        raise ServeError(message)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108
            return
        except BlockingIOError:
            pass  # somebody listens, and many wait
    message = (
        f"{flag}: {path}: another program answers there; accepted is one: stop it, or choose "
        f"another path with {flag}"
    )
    raise ServeError(message)
