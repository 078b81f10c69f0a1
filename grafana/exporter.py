# SPDX-License-Identifier: Apache-2.0
"""The exporter itself: does it count everything, and what does it cost."""

from __future__ import annotations

from grafana.board import Board, Part, exporters
from grafana.panels import (
    ANY_IS_BAD,
    COUNT,
    FULL,
    NONE_IS_BAD,
    PACKET_RATE,
    RATE,
    SECONDS,
    SHARE,
    SIZE,
    Column,
    Query,
    number,
    rows,
    series,
)
from grafana.promql import ANSWER, DO_NOT, HERE, increase, or_zero, pick, rate, top, total

BY_HOST = "{{instance}}"
RUNS = ("program", "hook")

NOW = Part(
    "Now",
    [
        number(
            "Answer",
            "Exporters that answered the last scrape.",
            COUNT,
            ANSWER,
            steps=NONE_IS_BAD,
            width=3,
        ),
        number(
            "Do not answer",
            "Exporters that Prometheus could not scrape.",
            COUNT,
            DO_NOT,
            steps=ANY_IS_BAD,
            width=3,
        ),
        number(
            "Starts",
            "How often exporters were started again in the time that is shown.",
            COUNT,
            f"sum(changes({pick('process_start_time_seconds')}[$__range]))",
            instant=True,
            width=3,
        ),
        number(
            "Lost",
            "What could not be stored in the time that is shown.",
            COUNT,
            total(increase("netatop_lost_total")),
            steps=ANY_IS_BAD,
            instant=True,
            width=3,
        ),
        number(
            "Stages that fail",
            "Stages of the last scrapes that failed: the metrics that they make are missing.",
            COUNT,
            or_zero(f"count({pick('netatop_scrape_stage_success')} == 0)"),
            steps=ANY_IS_BAD,
            width=3,
        ),
        number(
            "Refused configurations",
            "Exporters that refused their configuration when it was last read.",
            COUNT,
            or_zero(f"count({pick('netatop_config_last_reload_successful')} == 0)"),
            steps=ANY_IS_BAD,
            width=3,
        ),
        number(
            "Do not count packets",
            "Exporters without the kernel programs that count.",
            COUNT,
            or_zero(
                "count("
                + pick("netatop_program_attached", 'program=~"count_receive|count_transmit"')
                + " == 0)"
            ),
            steps=ANY_IS_BAD,
            width=3,
        ),
        number(
            "Fullest table",
            "Of all tables in all kernels.",
            SHARE,
            f"max({pick('netatop_map_entries')} / {pick('netatop_map_capacity')})",
            steps=FULL,
            width=3,
        ),
    ],
)

ACCOUNTED = Part(
    "Is everything counted, and whose is it",
    [
        series(
            "Lost, by what and why",
            "What could not be stored, a second: task/full is --tasks.max, memory is the kernel's, "
            "program/recursion a kernel program that could not run.",
            RATE,
            Query(total(rate("netatop_lost_total"), "object", "reason"), "{{object}}, {{reason}}"),
            steps=ANY_IS_BAD,
        ),
        series(
            "Packets of nobody that should be somebody's",
            "Packets a second with the reasons no_owner and overflow, in both directions.",
            PACKET_RATE,
            *(
                Query(
                    total(
                        rate(
                            f"netatop_unidentified_{direction}_packets_total",
                            'reason=~"no_owner|overflow"',
                        ),
                        "instance",
                        "reason",
                    ),
                    f"{{{{instance}}}} {{{{reason}}}}, {direction}",
                )
                for direction in ("receive", "transmit")
            ),
        ),
        series(
            "Tables",
            "How full the tables in the kernel are.",
            SHARE,
            Query(
                top(f"{pick('netatop_map_entries')} / {pick('netatop_map_capacity')}"),
                "{{instance}} {{map}}",
            ),
            steps=FULL,
            width=8,
        ),
        series(
            "Tasks",
            "Records of processes and threads that have used the network.",
            COUNT,
            Query(total(pick("netatop_tasks"), "instance", "kind"), "{{instance}} {{kind}}"),
            width=8,
        ),
        series(
            "Sockets",
            "Sockets of processes.",
            COUNT,
            Query(total(pick("netatop_sockets"), "instance"), BY_HOST),
            width=8,
        ),
    ],
)

SERIES = Part(
    "Series",
    [
        series(
            "Series by kind",
            "Series of the last scrapes: what Prometheus has to store.",
            COUNT,
            Query(total(pick("netatop_series"), "instance", "kind"), "{{instance}} {{kind}}"),
            width=8,
        ),
        series(
            "Of their limit",
            "Series in use, of those that there can be. Near 1, `other` holds what has none.",
            SHARE,
            Query(
                top(f"{pick('netatop_series')} / ({pick('netatop_series_limit')} > 0)"),
                "{{instance}} {{kind}}",
            ),
            steps=FULL,
            width=8,
        ),
        series(
            "Samples of a scrape",
            "All samples that Prometheus has read in one scrape.",
            COUNT,
            Query(pick("scrape_samples_scraped"), BY_HOST),
            width=8,
        ),
    ],
)

COST = Part(
    "What it costs",
    [
        series(
            "Scrape",
            "How long Prometheus waits for an answer. It gives up after scrape_timeout.",
            SECONDS,
            Query(pick("scrape_duration_seconds"), BY_HOST),
            width=8,
        ),
        series(
            "Scrape, by stage",
            "Which step takes how long, on average of the exporters.",
            SECONDS,
            Query(f"avg by (stage) ({pick('netatop_scrape_stage_duration_seconds')})", "{{stage}}"),
            stacked=True,
            width=8,
        ),
        series(
            "Processor",
            "Of one core, by the exporter's process. What its kernel programs take is beside it.",
            SHARE,
            Query(rate("process_cpu_seconds_total"), BY_HOST),
            width=8,
        ),
        series(
            "Memory",
            "Resident memory of the exporter's process.",
            SIZE,
            Query(pick("process_resident_memory_bytes"), BY_HOST),
            width=8,
        ),
        series(
            "File descriptors",
            "Open files of the exporter's process, of those that it may open.",
            SHARE,
            Query(f"{pick('process_open_fds')} / {pick('process_max_fds')}", BY_HOST),
            steps=FULL,
            width=8,
        ),
        series(
            "Processor, kernel programs",
            "Of one core, by each program. Only while kernel.bpf_stats_enabled is 1, which costs "
            "more than the programs.",
            SHARE,
            Query(top(total(rate("netatop_program_run_seconds_total"), "program")), "{{program}}"),
            width=8,
        ),
    ],
)

WHAT = Part(
    "Which",
    [
        rows(
            "Versions",
            "Which version runs where, on which kernel, and how it knows who uses a socket.",
            {
                "instance": "Instance",
                "version": "Version",
                "python": "Python",
                "kernel": "Kernel",
                "loader": "Loader",
                "libbpf": "libbpf",
                "owners": "Owners",
                "layout": "Layout",
            },
            Column(
                "Up for",
                f"(time() - {pick('process_start_time_seconds')})"
                f" * on (job, instance) group_left (version, python) netatop_build_info{{{HERE}}}"
                " * on (job, instance) group_left (kernel, loader, libbpf, owners, layout)"
                f" netatop_loader_info{{{HERE}}}",
                SECONDS,
            ),
        ),
        rows(
            "Kernel programs",
            "On how many hosts each program is attached. Not every kernel needs every program.",
            {"program": "Program", "hook": "Hook"},
            Column("Attached", total(pick("netatop_program_attached"), *RUNS), COUNT),
            width=12,
        ),
        rows(
            "A run of a kernel program",
            "How long one run takes on average. Only while kernel.bpf_stats_enabled is 1.",
            {"program": "Program", "hook": "Hook"},
            Column(
                "One run",
                f"{total(rate('netatop_program_run_seconds_total'), *RUNS)} / "
                f"({total(rate('netatop_program_runs_total'), *RUNS)} > 0)",
                SECONDS,
            ),
            Column("Runs", total(rate("netatop_program_runs_total"), *RUNS), RATE),
            width=12,
        ),
    ],
)

BOARD = Board(
    "netatop-exporter",
    "netatop / Exporter",
    "Whether the exporters count everything, and what they cost.",
    exporters(),
    [NOW, ACCOUNTED, SERIES, COST, WHAT],
)
