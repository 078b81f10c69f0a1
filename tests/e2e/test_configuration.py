# SPDX-License-Identifier: Apache-2.0
"""The configuration file as its users meet it: checked, applied, applied again, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e import program, workers
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

EXAMPLE: Final = Path(__file__).parents[2] / "deploy" / "netatop-exporter.yml"
BAD: Final = "threads: maybe\nlimits: {processes: -1}\n"
COMPLAINTS: Final = (
    ":1:10: threads: found 'maybe'; accepted is true or false",
    ":2:21: limits.processes: found '-1' (int); accepted is a whole number from 0 to 100000",
)
SIZE: Final = 37


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file that says nothing yet."""
    made = tmp_path / "netatop-exporter.yml"
    made.touch()
    return made


def test_check(file: Path) -> None:
    """A good file is said to be so; of a bad one all mistakes are told, each in a line."""
    done = program.run("check-config", "--config.file", EXAMPLE)
    assert (done.returncode, done.stdout) == (0, f"{EXAMPLE}: good; 8 rules for groups\n")
    file.write_text(BAD)
    for command in ("check-config", "serve", "once", "doctor"):
        done = program.run(command, "--config.file", file)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [f"netatop-exporter: {file}{c}" for c in COMPLAINTS]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "check-config: --config.file is missing; name the file that is to be checked"),
        (("--config.file", ""), "--config.file: found ''; accepted is the name of a file"),
        (
            ("--config.file", "/none"),
            "/none: No such file or directory; accepted is a configuration file that can be read",
        ),
        (
            ("--config.file", "/"),
            "/: Is a directory; accepted is a configuration file that can be read",
        ),
    ],
)
def test_no_file(words: tuple[str, ...], said: str) -> None:
    """What is missing is named."""
    assert said in program.refusal(program.run("check-config", *words), 2)


def test_schema() -> None:
    """It is what the file in deploy/ says, for editors."""
    done = program.run("check-config", "--schema")
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads(
        EXAMPLE.with_suffix(".schema.json").read_text(encoding="utf-8")
    )


def state(exporter: Program) -> tuple[float, float]:
    """Return whether the last reading succeeded, and when one last did."""
    found = exporter.scrape()
    success = found.sum("netatop_config_last_reload_successful")
    return success, found.sum("netatop_config_last_reload_success_timestamp_seconds")


def test_reload_by_signal(file: Path, name: str) -> None:
    """Names change from then on, counters stay; a bad file changes nothing, and says why."""
    with (
        program.serve("--config.file", str(file)) as exporter,
        Process(workers.talker, name, SIZE) as talker,
    ):
        talker.hear()
        talker.tell(23)
        talker.hear()
        before = state(exporter)
        assert before[0] == 1
        file.write_text(f"groups: [{{name: 'all {name}', comm: [{name}]}}]\n")
        exporter.reload()
        assert state(exporter)[1] > before[1]
        talker.tell(29)
        talker.hear()
        for group, datagrams in ((name, 23), (f"all {name}", 29)):
            found = exporter.scrape()
            traffic = found.traffic("group_", group=group, protocol="udp")
            assert traffic == workers.traffic(datagrams, SIZE)
        file.write_text(BAD)
        exporter.process.send_signal(1)
        wait_until(lambda: "nothing of it was applied" in exporter.log, "it complains")
        assert all(f"{file}{complaint}" in exporter.log for complaint in COMPLAINTS)
        assert state(exporter)[0] == 0
        talker.tell(31)
        talker.hear()
        traffic = exporter.scrape().traffic("group_", group=f"all {name}", protocol="udp")
        assert traffic == workers.traffic(29 + 31, SIZE)
        file.write_text("")
        exporter.reload()
        assert state(exporter)[0] == 1


def test_reload_without_a_file() -> None:
    """There is nothing to be read; it goes on."""
    with program.serve() as exporter:
        exporter.process.send_signal(1)
        wait_until(lambda: "name one with --config.file" in exporter.log, "it says so")
        assert exporter.is_ready()


def test_reload_by_request(file: Path) -> None:
    """Where that is enabled, as Prometheus has it."""
    with program.serve("--config.file", str(file), "--web.enable-lifecycle") as exporter:
        before = state(exporter)
        answer = exporter.ask("/-/reload", "POST")
        assert (answer.status, answer.body) == (200, b"applied\n")
        assert state(exporter)[1] > before[1]
        file.write_text(BAD)
        answer = exporter.ask("/-/reload", "POST")
        assert answer.status == 500
        assert answer.body.decode().splitlines() == [f"{file}{c}" for c in COMPLAINTS]
        assert state(exporter)[0] == 0
        assert exporter.ask("/-/reload").status == 405
        assert exporter.ask("/metrics", "POST").status == 405
        assert exporter.ask("/-/reload", "PUT").status == 405


def test_reload_by_request_is_off_by_default(file: Path) -> None:
    """Whoever may read the metrics may not do anything."""
    with program.serve("--config.file", str(file)) as exporter:
        before = state(exporter)
        answer = exporter.ask("/-/reload", "POST")
        assert answer.status == 403
        assert b"--web.enable-lifecycle" in answer.body
        assert state(exporter) == before


@pytest.mark.parametrize("what", ["threads", "sockets"])
def test_what_takes_a_restart(file: Path, what: str) -> None:
    """The kernel programs were loaded without it; everything stays as it was."""
    with program.serve("--config.file", str(file), "--web.enable-lifecycle") as exporter:
        file.write_text(f"{what}: true\nlimits: {{processes: 3}}\n")
        answer = exporter.ask("/-/reload", "POST")
        assert answer.status == 500
        assert f"{file}: found {what}: true; accepted without a restart is false" in str(
            answer.body
        )
        assert exporter.scrape().sum("netatop_series_limit", kind="process") > 500


@pytest.mark.parametrize("what", ["thread", "socket"])
def test_chosen_by_group(file: Path, name: str, what: str) -> None:
    """One group's threads or sockets have series, another's do not; `other` is always there."""
    file.write_text(f"groups: [{{comm: [{name}], {what}s: true}}]\n")
    family = f"netatop_{what}_transmit_packets_total"
    with program.serve("--config.file", str(file)) as exporter:
        before = exporter.scrape()
        assert before.sum(family) == 0
        assert len(before.series(family, pid="other")) == 4
        with (
            Process(workers.talker, name, SIZE) as chosen,
            Process(workers.talker, f"{name}-b", SIZE) as left_out,
        ):
            for talker, datagrams in ((chosen, 23), (left_out, 29)):
                talker.hear()
                talker.tell(datagrams)
                talker.hear()
            found = exporter.scrape()
            assert found.label_values(family, "pid") == {str(chosen.pid), "other"}
            assert found.sum(family, pid=str(chosen.pid), protocol="udp") == 23
            # Nobody had a sample of that series before: what it had used is in `other`, once.
            assert found.sum(family, pid="other") == 23
            chosen.tell(31)
            chosen.hear()
            found = exporter.scrape()
            assert found.sum(family, pid=str(chosen.pid), protocol="udp") == 23 + 31
            assert found.sum(family, pid="other") == 23


@pytest.mark.parametrize("what", ["thread", "socket"])
def test_limits_of_threads_and_sockets(file: Path, name: str, what: str) -> None:
    """What has no series is in `other`, and what had none before: to the packet."""
    file.write_text(
        f"groups: [{{comm: [{name}], {what}s: true}}]\nlimits: {{{what}s: 2}}\n", encoding="utf-8"
    )
    shares = {f"t{number}": 11 + number for number in range(7)}
    with program.serve("--config.file", str(file)) as exporter:
        assert not any(exporter.scrape().traffic(f"{what}_").values())
        with Process(workers.team, name, shares, SIZE) as team:
            team.hear()
            found = exporter.scrape()
            own = found.series(f"netatop_{what}_transmit_packets_total", protocol="udp")
            assert len(own) == 2 + 1
            used = workers.traffic(sum(shares.values()), SIZE)
            assert found.traffic(f"{what}_", pid="other", protocol="udp") == used
            team.tell()
            assert team.hear() == "over"
        # Threads and sockets are gone; what they had used is where it was.
        found = exporter.scrape()
        assert found.traffic(f"{what}_", pid="other", protocol="udp") == used
