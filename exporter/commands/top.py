# SPDX-License-Identifier: Apache-2.0
"""`top`: a live table in the terminal, or tables for pipes."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Final

from exporter import arguments
from exporter.client import Client
from exporter.errors import ConfigError
from exporter.top import plain, source
from exporter.top.choice import Choice

if TYPE_CHECKING:
    import argparse

PLACELESS: Final = ("", "dumb")
"""Terminals on which text can't be put where it belongs."""


def run(parsed: argparse.Namespace) -> int:
    """Show a live table, or print tables."""
    given = vars(parsed)
    return start(
        Client.of(arguments.chosen(parsed)),
        Choice.make(parsed.view, given.get("sort"), wanted=parsed.filter, reverse=parsed.reverse),
        parsed.interval,
        batch=parsed.batch,
        count=given.get("count"),
    )


def start(client: Client, choice: Choice, seconds: float, *, batch: bool, count: int | None) -> int:
    """Show the screen, or print tables; return the exit status. Raises ConfigError, ServeError."""
    if batch:
        for line in plain.batch(client, choice, seconds, count):
            print(line, flush=True)
        return 0
    if count is not None:
        message = f"--count: found {count} without --batch; accepted is both or none"
        raise ConfigError(message)
    _check_terminal()
    try:
        # Here and not above: --batch needs no library.
        from exporter.top import screen  # noqa: PLC0415
    except ModuleNotFoundError as error:
        message = (
            f"top: found no Python package {error.name}; install it with pip install "
            "'netatop-exporter[top]', or use --batch, which needs none"
        )
        raise ConfigError(message) from error
    return screen.run(functools.partial(source.ask, client), choice, seconds)


def _check_terminal() -> None:
    name = os.environ.get("TERM", "")
    if name in PLACELESS:
        message = f"top: found TERM={name!r}; accepted is a terminal that has a cursor, or --batch"
        raise ConfigError(message)
    for file in (sys.stdin, sys.stdout, sys.stderr):
        if not file or not file.isatty():
            what = file.name.strip("<>") if file else "a closed file"
            message = f"top: found that {what} is no terminal; accepted is a terminal, or --batch"
            raise ConfigError(message)
