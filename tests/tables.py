# SPDX-License-Identifier: Apache-2.0
"""Tables of the documentation that the code knows better: metrics, commands, flags.

`make tables` writes them anew, between the markers of their pages; tests/unit/test_docs.py holds
that they are in step.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import ProcessCollector

from exporter import arguments, metrics
from exporter.exposition.table import Histogram
from tests.unit.test_metrics import facts, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exporter.exposition.family import Family
    from exporter.exposition.table import Families

DOCS: Final = Path(__file__).parents[1] / "docs"
NOTES: Final = {
    "netatop_group_": "never falls ([groups.md](groups.md))",
    "netatop_group_remote_": "[classes](groups.md#remote-addresses); with `--collector.remotes`",
    "netatop_thread_": "with `--collector.threads`, or of groups that [ask for it](groups.md)",
    "netatop_socket_": "with `--collector.sockets`, or of groups that [ask for it](groups.md)",
    "netatop_host_": "with `--collector.hosts` ([hosts.md](hosts.md))",
    "netatop_lifecycle_events": "with `--collector.lifecycle` ([lives.md](lives.md))",
    "netatop_program_run_seconds": "with `sysctl kernel.bpf_stats_enabled=1`",
    "netatop_program_runs": "with `sysctl kernel.bpf_stats_enabled=1`",
    "netatop_exit_log_records": "with `exit_log` ([exits.md](exits.md#a-log-on-disk))",
    "netatop_config_last_reload_successful": "with `--config.file`",
}
"""When, and where to read on, by how a row begins: not in the help of a scrape."""


def metric_rows() -> Iterator[str]:
    """Yield the table of metrics: a row for the families that differ by way and unit only."""
    yield from _head("family", "type", "labels", "meaning")
    for table in _in_order():
        labels = [*table.labels, *(["le"] if isinstance(table, Histogram) else ())]
        named = ", ".join(f"`{label}`" for label in labels)
        for names, first in _folded(table.families):
            yield _row(f"`{names}`", first.type, named, _meaning(first, folded="{" in names))


def _in_order() -> Iterator[Families]:
    """Yield every table once: by collector, then what the exporter says of itself."""
    done: set[str] = set()
    counted = (table for name in metrics.COLLECTORS for table in metrics.families(facts(), {name}))
    own = metrics.own_families(ProcessCollector(registry=None).collect())
    for table in (*counted, *tables(), *own):
        if table.families[0].name not in done:
            done |= {family.name for family in table.families}
            yield table


def _folded(families: tuple[Family, ...]) -> Iterator[tuple[str, Family]]:
    """Yield names and the family that speaks for them."""
    if len(families) == len(("receive", "transmit")) * len(("packets", "bytes")):
        subject = families[0].name.removesuffix("receive_packets")
        yield f"{subject}{{receive,transmit}}_{{packets,bytes}}_total", families[0]
        return
    for family in families:
        yield family.sample, family


def _meaning(family: Family, *, folded: bool) -> str:
    """Return its help, but for what the page says of many."""
    said = family.help
    for told_once in (f", {metrics.LAYER}", f", {metrics.PAYLOAD}", f"; {metrics.REST}"):
        said = said.replace(told_once, "")
    said = said.removesuffix(".")
    if folded:
        said = said.removeprefix("Received packets ")
    subject = family.name.removesuffix("receive_packets") if folded else family.name
    if note := NOTES.get(subject, ""):
        said += f"; {note}"
    return re.sub(r"^[A-Z](?=[a-z])", lambda first: first[0].lower(), said)


def command_rows() -> Iterator[str]:
    """Yield the table of commands."""
    yield from _head("command", "what it does")
    whole, _ = arguments.parser()
    [commands] = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    for action in commands._choices_actions:
        command = commands.choices[action.dest]
        words = [_word(a) for a in command._actions if not a.option_strings]
        yield _row(" ".join((f"`{action.dest}`", *words)), action.help or "")


def flag_rows() -> Iterator[str]:
    """Yield the table of flags, those of one meaning once, in the order of the commands."""
    yield from _head("flag", "of", "meaning")
    _, commands = arguments.parser()
    found: dict[tuple[str, str], list[str]] = {}
    for name, parser in commands.items():
        for action in parser._actions:
            if action.option_strings and not isinstance(action, argparse._HelpAction):
                said = parser._get_formatter()._expand_help(action)
                found.setdefault((_word(action), said), []).append(name)
    for (word, said), names in found.items():
        everyone = names == list(commands)
        of = "all" if everyone else ", ".join(f"`{name}`" for name in names)
        yield _row(word, of, re.sub(r"docs/(\w+\.md)", r"[\1](\1)", said))


def _word(action: argparse.Action) -> str:
    """Return it as it is typed."""
    value = ""
    if action.nargs != 0:
        named = action.metavar if isinstance(action.metavar, str) else None
        value = named or ", ".join(map(str, action.choices or ())) or action.dest.upper()
    if not action.option_strings:
        return f"`[{value}]`" if action.nargs == "?" else f"`{value}`"
    [flag] = action.option_strings
    if action.nargs == "?":
        return f"`{flag}[={value}]`"
    return f"`{flag} {value}`" if value else f"`{flag}`"


def _head(*titles: str) -> tuple[str, str]:
    return _row(*titles), _row(*["---"] * len(titles))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


TABLES: Final[Mapping[str, tuple[Path, Callable[[], Iterable[str]]]]] = {
    "metrics": (DOCS / "metrics.md", metric_rows),
    "commands": (DOCS / "configuration.md", command_rows),
    "flags": (DOCS / "configuration.md", flag_rows),
}


def place(text: str, name: str, rows: Iterable[str]) -> str:
    """Return a page with these rows between the markers."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        message = f"no markers {begin.strip()} and {end}"
        raise ValueError(message)
    return "".join((before, begin, *(f"{row}\n" for row in rows), end, after))


def write() -> None:
    """Write all of them anew."""
    for name, (page, rows) in TABLES.items():
        page.write_text(place(page.read_text(), name, rows()))


if __name__ == "__main__":
    write()
