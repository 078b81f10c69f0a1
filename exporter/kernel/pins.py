# SPDX-License-Identifier: Apache-2.0
"""A directory of a bpf file system in which everything outlives the process.

::

    PATH/                locked (flock(2)) by the exporter that uses it
        kernel/          what counts now; renamed to this when it is complete
            about        the Plan and the layouts that it was made with
            maps/ programs/ links/
        kernel-new/      being made, or taken over from kernel/
        state            what user space must remember: `Pins.save`

Texts are kept in tables of one entry: the file system holds nothing else. Renaming is atomic there
as elsewhere (kernel/bpf/inode.c), so each is there whole or not at all, whenever we are killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.errors import MapReadError, PinError
from exporter.kernel.holding import Descriptors
from exporter.kernel.kinds import MapType
from exporter.kernel.libbpf import describe, open_library
from exporter.kernel.mounts import mounts
from exporter.kernel.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

MOUNTINFO: Final = Path("/proc/self/mountinfo")
LOCKS: Final = Path("/proc/locks")


class Pins:
    """The directory, locked until it is closed."""

    def __init__(self, path: str) -> None:
        """Make it if need be and lock it. Raises PinError."""
        self._bpf = open_library()
        self.path = Path(path)
        self._check_place()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            message = f"--pin-path {path}: {error.strerror}; name a directory that root can write"
            raise PinError(message) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            other = _holder(os.fstat(self._lock).st_ino)
            os.close(self._lock)
            message = (
                f"--pin-path {path}: in use by another exporter{other}; stop that one, or choose "
                "another path"
            )
            raise PinError(message) from error
        self.current = Generation(self.path / "kernel")
        self.next = Generation(self.path / "kernel-new")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_place(self) -> None:
        place = self.path.resolve()
        found = [m for m in mounts(MOUNTINFO) if place.is_relative_to(m.point)]
        kind = max(found, key=lambda mount: len(mount.point)).kind if found else "nothing"
        if kind != "bpf":
            message = (
                f"--pin-path {self.path}: is on {kind}; accepted is a directory of a bpf file "
                "system: mount -t bpf bpf /sys/fs/bpf, and --pin-path /sys/fs/bpf/netatop-exporter"
            )
            raise PinError(message)

    def commit(self) -> None:
        """Put the next generation in the place of the current one."""
        self.current.remove()
        self.next.path.rename(self.current.path)

    def load(self) -> bytes:
        """Return what was saved last; empty if nothing was."""
        return read_text(self.path / "state")

    def save(self, state: bytes) -> None:
        """Keep this in place of what was saved before."""
        write_text(self.path / "state", state)

    def remove(self) -> None:
        """Remove everything: what nobody else holds is detached and gone."""
        for generation in (self.current, self.next):
            generation.remove()
        for name in ("state", "state-new"):
            (self.path / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Unlock; may be called again."""
        if self._lock >= 0:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # even if a child has it open
            os.close(self._lock)
            self._lock = -1


class Generation:
    """What one load of the object has made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def about(self) -> bytes:
        """Return what was said of it; empty: it is not there, or not complete."""
        return read_text(self.path / "about")

    def pin(self, held: Descriptors, about: bytes) -> None:
        """Pin all of it; what it is about comes last, so that it says that all is there."""
        for kind, descriptors in held._asdict().items():
            for directory in (self.path, self.path / kind):
                directory.mkdir(mode=0o700, exist_ok=True)
            for name, fd in descriptors.items():
                pin(fd, self.path / kind / name)
        write_text(self.path / "about", about)

    def open(self) -> Descriptors:
        """Open all of it. Raises PinError."""
        opened: dict[str, dict[str, int]] = {}
        with contextlib.ExitStack() as undo:
            for kind in Descriptors._fields:
                opened[kind] = {}
                for entry in sorted((self.path / kind).iterdir()):
                    fd = get(entry)
                    undo.callback(os.close, fd)
                    opened[kind][entry.name] = fd
            undo.pop_all()
        return Descriptors(**opened)

    def unpin_link(self, name: str) -> None:
        """Let go of a link; it is detached when nobody else holds it."""
        (self.path / "links" / name).unlink(missing_ok=True)

    def unpin_links(self) -> None:
        """Let go of all links."""
        for link in list((self.path / "links").iterdir()):
            link.unlink()

    def remove(self) -> None:
        """Remove it, what it is about first: from then on it is not complete."""
        (self.path / "about").unlink(missing_ok=True)
        for directory, _, names in os.walk(self.path, topdown=False):
            for name in names:
                Path(directory, name).unlink()
            Path(directory).rmdir()


def pin(fd: int, path: Path) -> None:
    """Keep a descriptor's object under this name. Raises PinError."""
    open_library().call("bpf_obj_pin", fd, bytes(path), error=_failed(path))


def get(path: Path) -> int:
    """Return a new descriptor of a pinned object. Raises PinError."""
    return open_library().call("bpf_obj_get", bytes(path), error=_failed(path))


def write_text(path: Path, text: bytes) -> None:
    """Keep a text under this name, in one step, in place of what was there. Raises PinError."""
    bpf, value = open_library(), len(text).to_bytes(8, "little") + text
    fd = bpf.call(
        *("bpf_map_create", MapType.ARRAY, b"netatop_text", 4, len(value), 1, None),
        error=_failed(path),
    )
    fresh = path.with_name(f"{path.name}-new")
    try:
        key = ctypes.c_uint32(0)
        bpf.call("bpf_map_update_elem", fd, ctypes.byref(key), value, 0, error=_failed(path))
        fresh.unlink(missing_ok=True)
        pin(fd, fresh)
        fresh.rename(path)
    finally:
        os.close(fd)


def read_text(path: Path) -> bytes:
    """Return a text that was kept; empty if there is none. Raises PinError."""
    try:
        fd = get(path)
    except FileNotFoundError:
        return b""
    try:
        value = Table(open_library(), fd, path.name).read_one()
    except MapReadError as error:
        raise PinError(str(error)) from error
    finally:
        os.close(fd)
    return value[8 : 8 + int.from_bytes(value[:8], "little")]


def _failed(path: Path) -> Callable[[int], Exception]:
    def error(code: int) -> Exception:
        if code == errno.ENOENT:
            return FileNotFoundError(code, os.strerror(code), str(path))
        return PinError(f"{path}: {describe(code)}")

    return error


def _holder(inode: int) -> str:
    """Return who holds the lock of a file, as far as it can be told (proc_locks(5))."""
    with contextlib.suppress(OSError):
        for line in LOCKS.read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return f" (pid {fields[4]})"
    return ""
