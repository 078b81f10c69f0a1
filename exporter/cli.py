# SPDX-License-Identifier: Apache-2.0
"""The command that is wanted, and what the program ends with."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from exporter import arguments, log
from exporter.arguments import PROGRAM
from exporter.errors import ConfigError, NetatopError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(given: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        return _run(words)
    except NetatopError as error:
        # A line for each mistake in a file; other errors may quote what libbpf has said.
        lines = str(error).splitlines() if isinstance(error, ConfigError) else [str(error)]
        print(*(f"{PROGRAM}: {line}" for line in lines), sep="\n", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Standard output: whatever else is opened has errors of its own. Python must not try to
        # write again when it ends. That its reader has gone (EPIPE) is nobody's fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"{PROGRAM}: standard output: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(words: list[str]) -> int:
    """Parse and run; help and version end here too, with SystemExit."""
    try:
        parsed = arguments.parse(words)
        log.start(parsed.log_level, parsed.log_format)
        # This one alone: a probe that asks every few seconds shall not pay for what counts.
        name = parsed.command.replace("-", "_")
        status: int = importlib.import_module(f"exporter.commands.{name}").run(parsed)
        return status
    finally:
        sys.stdout.flush()  # now, when a failure can still be told
