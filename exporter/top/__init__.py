# SPDX-License-Identifier: Apache-2.0
"""`top`: a live table of who is using the network, asked of the exporter that runs on this host.

All but the screen is made of pure functions, and needs no library.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Final

from exporter.errors import ConfigError
from exporter.top import plain, source

if TYPE_CHECKING:
    from exporter.client import Client
    from exporter.top.choice import Choice

PLACELESS: Final = ("", "dumb")
"""Terminals on which text can't be put where it belongs."""


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
        # Here and not above: `serve` has nothing to show and shall not pay for it.
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
