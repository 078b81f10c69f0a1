# SPDX-License-Identifier: Apache-2.0
"""Log lines on standard error, as logfmt or as JSON."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
from typing import Final

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
NAMES: Final = {number: name for name, number in LEVELS.items()}


def _fields(record: logging.LogRecord) -> dict[str, str]:
    time = dt.datetime.fromtimestamp(record.created, dt.UTC)
    fields = {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": NAMES.get(record.levelno, record.levelname.lower()),
        "msg": record.getMessage(),
    }
    if record.exc_info:
        fields["trace"] = logging.Formatter().formatException(record.exc_info)
    return fields


class Logfmt(logging.Formatter):
    """key=value, quoted where needed: one line whatever a name contains."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return " ".join(f"{key}={self._quote(text)}" for key, text in _fields(record).items())

    @staticmethod
    def _quote(text: str) -> str:
        return text if re.fullmatch(r"[\w.:/+-]+", text, re.ASCII) else json.dumps(text)


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return json.dumps(_fields(record))


FORMATS: Final = {"logfmt": Logfmt, "json": Json}


def start(level: str, form: str) -> None:
    """Send everything from `level` on to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
