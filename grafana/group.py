# SPDX-License-Identifier: Apache-2.0
"""One group or pod, on all hosts that it is on."""

from __future__ import annotations

from grafana.board import Board, Part, Variable, exporters
from grafana.host import PROCESS, TCP, of_process
from grafana.panels import (
    BYTE_RATE,
    COUNT,
    GREEN,
    ORANGE,
    PACKET_RATE,
    RATE,
    RED,
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
from grafana.promql import GROUP, HERE, increase, or_zero, quantile, rate, top, total

METRIC = "netatop_group_transmit_bytes_total"
HOST = Link("Instance", "This host", "netatop-host", {"instance": "Instance"})
WHERE = {"instance": "Instance", "namespace": "Namespace", "pod": "Pod", "container": "Container"}


def of_group(metric: str, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Return the rate of the groups that were chosen."""
    return total(rate(f"netatop_group_{metric}_total", GROUP, *matchers), *labels)


NOW = Part(
    "Now",
    [
        number(
            "Receives",
            "Bytes a second, at the IP layer, on all hosts that were chosen.",
            BYTE_RATE,
            of_group("receive_bytes"),
        ),
        number(
            "Transmits",
            "Bytes a second, at the IP layer.",
            BYTE_RATE,
            of_group("transmit_bytes"),
        ),
        number(
            "Of all that its hosts transmit",
            "Its share of the bytes that the chosen hosts transmit.",
            SHARE,
            f"{of_group('transmit_bytes')} / ({total(rate('netatop_transmit_bytes_total'))} > 0)",
        ),
        number(
            "Used",
            "Bytes that it has received and transmitted in the time that is shown.",
            SIZE,
            f"{total(increase('netatop_group_receive_bytes_total', GROUP))}"
            f" + {total(increase('netatop_group_transmit_bytes_total', GROUP))}",
            instant=True,
        ),
        number(
            "Segments sent again, share",
            "The share of its TCP packets that had been sent before.",
            SHARE,
            f"{of_group('tcp_retransmitted_packets')} / "
            f"({of_group('transmit_packets', matchers=(TCP,))} > 0)",
            steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
        ),
        number(
            "Failed processes",
            "Its processes that ended with an error or by a signal, in the time that is shown.",
            COUNT,
            or_zero(
                total(increase("netatop_exited_processes_total", GROUP, 'outcome=~"error|signal"'))
            ),
            instant=True,
            steps=((None, GREEN), (1, ORANGE)),
        ),
    ],
)

WHERE_IT_IS = Part(
    "Where it is, and where to",
    [
        series(
            "Receives, by host",
            "The ten hosts on which it receives most.",
            BYTE_RATE,
            Query(top(of_group("receive_bytes", "instance")), "{{instance}}"),
        ),
        series(
            "Transmits, by host",
            "The ten hosts on which it transmits most.",
            BYTE_RATE,
            Query(top(of_group("transmit_bytes", "instance")), "{{instance}}"),
        ),
        rows(
            "Pods and hosts now",
            "Where it runs. A click on a host shows it.",
            WHERE,
            Column("Transmits", top(of_group("transmit_bytes", *WHERE), 50), BYTE_RATE),
            Column("Receives", top(of_group("receive_bytes", *WHERE), 50), BYTE_RATE),
            links=[HOST],
        ),
        series(
            "Receives, by class of remote address",
            "From where. Needs --collector.remotes.",
            BYTE_RATE,
            Query(of_group("remote_receive_bytes", "remote"), "{{remote}}"),
            stacked=True,
        ),
        series(
            "Transmits, by class of remote address",
            "Where to. Needs --collector.remotes.",
            BYTE_RATE,
            Query(of_group("remote_transmit_bytes", "remote"), "{{remote}}"),
            stacked=True,
        ),
    ],
)

WHO = Part(
    "Its processes",
    [
        rows(
            "Processes now",
            "The thirty of its processes that transmit most and have series.",
            {
                "instance": "Instance",
                "pid": "PID",
                "process": "Process",
                "user": "User",
                "exe": "Executable",
                "namespace": "Namespace",
                "pod": "Pod",
                "container": "Container",
            },
            *(
                Column(
                    title,
                    of_process(
                        top(
                            total(
                                rate(
                                    f"netatop_process_{direction}_bytes_total",
                                    'group=~"$group"',
                                ),
                                *PROCESS,
                            ),
                            30,
                        )
                    ),
                    BYTE_RATE,
                )
                for title, direction in (("Transmits", "transmit"), ("Receives", "receive"))
            ),
            links=[HOST],
        ),
        rows(
            "Sockets now",
            "The thirty open sockets of its processes that transmit most. Needs "
            "--collector.sockets, or a rule for the group.",
            {
                "instance": "Instance",
                "pid": "PID",
                "process": "Process",
                "protocol": "Protocol",
                "local_port": "Port",
                "remote_address": "Remote address",
                "remote_port": "Remote port",
            },
            Column(
                "Transmits",
                top(
                    total(
                        f"{rate('netatop_socket_transmit_bytes_total')} and "
                        "on (job, instance, pid, process) "
                        f'netatop_process_transmit_bytes_total{{{HERE},group=~"$group"}}',
                        *("instance", "pid", "process", "protocol"),
                        *("local_port", "remote_address", "remote_port"),
                    ),
                    30,
                ),
                BYTE_RATE,
            ),
        ),
    ],
)

WHAT = Part(
    "What it does",
    [
        series(
            "Receives, by protocol",
            "Bytes a second, at the IP layer.",
            BYTE_RATE,
            Query(of_group("receive_bytes", "protocol"), "{{protocol}}"),
            stacked=True,
        ),
        series(
            "Transmits, by protocol",
            "Bytes a second, at the IP layer.",
            BYTE_RATE,
            Query(of_group("transmit_bytes", "protocol"), "{{protocol}}"),
            stacked=True,
        ),
        series(
            "Packets",
            "Packets a second, in both directions.",
            PACKET_RATE,
            Query(of_group("receive_packets"), "receives"),
            Query(of_group("transmit_packets"), "transmits"),
            width=8,
        ),
        series(
            "TCP payload",
            "What its connections deliver, as TCP sees it: another layer than the plots above, "
            "without headers and what is sent again.",
            BYTE_RATE,
            Query(of_group("tcp_payload_receive_bytes"), "receives"),
            Query(of_group("tcp_payload_transmit_bytes"), "transmits, acknowledged"),
            width=8,
        ),
        series(
            "Segments sent again",
            "TCP segments a second that had been sent before, by host.",
            PACKET_RATE,
            Query(top(of_group("tcp_retransmitted_packets", "instance")), "{{instance}}"),
            width=8,
        ),
        heat(
            "Round trips",
            "Smoothed round-trip time of its TCP connections, one value each, when it ends.",
            SECONDS,
            total(rate("netatop_group_tcp_round_trip_seconds_bucket", GROUP), "le"),
        ),
        series(
            "Round trip",
            "Half and 95 % of its TCP connections that ended had a shorter one.",
            SECONDS,
            *(
                Query(
                    quantile(share, "netatop_group_tcp_round_trip_seconds", matchers=(GROUP,)), name
                )
                for share, name in ((0.5, "half"), (0.95, "95 %"))
            ),
        ),
    ],
)

LIVES = Part(
    "Its processes' lives",
    [
        series(
            "Processes that ended",
            "Finished processes that had used the network, a second, by how they ended.",
            RATE,
            Query(
                total(rate("netatop_exited_processes_total", GROUP), "outcome"),
                "{{outcome}}",
            ),
        ),
        series(
            "Events",
            "fork, exec, exit, abort (killed by a signal) and threads, a second. Needs "
            "--collector.lifecycle.",
            RATE,
            Query(total(rate("netatop_lifecycle_events_total", GROUP), "event"), "{{event}}"),
        ),
    ],
)

BOARD = Board(
    "netatop-group",
    "netatop / Group or pod",
    "One group, namespace or pod: where it runs, what it uses, where to, how well.",
    [
        *exporters(),
        Variable("namespace", "Namespace", f"{METRIC}{{{HERE}}}", may_be_empty=True),
        Variable("pod", "Pod", f'{METRIC}{{{HERE},namespace=~"$namespace"}}', may_be_empty=True),
        Variable("group", "Group", f'{METRIC}{{{HERE},namespace=~"$namespace",pod=~"$pod"}}'),
    ],
    [NOW, WHERE_IT_IS, WHO, WHAT, LIVES],
)
