# SPDX-License-Identifier: Apache-2.0
"""The commands, and what the program ends with."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import arguments, doctor, exits, hosts, log, reload, service, status, top, watch
from exporter.api.exits import signal_name
from exporter.arguments import PROGRAM
from exporter.client import Client
from exporter.config import document
from exporter.errors import ConfigError, NetatopError
from exporter.kernel.choice import open_tracer
from exporter.kernel.pins import Pins
from exporter.kernel.watcher import Filter
from exporter.model import LIFE_EVENTS
from exporter.top.choice import Choice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence


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
        return COMMANDS[parsed.command](parsed)
    finally:
        sys.stdout.flush()  # now, when a failure can still be told


def serve(parsed: argparse.Namespace) -> int:
    """Serve until told to end."""
    service.serve(arguments.chosen(parsed))
    return 0


def once(parsed: argparse.Namespace) -> int:
    """Print one exposition."""
    chosen = arguments.chosen(parsed)
    settings = reload.settings(chosen)
    with open_tracer(service.options(chosen, settings), chosen.loader) as tracer:
        collector = service.make_collector(tracer, settings)
        time.sleep(parsed.seconds)
        rendering = collector.expose()
        sys.stdout.buffer.write(rendering.body if rendering else b"")
        sys.stdout.buffer.flush()
    return 0


def check_config(parsed: argparse.Namespace) -> int:
    """Read a configuration file, or print what one may hold."""
    if parsed.schema:
        print(document.schema())
        return 0
    path = arguments.chosen(parsed).config_file
    if not path:
        message = "check-config: --config.file is missing; name the file that is to be checked"
        raise ConfigError(message)
    found = document.load(path)
    rules = len(found.groups)
    print(f"{path}: good; {rules} {'rule' if rules == 1 else 'rules'} for groups")
    return 0


def show_status(parsed: argparse.Namespace) -> int:
    """Print the totals of a running exporter."""
    chosen = arguments.chosen(parsed)
    if parsed.ready:
        _client(parsed).fetch("/readyz")
        return 0
    text = _client(parsed).fetch(chosen.telemetry_path)
    print(status.report(text, as_json=parsed.as_json))
    return 0


def list_exits(parsed: argparse.Namespace) -> int:
    """Print the exit list of a running exporter."""
    for line in exits.listing(_client(parsed), as_json=parsed.as_json, follow=parsed.follow):
        print(line, flush=parsed.follow)
    return 0


def show_top(parsed: argparse.Namespace) -> int:
    """Show a live table, or print tables."""
    given = vars(parsed)
    return top.start(
        _client(parsed),
        Choice.make(parsed.view, given.get("sort"), wanted=parsed.filter, reverse=parsed.reverse),
        parsed.interval,
        batch=parsed.batch,
        count=given.get("count"),
    )


def list_hosts(parsed: argparse.Namespace) -> int:
    """Print the IP addresses that a running exporter knows."""
    client = _client(parsed)
    if parsed.count:
        print(hosts.count(client, parsed.address, as_json=parsed.as_json))
        return 0
    for line in hosts.listing(client, parsed.address, as_json=parsed.as_json):
        print(line)
    return 0


def list_connections(parsed: argparse.Namespace) -> int:
    """Print the connections that a running exporter knows."""
    for line in hosts.connections(_client(parsed), parsed.address, as_json=parsed.as_json):
        print(line)
    return 0


def watch_events(parsed: argparse.Namespace) -> int:
    """Print events until Ctrl-C."""
    chosen = Filter(
        events=frozenset(parsed.event or LIFE_EVENTS),
        pid=parsed.pid or 0,
        tree=parsed.tree,
        command=parsed.comm or "",
    )
    if chosen.tree and not chosen.pid:
        message = "--tree: found without --pid; accepted is the process whose descendants are meant"
        raise ConfigError(message)
    for line in watch.events(chosen, _client(parsed), as_json=parsed.as_json):
        print(line, flush=True)
    return 0


def wait_for(parsed: argparse.Namespace) -> int:
    """Wait for a process; end as it has."""
    status = watch.wait_for(parsed.pid)
    number = status & 0x7F
    said = f"killed by {signal_name(number)}" if number else f"exit status {status >> 8}"
    print(f"{parsed.pid}: {said}")
    return 128 + number if number else status >> 8


def run_doctor(parsed: argparse.Namespace) -> int:
    """Examine the host."""
    chosen = arguments.chosen(parsed)
    settings = reload.settings(chosen)
    options, places = service.options(chosen, settings), service.places(chosen, settings)
    examination = doctor.examine(options, places, chosen.loader)
    print("\n".join(examination.lines))
    return 0 if examination.works else 1


def detach(parsed: argparse.Namespace) -> int:
    """Remove what is pinned."""
    path = arguments.chosen(parsed).pin_path
    if path is None:
        message = "detach: --pin-path is missing; name the directory that 'serve' was given"
        raise ConfigError(message)
    if not Path(path).exists():
        print(f"{path}: nothing is pinned there")
        return 0
    with Pins(path) as pins:
        pins.remove()
        Path(path).rmdir()
    print(f"{path}: removed")
    return 0


def _client(parsed: argparse.Namespace) -> Client:
    """Return who asks the running exporter."""
    chosen = arguments.chosen(parsed)
    return Client(chosen.listen_address, chosen.http_config_file)


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "serve": serve,
    "once": once,
    "top": show_top,
    "status": show_status,
    "exits": list_exits,
    "hosts": list_hosts,
    "connections": list_connections,
    "watch": watch_events,
    "wait": wait_for,
    "check-config": check_config,
    "doctor": run_doctor,
    "detach": detach,
}
