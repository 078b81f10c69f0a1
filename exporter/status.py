# SPDX-License-Identifier: Apache-2.0
"""`status`: what netatop showed in /proc/netatop, asked of the exporter that runs on this host."""

from __future__ import annotations

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

from exporter.errors import ServeError
from exporter.model import DIRECTIONS, PROTOCOLS, REASONS, UNITS

Samples = dict[str, dict[tuple[str, ...], float]]


def report(exposition: str) -> str:
    """Return the table. Raises ServeError if the text is not our exposition."""
    samples = _samples(exposition)
    if "netatop_receive_packets_total" not in samples:
        message = "the answer holds no counters of this exporter; is it netatop-exporter's address?"
        raise ServeError(message)
    return "\n".join([*_traffic(samples), "", *_state(samples)])


def _samples(exposition: str) -> Samples:
    """Index the samples by name, then by label values in the order of the labels' names."""
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


def _traffic(samples: Samples) -> list[str]:
    """Return one line per protocol and direction: all, and of that unidentified."""
    lines = [
        f"{'':<16}{'packets':>16}{'bytes':>20}{'unidentified packets':>24}{'bytes':>20}",
    ]
    for protocol in PROTOCOLS:
        for direction in DIRECTIONS:
            totals, strangers = [], []
            for unit in UNITS:
                totals.append(samples[f"netatop_{direction}_{unit}_total"].get((protocol,), 0))
                by_reason = samples[f"netatop_unidentified_{direction}_{unit}_total"]
                strangers.append(sum(by_reason.get((protocol, reason), 0) for reason in REASONS))
            lines.append(
                f"{protocol + ' ' + direction:<16}{totals[0]:>16.0f}{totals[1]:>20.0f}"
                f"{strangers[0]:>24.0f}{strangers[1]:>20.0f}"
            )
    return lines


def _state(samples: Samples) -> list[str]:
    sockets = samples["netatop_sockets"]
    tasks = samples["netatop_tasks"]
    entries = samples["netatop_map_entries"].get(("tasks",), 0)
    capacity = samples["netatop_map_capacity"].get(("tasks",), 0)
    lost = {labels: value for labels, value in samples["netatop_lost_total"].items() if value}
    lines = [
        "sockets    " + ", ".join(f"{sockets.get((p,), 0):.0f} {p}" for p in PROTOCOLS),
        "tasks      " + ", ".join(f"{value:.0f} {kind}" for (kind,), value in tasks.items()),
        f"exit list  {samples['netatop_exit_list_processes'].get((), 0):.0f} finished processes",
        f"task table {entries:.0f} of {capacity:.0f}",
    ]
    lines += [f"lost       {value:.0f} {' '.join(labels)}" for labels, value in lost.items()]
    return lines if lost else [*lines, "lost       nothing"]
