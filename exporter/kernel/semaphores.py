# SPDX-License-Identifier: Apache-2.0
"""netatopd's semaphores: that a daemon writes the log, and how many read it (semget(2))."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from exporter.errors import LogError

KEY: Final = 1541961
DAEMONS, READERS = 0, 1
"""Numbers in the group: how many write; and, counted down from MOST, how many read."""
MOST: Final = 100
IPC_CREAT: Final = 0o1000
IPC_EXCL: Final = 0o2000
SEM_UNDO: Final = 0x1000
GETVAL: Final = 12
SETVAL: Final = 16
"""include/uapi/linux/{ipc,sem}.h"""


class _Operation(ctypes.Structure):
    """struct sembuf."""

    _fields_ = (("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short))


class Semaphores:
    """The group, with us as the one daemon; the kernel takes that back when the process ends."""

    def __init__(self) -> None:
        """Raise LogError if another daemon writes, or they can't be had."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._id = self._libc.semget(KEY, 0, 0)
        if self._id < 0 and ctypes.get_errno() == errno.ENOENT:
            self._id = self._call("semget", KEY, 2, IPC_CREAT | IPC_EXCL | 0o600)
            self._call("semctl", self._id, DAEMONS, SETVAL, ctypes.c_int(0))
            self._call("semctl", self._id, READERS, SETVAL, ctypes.c_int(MOST))
        elif self._id < 0:
            self._call("semget", KEY, 0, 0)
        if self._call("semctl", self._id, DAEMONS, GETVAL) > 0:
            message = (
                f"exit_log: another daemon writes netatop's log (semaphore {KEY}); accepted is "
                "one: stop netatopd, or the other exporter"
            )
            raise LogError(message)
        self._change(1)

    @property
    def readers(self) -> int:
        """Return how many programs have said that they read the log."""
        return MOST - self._call("semctl", self._id, READERS, GETVAL)

    def close(self) -> None:
        """Be a daemon no more."""
        self._change(-1)

    def _change(self, by: int) -> None:
        operation = _Operation(DAEMONS, by, SEM_UNDO)
        self._call("semop", self._id, ctypes.byref(operation), ctypes.c_size_t(1))

    def _call(self, name: str, *arguments: object) -> int:
        value: int = getattr(self._libc, name)(*arguments)
        if value < 0:
            reason = os.strerror(ctypes.get_errno())
            message = f"exit_log: semaphores of netatop's log ({name}): {reason}"
            raise LogError(message)
        return value
