# SPDX-License-Identifier: Apache-2.0
"""`status`: all that /proc/netatop showed, and more, asked of the exporter that runs on this host.

Facts are an object as `status --json` prints it; the table is made from that.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from exporter import arguments
from exporter.client import Client
from exporter.errors import ServeError
from exporter.model import DIRECTIONS, PROTOCOLS, REASONS, UNITS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

Samples = dict[str, dict[tuple[str, ...], float]]
COLUMNS: Final = tuple(f"{d}_{unit}" for d in DIRECTIONS for unit in UNITS)
NETATOP_DIRECTIONS: Final = (("snd", "transmit"), ("rcv", "receive"))


def run(parsed: argparse.Namespace) -> int:
    """Print the totals of a running exporter, or only ask whether it is ready."""
    chosen = arguments.chosen(parsed)
    client = Client.of(chosen)
    if parsed.ready:
        client.fetch("/readyz")
        return 0
    print(report(client.fetch(chosen.telemetry_path), as_json=parsed.as_json))
    return 0


def report(exposition: str, *, as_json: bool = False) -> str:
    """Return the table, or the facts. Raises ServeError if the text is not our exposition."""
    samples = _samples(exposition)
    if "netatop_receive_packets_total" not in samples:
        message = "the answer holds no counters of this exporter; is it netatop-exporter's address?"
        raise ServeError(message)
    facts = _facts(samples)
    if as_json:
        return json.dumps(facts)
    sections = (_program(facts), _traffic(facts), _reasons(facts), _state(facts), _netatop(facts))
    return "\n\n".join("\n".join(section) for section in sections)


def _samples(exposition: str) -> Samples:
    """Index the samples by name, then by label values in the order of the labels' names."""
    # Here and not above: a probe (--ready) does not look at them.
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    found: Samples = defaultdict(dict)
    try:
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                values = tuple(value for _, value in sorted(sample.labels.items()))
                found[sample.name][values] = sample.value
    except ValueError as error:
        message = f"the answer is not an exposition: {error}"
        raise ServeError(message) from error
    return found


# Facts


def _facts(samples: Samples) -> dict[str, Any]:
    lost: dict[str, dict[str, int]] = defaultdict(dict)
    for (thing, reason), count in samples["netatop_lost_total"].items():
        lost[thing][reason] = int(count)
    return {
        **_versions(samples),
        "traffic": {p: _counters(samples, "", (p,)) for p in PROTOCOLS},
        "unidentified": {
            reason: {p: _counters(samples, "unidentified_", (p, reason)) for p in PROTOCOLS}
            for reason in REASONS
        },
        "sockets": {p: _value(samples, "sockets", p) for p in PROTOCOLS},
        "tasks": {kind: int(count) for (kind,), count in samples["netatop_tasks"].items()},
        "exit_list": {
            "processes": _value(samples, "exit_list_processes"),
            "evicted": _value(samples, "exit_list_evicted_total"),
        },
        "tables": {
            name: {
                "entries": int(entries),
                "capacity": _value(samples, "map_capacity", name),
            }
            for (name,), entries in samples["netatop_map_entries"].items()
        },
        "lost": lost,
    }


def _versions(samples: Samples) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, labels in (
        ("netatop_build_info", ("python", "version")),
        ("netatop_loader_info", ("kernel", "layout", "libbpf", "loader", "owners")),
    ):
        for values in samples[name]:
            found |= dict(zip(labels, values, strict=False))
    return found


def _value(samples: Samples, name: str, *labels: str) -> int:
    return int(samples[f"netatop_{name}"].get(labels, 0))


def _counters(samples: Samples, subject: str, labels: tuple[str, ...]) -> dict[str, int]:
    return {column: _value(samples, f"{subject}{column}_total", *labels) for column in COLUMNS}


# The table


def _program(facts: dict[str, Any]) -> Iterator[str]:
    """Return one line: version of the program, and what it runs on."""
    told = {name: facts.get(name, "?") for name in ("version", "kernel", "loader", "libbpf")}
    yield (
        "netatop-exporter {version}, Linux {kernel}, loader {loader}, libbpf {libbpf}, "
        "layout {layout}"
    ).format(**told, layout=facts.get("layout", "?"))


def _traffic(facts: dict[str, Any]) -> Iterator[str]:
    """Return one line per protocol and direction: all, and of that unidentified."""
    yield f"{'':<16}{'packets':>16}{'bytes':>20}{'unidentified packets':>24}{'bytes':>20}"
    for protocol in PROTOCOLS:
        for direction in DIRECTIONS:
            packets, size = (f"{direction}_{unit}" for unit in UNITS)
            total = facts["traffic"][protocol]
            strange = {c: _unidentified(facts, (protocol,), c) for c in (packets, size)}
            yield (
                f"{protocol + ' ' + direction:<16}{total[packets]:>16}{total[size]:>20}"
                f"{strange[packets]:>24}{strange[size]:>20}"
            )


def _unidentified(facts: dict[str, Any], protocols: Iterable[str], column: str) -> int:
    return sum(facts["unidentified"][r][p][column] for r in REASONS for p in protocols)


def _reasons(facts: dict[str, Any]) -> Iterator[str]:
    """Return what is unidentified by reason, all protocols together."""
    yield f"{'unidentified':<16}" + "".join(f"{column.replace('_', ' '):>20}" for column in COLUMNS)
    for reason, protocols in facts["unidentified"].items():
        numbers = [sum(counters[c] for counters in protocols.values()) for c in COLUMNS]
        yield f"{reason:<16}" + "".join(f"{number:>20}" for number in numbers)


def _state(facts: dict[str, Any]) -> Iterator[str]:
    yield "sockets    " + ", ".join(f"{n} {p}" for p, n in facts["sockets"].items())
    yield "tasks      " + ", ".join(f"{n} {kind}" for kind, n in facts["tasks"].items())
    exits = facts["exit_list"]
    yield f"exit list  {exits['processes']} finished processes, {exits['evicted']} made room"
    for name, table in facts["tables"].items():
        yield f"{name.removesuffix('s')} table {table['entries']} of {table['capacity']}"
    lost = [(o, r, n) for o, reasons in facts["lost"].items() for r, n in reasons.items() if n]
    yield from (f"lost       {count} {thing} {reason}" for thing, reason, count in lost)
    if not lost:
        yield "lost       nothing"


def _netatop(facts: dict[str, Any]) -> Iterator[str]:
    """Return the lines of /proc/netatop, under its names. It knew IPv4 only."""
    yield "as /proc/netatop:"
    for protocol in ("tcp", "udp", "icmp"):
        for theirs, ours in NETATOP_DIRECTIONS:
            packets = f"{ours}_packets"
            strange = _unidentified(facts, (protocol,), packets)
            rest = "" if protocol == "icmp" else f" (unident: {strange:>9})"
            name = f"{protocol}{theirs}packs:"
            yield f"{name:<13} {facts['traffic'][protocol][packets]:>12}{rest}"
    for name, count, thing in (
        ("#sockinfo:", sum(facts["sockets"].values()), "socket"),
        ("#taskinfo:", sum(facts["tasks"].values()), "task"),
    ):
        overflow = sum(facts["lost"].get(thing, {}).values())
        yield f"{name:<13} {count:>12} (overflow: {overflow:>8})"
    yield f"{'#taskexit:':<13} {facts['exit_list']['processes']:>12}"
    yield f"{'modversion:':<13} {facts.get('version', '?'):>12}"
