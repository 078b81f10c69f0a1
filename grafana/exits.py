# SPDX-License-Identifier: Apache-2.0
"""Processes that have ended, and those that live too short for a series of their own."""

from __future__ import annotations

from grafana.board import Board, Part, Variable, exporters
from grafana.panels import (
    ANY_IS_BAD,
    BYTE_RATE,
    COUNT,
    GREEN,
    ORANGE,
    RATE,
    SECONDS,
    SHARE,
    SIZE,
    Column,
    Link,
    Query,
    heat,
    number,
    rows,
    series,
)
from grafana.promql import HERE, increase, or_zero, pick, quantile, rate, top, total

GROUP = 'group=~"$group",namespace=~"$namespace"'
NAMES = ("namespace", "group")
LEGEND = "{{namespace}} {{group}}"
FAILED = 'outcome=~"error|signal"'
ENDED = "netatop_exited_processes_total"
LIFETIME = "netatop_exited_process_lifetime_seconds"
BYTES = "netatop_exited_process_bytes"
LINK = Link(
    "Group",
    "This group",
    "netatop-group",
    {"group": "Group", "namespace": "Namespace"},
)


def of_both(prefix: str, *labels: str) -> str:
    """Return bytes of both directions, a second."""
    return " + ".join(
        total(rate(f"netatop_{prefix}_{direction}_bytes_total", GROUP), *labels)
        for direction in ("receive", "transmit")
    )


NOW = Part(
    "In the time that is shown",
    [
        number(
            "Ended",
            "Finished processes that had used the network.",
            COUNT,
            or_zero(total(increase(ENDED, GROUP))),
            instant=True,
        ),
        number(
            "With an error",
            "Those whose exit status was not 0.",
            COUNT,
            or_zero(total(increase(ENDED, GROUP, 'outcome="error"'))),
            instant=True,
            steps=((None, GREEN), (1, ORANGE)),
        ),
        number(
            "By a signal",
            "Those that a signal has ended: killed, or crashed.",
            COUNT,
            or_zero(total(increase(ENDED, GROUP, 'outcome="signal"'))),
            instant=True,
            steps=((None, GREEN), (1, ORANGE)),
        ),
        number(
            "Life of one, mean",
            "How long finished processes had lived, on average.",
            SECONDS,
            f"{total(increase(f'{LIFETIME}_sum', GROUP))}"
            f" / ({total(increase(f'{LIFETIME}_count', GROUP))} > 0)",
            instant=True,
        ),
        number(
            "Used by one, mean",
            "What each of them had received and transmitted, on average.",
            SIZE,
            f"{total(increase(f'{BYTES}_sum', GROUP))}"
            f" / ({total(increase(f'{BYTES}_count', GROUP))} > 0)",
            instant=True,
        ),
        number(
            "Of all traffic of groups",
            "The share of what groups use that finished processes had used: the greater it is, the "
            "less the series of processes tell.",
            SHARE,
            f"({of_both('exited')}) / ({of_both('group')} > 0)",
        ),
    ],
)

WHO = Part(
    "Who ends, and how",
    [
        series(
            "Ended, by outcome",
            "Finished processes a second: exit (status 0), error, signal.",
            RATE,
            Query(total(rate(ENDED, GROUP), "outcome"), "{{outcome}}"),
            stacked=True,
        ),
        series(
            "Failed, by group",
            "The ten groups in which most processes end with an error or by a signal.",
            RATE,
            Query(top(total(rate(ENDED, GROUP, FAILED), *NAMES)), LEGEND),
        ),
        rows(
            "Groups",
            "The fifty groups in which most processes ended in the time that is shown.",
            {"namespace": "Namespace", "group": "Group"},
            Column("Ended", top(total(increase(ENDED, GROUP), *NAMES), 50), COUNT),
            Column(
                "Failed",
                f"{total(increase(ENDED, GROUP, FAILED), *NAMES)} and "
                f"{top(total(increase(ENDED, GROUP), *NAMES), 50)}",
                COUNT,
            ),
            Column(
                "Had used",
                "("
                + " + ".join(
                    total(increase(f"netatop_exited_{direction}_bytes_total", GROUP), *NAMES)
                    for direction in ("receive", "transmit")
                )
                + f") and {top(total(increase(ENDED, GROUP), *NAMES), 50)}",
                SIZE,
            ),
            links=[LINK],
        ),
    ],
)

HOW = Part(
    "How long they lived, how much they used",
    [
        heat(
            "Lifetimes",
            "How long finished processes had lived. A band below one second is what no list of "
            "processes ever shows.",
            SECONDS,
            total(rate(f"{LIFETIME}_bucket", GROUP), "le"),
        ),
        heat(
            "Sizes",
            "What each finished process had received and transmitted, at the IP layer.",
            SIZE,
            total(rate(f"{BYTES}_bucket", GROUP), "le"),
        ),
        series(
            "Life, half of them",
            "Half of the finished processes of a group had lived shorter.",
            SECONDS,
            Query(top(quantile(0.5, LIFETIME, *NAMES, matchers=(GROUP,))), LEGEND),
        ),
        series(
            "Used, 95 % of them",
            "95 % of the finished processes of a group had used less.",
            SIZE,
            Query(top(quantile(0.95, BYTES, *NAMES, matchers=(GROUP,))), LEGEND),
        ),
    ],
)

USED = Part(
    "What they leave",
    [
        series(
            "Had received, by group",
            "What finished processes add to the sums, a second. It comes when they end: a peak is "
            "the whole life of something.",
            BYTE_RATE,
            Query(top(total(rate("netatop_exited_receive_bytes_total", GROUP), *NAMES)), LEGEND),
        ),
        series(
            "Had transmitted, by group",
            "What finished processes add to the sums, a second.",
            BYTE_RATE,
            Query(top(total(rate("netatop_exited_transmit_bytes_total", GROUP), *NAMES)), LEGEND),
        ),
    ],
)

LIVES = Part(
    "All processes, whether they use the network or not",
    [
        series(
            "Events",
            "fork, exec, exit, abort (killed by a signal) and threads, a second. Needs "
            "--collector.lifecycle.",
            RATE,
            Query(total(rate("netatop_lifecycle_events_total", GROUP), "event"), "{{event}}"),
        ),
        series(
            "Forks by group",
            "The ten groups that fork most. Needs --collector.lifecycle.",
            RATE,
            Query(
                top(total(rate("netatop_lifecycle_events_total", GROUP, 'event="fork"'), *NAMES)),
                LEGEND,
            ),
        ),
    ],
)

KEPT = Part(
    "The exit list and the log",
    [
        series(
            "Exit list",
            "Finished processes that the command exits lists (--exits.max).",
            COUNT,
            Query(total(pick("netatop_exit_list_processes"), "instance"), "{{instance}}"),
            width=8,
        ),
        series(
            "Made room",
            "Finished processes that made room for others in the list; their traffic is in the "
            "sums.",
            RATE,
            Query(total(rate("netatop_exit_list_evicted_total"), "instance"), "{{instance}}"),
            width=8,
        ),
        series(
            "Log on disk",
            "Finished processes that were written to the log, and those that were not, by reason. "
            "Needs exit_log in the configuration.",
            RATE,
            Query(total(rate("netatop_exit_log_records_total")), "written"),
            Query(total(rate("netatop_exit_log_lost_total"), "reason"), "lost: {{reason}}"),
            width=8,
            steps=ANY_IS_BAD,
        ),
    ],
)

BOARD = Board(
    "netatop-exits",
    "netatop / Exits",
    "Processes that have ended: how, after how long, and what they had used.",
    [
        *exporters(),
        Variable("namespace", "Namespace", f"{ENDED}{{{HERE}}}", may_be_empty=True),
        Variable("group", "Group", f'{ENDED}{{{HERE},namespace=~"$namespace"}}'),
    ],
    [NOW, WHO, HOW, USED, LIVES, KEPT],
)
