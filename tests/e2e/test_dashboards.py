# SPDX-License-Identifier: Apache-2.0
"""Every query of every dashboard, and every rule, on a real Prometheus while something happens."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import socket
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import yaml

from exporter.model import PROTOCOLS
from tests.dashboards import (
    BOARDS,
    LABEL_VALUES,
    METRIC,
    RECORDED,
    ROOT,
    RULES,
    Target,
    substitute,
    targets,
    variables,
)
from tests.e2e import program, workers
from tests.e2e.prometheus import Prometheus, configured
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

FLAGS: Final = tuple(
    f"--collector.{kind}" for kind in ("threads", "sockets", "remotes", "hosts", "lifecycle")
)
STATISTICS: Final = Path("/proc/sys/kernel/bpf_stats_enabled")
SECONDS: Final = 25
"""A finished process is final after 16; then its histograms need two scrapes."""
SIZE: Final = 41
CONFIGURATION: Final = """\
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: netatop
    static_configs: [{{targets: ['{target}']}}]
  # Refused by Prometheus: what the alert of this name looks for.
  - job_name: netatop-limited
    sample_limit: 7
    scrape_interval: 10s
    params: {{"collect[]": [total, exporter]}}
    static_configs: [{{targets: ['{target}']}}]
"""
CHOICES: Final = {"job": ".+", "instance": ".+", "group": ".+", "namespace": ".*", "pod": ".*"}
"""What All stands for."""
TIMES: Final = {"__rate_interval": "20s", "__range": "60s"}
UNKNOWN: Final = {"instance_group:netatop_group_bytes:avg_rate1d"}
"""What is recorded after six hours."""
WRITTEN: Final = [
    rule
    for file in RULES
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]


class Minute(NamedTuple):
    """What there is to look at."""

    server: Prometheus
    name: str
    """The group of the workload."""
    begin: float
    end: float
    """When it was scraped last: later ones may fail where others need the processors."""
    exposition: str
    exporter: program.Program
    configuration: Path


def bustle(talk: Connection, name: str) -> None:
    """Until told to stop: datagrams, connections, and children that end in each way."""
    workers.call_myself(name)
    with workers.udp_socket() as own, socket.create_server((workers.LOCAL, 0)) as server:
        talk.send("ready")
        while not talk.poll(0.3):
            workers.send_to_itself(own, 23, SIZE)
            for _ in range(3):
                with socket.create_connection(server.getsockname()) as caller:
                    called, _ = server.accept()
                    with called:
                        caller.sendall(bytes(4099))
                        assert called.recv(4099, socket.MSG_WAITALL) == bytes(4099)
            for how in (0, 3, -signal.SIGKILL):
                child = child_that_ends(own.getsockname(), how)
                os.waitpid(child, 0)
                own.recv(1 << 16)


def child_that_ends(address: tuple[str, int], how: int) -> int:
    """Start a process that sends one datagram and ends by a status, or by a signal."""
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(bytes(SIZE), address)
        if how < 0:
            os.kill(os.getpid(), -how)
        os._exit(how)
    os._exit(70)


@pytest.fixture(scope="module")
def statistics() -> Iterator[None]:
    """Have the kernel measure its programs."""
    before = STATISTICS.read_text()
    STATISTICS.write_text("1")
    yield
    STATISTICS.write_text(before)


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory, statistics: None) -> Iterator[Minute]:
    """Let Prometheus scrape an exporter that counts everything, while everything happens."""
    del statistics
    folder = tmp_path_factory.mktemp("prometheus")
    file = folder / "netatop-exporter.yml"
    file.write_text(f"exit_log: {{format: json, path: {folder / 'exits.jsonl'}}}\n")
    rules = folder / "rules.yml"
    rules.write_text(RULES[0].read_text(encoding="utf-8").replace("    interval: 4m\n", ""))
    files = f"{rules}, {RULES[1]}"
    name = workers.new_name()
    with (
        program.serve(*FLAGS, "--config.file", str(file)) as exporter,
        configured(CONFIGURATION.format(rules=files, target=exporter.address), folder) as server,
        Process(workers.team, workers.new_name(), {"one": 7, "two": 11}, SIZE) as team,
        Process(bustle, name) as busy,
    ):
        exporter.is_ours = False
        team.hear()
        busy.hear()
        begin = time.time()
        ended = f'netatop_exited_process_bytes_count{{group="{name}"}}'
        wait_until(lambda: len(server.query(ended)) == 1, "processes are final")
        wait_until(lambda: time.time() > begin + SECONDS, "it has happened for a while")
        ends: list[float] = []

        def ended_well() -> bool:
            ends.append(last_scrape(server))
            return is_whole(server, ends[-1])

        wait_until(ended_well, "all that can be is recorded")
        exposition = exporter.ask().body.decode()
        yield Minute(server, name, begin, ends[-1], exposition, exporter, file)
        busy.tell()
        team.tell()
        busy.wait()


def last_scrape(server: Prometheus) -> float:
    """Return when the last one was, if it succeeded; a bit later, as times are cut off."""
    found = server.query('timestamp(up{job="netatop"} == 1)')
    return float(found[0]["value"][1]) + 0.002 if found else 0.0


def is_whole(server: Prometheus, moment: float) -> bool:
    """Tell whether nothing is missing then."""
    found = server.query('count by (__name__) ({__name__=~".+:netatop_.+"})', time=moment)
    names = {one["metric"]["__name__"] for one in found}
    return names == {rule["record"] for rule in WRITTEN if "record" in rule} - UNKNOWN


def code(page: str, language: str) -> list[str]:
    """Return the blocks of a page that are in this language."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def numbers(minute: Minute, target: Target, **choices: str) -> list[list[float]]:
    """Return the values of each series that a query finds."""
    expression = substitute(target.expression, **CHOICES | TIMES | choices)
    if target.is_instant:
        found = minute.server.query(expression, time=minute.end)
        return [[float(series["value"][1])] for series in found]
    found = minute.server.ask(
        "query_range", query=expression, start=minute.begin, end=minute.end, step=2
    )["result"]
    return [[float(value) for _, value in series["values"]] for series in found]


@pytest.mark.parametrize("board", BOARDS)
def test_every_panel(minute: Minute, board: str) -> None:
    """Every query of every panel finds something, and nothing that is no number."""
    wrong: dict[str, object] = {}
    for target in targets(board):
        found = numbers(minute, target)
        if not found:
            wrong[str(target)] = "nothing"
        elif not all(math.isfinite(value) for series in found for value in series):
            wrong[str(target)] = found
    assert not wrong


@pytest.mark.parametrize("board", ["netatop-host", "netatop-group", "netatop-exits"])
def test_one_group(minute: Minute, board: str) -> None:
    """So it is if one host and one group are chosen."""
    (here,) = minute.server.query('netatop_build_info{job="netatop"}', time=minute.end)
    instance = here["metric"]["instance"]
    choices = {"job": "netatop", "instance": instance, "group": minute.name, "namespace": ""}
    wrong = [str(target) for target in targets(board) if not numbers(minute, target, **choices)]
    assert not wrong


@pytest.mark.parametrize("board", BOARDS)
def test_every_variable(minute: Minute, board: str) -> None:
    """Every variable has something to choose from, and All stands for all of it."""
    for name, variable in variables(board).items():
        if variable["type"] == "datasource":
            continue
        match = LABEL_VALUES.fullmatch(variable["query"])
        assert match, variable["query"]
        assert match[2] == name
        selector = substitute(match[1], **CHOICES)
        found = minute.server.ask("series", **{"match[]": selector})
        assert found, (name, selector)
        assert variable["allValue"] == CHOICES[name]
        assert (variable["allValue"] == ".*") == any(not one.get(name) for one in found), name


def test_right_numbers(minute: Minute) -> None:
    """What a panel says is what happened: so many datagrams and children a second, of one group."""
    every = {one.panel: one for one in targets("netatop-exits") if one.name == "A"}
    found = minute.server.query(
        substitute(
            every["Ended, by outcome"].expression, **CHOICES | TIMES | {"group": minute.name}
        )
    )
    rates = {series["metric"]["outcome"]: float(series["value"][1]) for series in found}
    assert rates.keys() == {"exit", "error", "signal"}
    assert max(rates.values()) > 0
    assert min(rates.values()) == pytest.approx(max(rates.values()), rel=0.2)
    mean = minute.server.query(
        substitute(
            every["Used by one, mean"].expression, **CHOICES | TIMES | {"group": minute.name}
        )
    )
    assert float(mean[0]["value"][1]) == pytest.approx(workers.HEADERS + SIZE)


def test_names(minute: Minute) -> None:
    """Every metric that a dashboard, a rule or their pages name is in the exposition."""
    shown = set(METRIC.findall(minute.exposition))
    pages = [ROOT / "docs" / f"{name}.md" for name in ("dashboards", "alerts")]
    texts = {
        **{name: str(board) for name, board in BOARDS.items()},
        **{file.name: file.read_text(encoding="utf-8") for file in (*RULES, *pages)},
    }
    unknown = {
        file: names
        for file, text in texts.items()
        if (names := set(METRIC.findall(RECORDED.sub("", text))) - shown)
    }
    assert not unknown


@pytest.mark.parametrize("page", ["dashboards", "metrics"])
def test_expressions_of_pages(minute: Minute, page: str) -> None:
    """What they give as PromQL is; two look back further than there is something."""
    blocks = code(page, "promql")
    assert blocks
    for block in blocks:
        for expression in re.split(r"\n(?=\S)(?!\))", block.strip()):
            minute.server.query(expression, time=minute.end)


def test_jobs_of_page(minute: Minute) -> None:
    """Two jobs, as docs/dashboards.md has them, get everything that one gets."""
    (text,) = [block for block in code("dashboards", "yaml") if "collect[]" in block]
    found: set[str] = set()
    for job in yaml.safe_load(text)["scrape_configs"]:
        parameters = urllib.parse.urlencode(job["params"], doseq=True)
        answer = minute.exporter.ask(f"/metrics?{parameters}")
        assert answer.status == 200
        found |= set(METRIC.findall(answer.body.decode()))
    assert found == set(METRIC.findall(minute.exposition))


def test_rules_are_evaluated(minute: Minute) -> None:
    """Each is, without an error. That each recorded one has values is what was waited for."""
    groups = minute.server.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(WRITTEN)
    assert {rule["health"] for rule in rules} == {"ok"}, [r for r in rules if r["health"] != "ok"]


def test_no_alert(minute: Minute) -> None:
    """Nothing fires on a host that is well; but what Prometheus refuses is on its way to."""
    found = minute.server.query('ALERTS{alertname=~"Netatop.*"}', time=minute.end)
    assert [one for one in found if one["metric"]["alertstate"] == "firing"] == []
    refused = {o["metric"]["alertname"] for o in found if o["metric"]["job"] == "netatop-limited"}
    assert refused == {"NetatopDown", "NetatopSampleLimit"}


def test_alert_of_a_real_mistake(minute: Minute) -> None:
    """A configuration that is refused is on its way to an alert, until it is mended."""
    pending = 'ALERTS{alertname="NetatopReloadFailed",alertstate="pending",job="netatop"}'
    good = minute.configuration.read_text()
    minute.configuration.write_text("threads: maybe\n")
    minute.exporter.process.send_signal(signal.SIGHUP)
    try:
        wait_until(lambda: minute.server.query(pending), "the alert waits for its five minutes")
    finally:
        minute.configuration.write_text(good)
        minute.exporter.reload()
    wait_until(lambda: not minute.server.query(pending), "it is over")


def test_protocols_in_recorded_series(minute: Minute) -> None:
    """What is recorded of a job has all protocols."""
    for what in ("receive_bytes", "transmit_packets"):
        metric = f'job_protocol:netatop_{what}:rate5m{{job="netatop"}}'
        parts = minute.server.query(metric, time=minute.end)
        assert {one["metric"]["protocol"] for one in parts} == set(PROTOCOLS)
