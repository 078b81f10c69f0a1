# SPDX-License-Identifier: Apache-2.0
"""All hosts. Recorded series alone (deploy/prometheus): a server that federates has no others."""

from __future__ import annotations

from grafana.board import Board, Part, exporters
from grafana.panels import (
    ANY_IS_BAD,
    BYTE_RATE,
    COUNT,
    GREEN,
    NONE_IS_BAD,
    ORANGE,
    PACKET_RATE,
    RATE,
    RED,
    SHARE,
    Column,
    Link,
    Query,
    number,
    rows,
    series,
)
from grafana.promql import ANSWER, DO_NOT, or_zero, pick, top, total

JOB = 'job=~"$job"'
FIRING = 'alertname=~"Netatop.*",alertstate="firing"'
GROUP = Link(
    "Group",
    "This group, on all hosts",
    "netatop-group",
    {"group": "Group", "namespace": "Namespace"},
)
HOST = Link("Instance", "This host", "netatop-host", {"instance": "Instance"})


def by_group(direction: str) -> str:
    """Return the rates of groups of the whole fleet, which have no instance."""
    metric = f"group:netatop_group_{direction}_bytes:rate5m{{{JOB}}}"
    return total(metric, "namespace", "group")


def by_host(metric: str) -> str:
    """Return what was recorded of each host."""
    return total(pick(f"instance:netatop_{metric}:rate5m"), "instance")


def nobody(reasons: str = ".+") -> str:
    """Return which share of a host's packets belongs to nobody."""
    metric = "instance_reason:netatop_unidentified_packets:ratio_rate5m"
    return total(pick(metric, f'reason=~"{reasons}"'), "instance")


NOW = Part(
    "Now",
    [
        number(
            "Hosts",
            "Exporters that answered the last scrape.",
            COUNT,
            ANSWER,
            steps=NONE_IS_BAD,
            width=3,
        ),
        number(
            "Hosts that do not answer",
            "Exporters that Prometheus could not scrape.",
            COUNT,
            DO_NOT,
            steps=ANY_IS_BAD,
            width=3,
        ),
        number(
            "Received",
            "Bytes a second that all hosts receive, at the IP layer. What one host sends to "
            "another of them is in both numbers.",
            BYTE_RATE,
            total(pick("instance:netatop_receive_bytes:rate5m")),
        ),
        number(
            "Transmitted",
            "Bytes a second that all hosts transmit, at the IP layer.",
            BYTE_RATE,
            total(pick("instance:netatop_transmit_bytes:rate5m")),
        ),
        number(
            "Packets of nobody, worst host",
            "The greatest share of a host's packets whose process is not known: the reasons "
            "no_owner and overflow. Packets to closed ports and those of the kernel are not in it.",
            SHARE,
            f"max({nobody('no_owner|overflow')})",
            steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
        ),
        number(
            "Lost",
            "What exporters could not store, a second. Anything but 0 is in the alert NetatopLoss.",
            RATE,
            total(pick("instance:netatop_lost:rate5m")),
            steps=ANY_IS_BAD,
            width=3,
        ),
        number(
            "Alerts",
            "Alerts of netatop that fire now.",
            COUNT,
            or_zero(f"count({pick('ALERTS', FIRING)})"),
            steps=ANY_IS_BAD,
            width=3,
        ),
    ],
)

WHO = Part(
    "What is eating the network",
    [
        series(
            "Received by group",
            "The ten groups that receive most, all hosts together. Choosing instances above does "
            "not change it: these sums have none.",
            BYTE_RATE,
            Query(top(by_group("receive")), "{{namespace}} {{group}}"),
        ),
        series(
            "Transmitted by group",
            "The ten groups that transmit most, all hosts together.",
            BYTE_RATE,
            Query(top(by_group("transmit")), "{{namespace}} {{group}}"),
        ),
        rows(
            "Groups now",
            "The fifty busiest groups of the fleet. A click on a name shows the group on all its "
            "hosts.",
            {"namespace": "Namespace", "group": "Group"},
            Column(
                "Both",
                top(f"({by_group('receive')}) + ({by_group('transmit')})", 50),
                BYTE_RATE,
            ),
            Column("Receives", top(by_group("receive"), 50), BYTE_RATE),
            Column("Transmits", top(by_group("transmit"), 50), BYTE_RATE),
            links=[GROUP],
        ),
    ],
)

WHERE = Part(
    "Where",
    [
        series(
            "Received by host",
            "The ten hosts that receive most.",
            BYTE_RATE,
            Query(top(by_host("receive_bytes")), "{{instance}}"),
        ),
        series(
            "Transmitted by host",
            "The ten hosts that transmit most.",
            BYTE_RATE,
            Query(top(by_host("transmit_bytes")), "{{instance}}"),
        ),
        rows(
            "Hosts now",
            "Every host that was chosen. A click on a name shows the host.",
            {"instance": "Instance"},
            Column("Receives", by_host("receive_bytes"), BYTE_RATE),
            Column("Transmits", by_host("transmit_bytes"), BYTE_RATE),
            Column("Packets in", by_host("receive_packets"), PACKET_RATE),
            Column("Packets out", by_host("transmit_packets"), PACKET_RATE),
            Column("Of nobody", nobody("no_owner|overflow"), SHARE),
            Column("Lost", by_host("lost"), RATE),
            links=[HOST],
        ),
    ],
)

WHAT = Part(
    "What it is, and whether it is accounted for",
    [
        series(
            "Received by protocol",
            "Bytes a second that all hosts receive, by protocol.",
            BYTE_RATE,
            Query(
                total(f"job_protocol:netatop_receive_bytes:rate5m{{{JOB}}}", "protocol"),
                "{{protocol}}",
            ),
            stacked=True,
        ),
        series(
            "Transmitted by protocol",
            "Bytes a second that all hosts transmit, by protocol.",
            BYTE_RATE,
            Query(
                total(f"job_protocol:netatop_transmit_bytes:rate5m{{{JOB}}}", "protocol"),
                "{{protocol}}",
            ),
            stacked=True,
        ),
        series(
            "Packets of nobody",
            "Packets a second that belong to no task, by reason: no_socket nobody listened, kernel "
            "its own, no_owner the process is not known, overflow the task table was full.",
            PACKET_RATE,
            Query(
                total(pick("instance_reason:netatop_unidentified_packets:rate5m"), "reason"),
                "{{reason}}",
            ),
            width=8,
        ),
        series(
            "Packets of nobody by host",
            "The ten hosts with the greatest share of packets that belong to no task, all reasons.",
            SHARE,
            Query(top(nobody()), "{{instance}}"),
            width=8,
        ),
        series(
            "Processes that ended",
            "Finished processes that had used the network, a second, by how they ended.",
            RATE,
            Query(
                total(pick("instance_outcome:netatop_exited_processes:rate5m"), "outcome"),
                "{{outcome}}",
            ),
            width=8,
        ),
    ],
)

BOARD = Board(
    "netatop-fleet",
    "netatop / Fleet",
    "Who uses the network on all hosts. Needs the recording rules of deploy/prometheus.",
    exporters("instance:netatop_receive_bytes:rate5m"),
    [NOW, WHO, WHERE, WHAT],
)
