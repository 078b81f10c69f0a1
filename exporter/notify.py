# SPDX-License-Identifier: Apache-2.0
"""Tells a service manager how it goes (sd_notify(3)); where there is none, nobody is told.

The manager takes a missing WATCHDOG=1 for a hang and restarts us. So it is sent from one place
only, the main loop, after everything that may be stuck.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.collector import Health

SEND_SECONDS: Final = 1.0
"""How long a manager may let us wait: it must not make us hang."""
STATUS_SECONDS: Final = 60.0
"""How old what `systemctl status` shows may be."""
log = logging.getLogger(__name__)


class Manager:
    """The one that has started us, if it wants to know."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._place = environment.get("NOTIFY_SOCKET", "")
        self._period = _period(environment)
        self._alive_at = self._status_at = -math.inf

    @property
    def watches(self) -> bool:
        """Tell whether it waits for us to say that we are alive."""
        return self._period > 0

    def ready(self, health: Callable[[], Health | None]) -> None:
        """Tell that everything is attached and served, or that a reload is over."""
        self._status_at = -math.inf
        self._status(health)
        self._tell("READY=1")

    def reloading(self) -> None:
        """Tell that the configuration is read again; `ready` ends it."""
        # Type=notify-reload takes none for that reload which does not tell when (systemd 253).
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self, health: Callable[[], Health | None]) -> None:
        """Tell that the main loop goes round, no more often than the manager needs it."""
        self._status(health)
        now = time.monotonic()
        if self._period and now - self._alive_at >= self._period:
            self._alive_at = now
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell that we end, and that it may take a moment."""
        self._tell("STOPPING=1")

    def _status(self, health: Callable[[], Health | None]) -> None:
        """Tell what `systemctl status` is to show; that costs a look at all tables."""
        now = time.monotonic()
        if self._place and now - self._status_at >= STATUS_SECONDS:
            self._status_at = now
            self._tell(f"STATUS={health() or 'the end'}")

    def _tell(self, *lines: str) -> None:
        if not self._place:
            return
        # A name that begins with @ is none of a file (unix(7)).
        place = f"\0{self._place[1:]}" if self._place.startswith("@") else self._place
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.settimeout(SEND_SECONDS)
                own.connect(os.fsencode(place))
                own.send("\n".join(lines).encode())
        except OSError as error:
            log.warning("NOTIFY_SOCKET=%s: %s; it was not told: %s", self._place, error, lines[0])


def _period(environment: Mapping[str, str]) -> float:
    """Return after how many seconds to tell that we are alive; 0: nobody waits for it.

    A third of what the manager waits (sd_watchdog_enabled(3) asks for half of it).
    """
    pid, period = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if not period.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(period) / 3e6
