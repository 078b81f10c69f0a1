# SPDX-License-Identifier: Apache-2.0
"""A durable log of finished processes: as netatopd wrote it, or as lines of JSON.

Written by a thread of its own, so that a disk that is slow costs no scrape. When less than a
twentieth of the file system is free nothing is written, as netatopd did; what was not is counted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import json
import logging
import os
import queue
import shutil
import struct
import threading
import time
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from exporter.api.exits import exited
from exporter.errors import LogError
from exporter.kernel.semaphores import Semaphores
from exporter.netpertask import RECORD, record
from exporter.procfs import booted_at

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from exporter.config.settings import ExitLog as Choice
    from exporter.model import ExitedProcess

log = logging.getLogger(__name__)

MOST_WAITING: Final = 100_000
"""Entries for which the disk was too slow so far."""
FREE_SHARE: Final = 0.05
CHECK_SECONDS: Final = 1.0
SOURCE_SECONDS: Final = 0.1
"""How long what ends waits for its last packets, and for us, where atop reads the log."""


class Source(Protocol):
    """Who has ended: exporter.kernel.exit_list.ExitList."""

    def take(self) -> Iterable[bytes]:
        """Return `struct netpertask` of each that has not been told before. Raises OSError."""
        ...


class Writer:
    """Takes finished processes and writes them when it can, in a `with` block. Safe for threads."""

    def __init__(self, choice: Choice) -> None:
        """Open the log. Raises LogError if it can't be written, or another one writes it."""
        self._file = _Netatop(choice) if choice.format == "netatop" else _Lines(choice)
        self._queue: queue.Queue[ExitedProcess | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="exit-log", daemon=True)
        self.source: Source | None = None
        """Where the finished processes come from, if not by `add`: netatop's own exit list."""
        self.written = 0
        self.lost: dict[str, int] = dict.fromkeys(("full", "error", "slow"), 0)
        """Entries that were not written: the file system was full, refused, or was too slow."""

    def __enter__(self) -> Self:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def add(self, entries: Iterable[ExitedProcess]) -> None:
        """Take entries; never waits. Does nothing where they come from the source."""
        for entry in () if self.source else entries:
            try:
                self._queue.put_nowait(entry)
            except queue.Full:
                self.lost["slow"] += 1

    def _work(self) -> None:
        while True:
            try:
                entry = self._queue.get(timeout=SOURCE_SECONDS if self.source else CHECK_SECONDS)
            except queue.Empty:
                self._look()
                continue
            if entry is None:
                self._look()
                return
            self._write(entry)

    def _look(self) -> None:
        """Do what time asks for, and write what the source has."""
        with contextlib.suppress(OSError, LogError):
            self._file.tend()
        if self.source:
            try:
                for entry in self.source.take():
                    self._write(entry)
            except OSError as error:  # the kernel programs are gone
                log.debug("exit list", exc_info=error)

    def _write(self, entry: ExitedProcess | bytes) -> None:
        reason = ""
        wanted = False
        try:
            self._file.tend()
            if self._file.is_full():
                reason = "full"
            else:
                wanted = self._file.write(entry)
        except (OSError, LogError) as error:
            reason = "error"
            log.debug("exit log", exc_info=error)
        if reason:
            if not self.lost[reason]:
                log.error("exit log: %s: not written, reason %s", self._file.path, reason)
            self.lost[reason] += 1
        self.written += wanted


def path(choice: Choice) -> Path:
    """Return where the log is."""
    kind = _Netatop if choice.format == "netatop" else _Lines
    return Path(choice.path or kind.default_path)


class _File(ABC):
    """One format."""

    def __init__(self, choice: Choice) -> None:
        self.path = path(choice)
        self._fd = -1
        self._booted = booted_at()

    default_path: str

    @abstractmethod
    def write(self, entry: ExitedProcess | bytes) -> bool:
        """Append an entry, whole or not at all for whoever reads; False: nobody wants it.

        Raises OSError.
        """

    @abstractmethod
    def tend(self) -> None:
        """Do what time asks for. Raises OSError."""

    def is_full(self) -> bool:
        """Tell whether so little is free that nothing may be written."""
        status = os.fstatvfs(self._fd)
        return status.f_bfree < FREE_SHARE * status.f_blocks

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _append(self, data: bytes) -> None:
        """Write all of it at the end, or nothing. Raises OSError."""
        end = os.lseek(self._fd, 0, os.SEEK_END)
        if os.write(self._fd, data) < len(data):
            os.ftruncate(self._fd, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _open(self, flags: int) -> int:
        try:
            fd = os.open(self.path, flags | os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            message = f"exit_log: {self.path}: another exporter writes it; accepted is one"
            raise LogError(message) from error
        except OSError as error:
            message = f"exit_log: {self.path}: {error.strerror}; accepted is a file to be written"
            raise LogError(message) from error
        return fd


HEADER: Final = struct.Struct("=IIHHi")
"""struct naheader: magic, curseq, hdrlen, ntplen, pid of the daemon."""
SEQUENCE_OFFSET: Final = 4
MAGIC: Final = 0xFEEDB0B0


class _Netatop(_File):
    """netatopd's own: a header with a sequence number, then compressed records and their lengths.

    Only while somebody reads, as its semaphores say; begun anew, as a new file, when nobody does.
    """

    default_path = "/run/netatop.log"

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice)
        self._semaphores = Semaphores()
        self._sequence = 0
        self._begin()

    def _begin(self) -> None:
        self.path.unlink(missing_ok=True)
        self._fd = self._open(os.O_TRUNC)
        self._sequence = 0
        os.write(self._fd, HEADER.pack(MAGIC, 0, HEADER.size, RECORD.size, os.getpid()))

    def tend(self) -> None:
        """Begin anew when the last reader has gone."""
        if self._sequence and not self._semaphores.readers:
            os.close(self._fd)
            self._begin()

    def write(self, entry: ExitedProcess | bytes) -> bool:
        """Append an entry if somebody reads; the sequence number tells readers when it is whole."""
        if not self._semaphores.readers:
            return False
        whole = entry if isinstance(entry, bytes) else record(entry.task, self._booted)
        packed = zlib.compress(whole)
        self._append(bytes([len(packed)]) + packed)
        self._sequence += 1
        os.pwrite(self._fd, struct.pack("=I", self._sequence), SEQUENCE_OFFSET)
        return True

    def close(self) -> None:
        """Close the file and be a daemon no more."""
        super().close()
        with contextlib.suppress(LogError):  # somebody has removed them
            self._semaphores.close()


class _Lines(_File):
    """One object of JSON in a line; rotated by size and age, the old ones compressed."""

    default_path = "/var/log/netatop-exporter/exits.jsonl"

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice)
        self._choice = choice
        with contextlib.suppress(OSError):  # what is wrong is told when the file is opened
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._aside = self.path.with_name(f"{self.path.name}.1")
        self._begin()
        self._put_away()

    def _begin(self) -> None:
        self._fd = self._open(os.O_APPEND)
        self._drop_torn_line()
        status = os.fstat(self._fd)
        self._size = status.st_size
        self._began = time.time() if not status.st_size else status.st_mtime

    def _drop_torn_line(self) -> None:
        """Cut off what a writer that was killed, or a full disk, has left without an end."""
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, 1 << 16, max(size - (1 << 16), 0))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._fd, size - len(tail) + tail.rfind(b"\n") + 1)

    def write(self, entry: ExitedProcess | bytes) -> bool:
        """Append a line in one step."""
        if isinstance(entry, bytes):  # a source is for the other format
            raise TypeError
        line = json.dumps(exited(entry, self._booted)).encode() + b"\n"
        if self._size and self._size + len(line) > self._choice.max_bytes:
            self._rotate()
        self._append(line)
        self._size += len(line)
        return True

    def tend(self) -> None:
        """Rotate what is old."""
        if self._size and time.time() - self._began > self._choice.max_hours * 3600:
            self._rotate()

    def _rotate(self) -> None:
        """Begin a new file; the old one becomes NAME.1.gz, others move up, the last one goes."""
        self.path.rename(self._aside)
        os.close(self._fd)
        self._begin()
        self._put_away()

    def _put_away(self) -> None:
        """Compress what was put aside, also what a writer that was killed has put there."""
        if not self._aside.exists():
            return
        keep = self._choice.keep
        kept = [self.path.with_name(f"{self.path.name}.{n}.gz") for n in range(1, keep + 1)]
        for newer, older in zip(reversed(kept[:-1]), reversed(kept[1:]), strict=True):
            if newer.exists():
                newer.rename(older)
        if kept:
            part = self._aside.with_suffix(".part")
            with self._aside.open("rb") as source, gzip.open(part, "wb") as target:
                shutil.copyfileobj(source, target)
            part.rename(kept[0])
        self._aside.unlink()
