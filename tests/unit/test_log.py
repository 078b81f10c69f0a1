# SPDX-License-Identifier: Apache-2.0
"""One line per record, whatever it contains."""

from __future__ import annotations

import json
import logging
import sys

from exporter import log


def record(message: str) -> logging.LogRecord:
    """Return a record."""
    return logging.LogRecord("x", logging.WARNING, "", 0, "%s", (message,), None)


def test_logfmt_quotes_what_needs_it() -> None:
    """A line break in a name must not make a second line."""
    line = log.Logfmt().format(record('a "b"\nc'))
    assert line.endswith(r'level=warn msg="a \"b\"\nc"')
    assert log.Logfmt().format(record("plain")).endswith("level=warn msg=plain")


def test_json() -> None:
    """Each line is an object."""
    fields = json.loads(log.Json().format(record('a "b"\nc')))
    assert fields["msg"] == 'a "b"\nc'
    assert fields["time"].endswith("Z")


def test_trace() -> None:
    """A stack trace is a field."""
    failed = record("oh")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        failed.exc_info = sys.exc_info()
    assert "ZeroDivisionError" in json.loads(log.Json().format(failed))["trace"]
