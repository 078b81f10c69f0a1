# SPDX-License-Identifier: Apache-2.0
"""What was asked for, and the answer: one for all who have asked for the same at once."""

from __future__ import annotations

import gzip
import threading
from typing import Final, NamedTuple

LEVEL: Final = 1
"""Level 6 costs 2.5 times as much for a third less."""


class Scrape(NamedTuple):
    """What somebody asks for."""

    openmetrics: bool = False
    """OpenMetrics 1.0, or else text 0.0.4."""
    client: str = ""
    """Who: what one has seen has nothing to do with what another has."""
    collectors: frozenset[str] = frozenset()
    """Some of exporter.metrics.COLLECTORS; empty: all."""


EVERYTHING: Final = Scrape()


class Rendering:
    """An exposition. Safe for threads."""

    def __init__(self, body: bytes) -> None:
        self.body: Final = body
        self._compressed = b""
        self._lock = threading.Lock()

    @property
    def compressed(self) -> bytes:
        """Return it as gzip: made once, for the first who wants it so."""
        with self._lock:
            # Without a time of its own: what is equal stays so.
            self._compressed = self._compressed or gzip.compress(self.body, LEVEL, mtime=0)
            return self._compressed
