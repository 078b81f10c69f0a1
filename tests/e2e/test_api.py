# SPDX-License-Identifier: Apache-2.0
"""The API against its own document, and its rates against known traffic."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from jsonschema import Draft202012Validator

from exporter.api import openapi, top
from exporter.api.history import POINTS
from tests.e2e import program, workers
from tests.workload import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

PATHS: Final = [path for path in openapi.document()["paths"] if path.startswith("/api/")]
SIZE: Final = 1009
FUZZER: Final = Path(sys.executable).parent / "schemathesis"
SECONDS: Final = 120
"""Until the fuzzer is given up; it needs a sixth of that."""


@pytest.fixture(scope="module")
def full() -> Iterator[Program]:
    """Return an exporter that counts all that can be asked for."""
    flags = ("--collector.threads", "--collector.sockets", "--collector.hosts")
    with program.serve(*flags) as shared:
        shared.is_ours = False
        yield shared


def ask(exporter: Program, path: str) -> Any:
    """Return what it answers."""
    answer = exporter.ask(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json"), answer
    return json.loads(answer.body)


def shape(path: str) -> Draft202012Validator:
    """Return what the document says of an answer."""
    document = openapi.document()
    good = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    return Draft202012Validator({**good["schema"], "components": document["components"]})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("which", ["full", "exporter"])
def test_shapes(request: pytest.FixtureRequest, name: str, path: str, which: str) -> None:
    """Each answer is as the document says, with traffic of all kinds and after it."""
    asked: Program = request.getfixturevalue(which)
    with Process(workers.talker, name, SIZE) as talker:
        talker.hear()
        talker.tell(23)
        talker.hear()
        for query in ("?history=7&limit=1000",) * 2 if path in top.PATHS else ("",):
            shape(path).validate(ask(asked, f"{path}{query}"))
    with Process(workers.leave, name, -signal.SIGKILL) as process:
        process.wait()
    shape(path).validate(ask(asked, path))


def test_the_document(exporter: Program) -> None:
    """It is served as the code has it."""
    assert ask(exporter, openapi.PATH) == openapi.document()


def test_rates_add_up(full: Program, name: str) -> None:
    """Rates times intervals are what was sent, to the byte, however often somebody asks."""
    path = f"/api/v1/top/processes?search={name}&history={POINTS}"
    datagrams, seconds = 997, 3.7
    with Process(workers.pacer, name, 0, datagrams, seconds) as pacer:
        pacer.hear()
        found = ask(full, path)
        packets, received = 0.0, []
        begin, done = time.monotonic(), False
        pacer.tell("go")
        while not done:
            done = time.monotonic() > begin + seconds + 1
            time.sleep(0.61)
            before, found = found["time_seconds"], ask(full, path)
            if found["time_seconds"] == before or not found["rows"]:
                continue
            (row,) = found["rows"]
            packets += row["rates"]["transmit_packets"] * found["interval_seconds"]
            received.append(row["rates"]["receive_bytes"] * found["interval_seconds"])
        assert pacer.hear() == "sent"
        (row,) = found["rows"]
        assert round(packets) == datagrams == row["totals"]["transmit_packets"]
        assert round(sum(received)) == datagrams * workers.HEADERS == row["udp"]["receive_bytes"]
        # So are the areas of the plot, which is in whole bytes a second.
        ages = [*found["age_seconds"], 0.0]
        lengths = [before - after for before, after in itertools.pairwise(ages)]
        drawn = row["history"]["transmit_bytes"][1:]
        shown = [(n, s) for n, s in zip(drawn, lengths, strict=False) if n is not None]
        # On a busy host nobody knows of the time before it was among the busiest.
        known = received[-len(shown) :]
        assert known
        area = sum(n * s for n, s in shown)
        assert area == pytest.approx(sum(known), rel=0.001)
        pacer.tell("end")


def test_viewers_share(full: Program) -> None:
    """Who asks in the same moment gets the same sample."""
    full.ask("/api/v1/top/groups")
    time.sleep(0.6)
    found = [ask(full, f"/api/v1/top/{noun}")["time_seconds"] for noun in ("hosts", "exits") * 3]
    assert len({*found}) == 1


@pytest.mark.parametrize("path", top.PATHS)
def test_refused(exporter: Program, path: str) -> None:
    """With a sentence, as text."""
    for query, message in (
        ("sort=x", "sort: found 'x'; accepted are "),
        ("limit=1e3", "limit: found '1e3'; accepted is a whole number from 0 to 1000"),
        ("collect=x", "found parameter 'collect'; accepted are sort, order, search, limit, "),
    ):
        answer = exporter.ask(f"{path}?{query}")
        assert (answer.status, answer.headers["Content-Type"]) == (400, "text/plain; charset=utf-8")
        assert answer.body.decode().startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("words", "cases"),
    [
        pytest.param(("--phases", "examples,fuzzing", "--max-examples", "5"), 79, id="all"),
        pytest.param(
            (
                *("--phases", "coverage"),
                *("--include-path-regex", "top/sockets$|v1/(exits|groups|openapi.json)$"),
            ),
            151,
            id="limits",
        ),
    ],
)
def test_fuzzed(full: Program, tmp_path: Path, words: tuple[str, ...], cases: int) -> None:
    """Whatever is asked for, right or wrong, is answered as the document says (schemathesis)."""
    done = subprocess.run(
        (
            *(FUZZER, "run", f"http://{full.address}{openapi.PATH}"),
            *("--checks", "all", "--seed", "23", "--no-color"),
            *("--generation-database", "none", *words),
        ),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=tmp_path,
        env=program.environment(NO_PROXY="*"),
    )
    assert done.returncode == 0, done.stdout
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found, done.stdout
    assert int(found[1]) == int(found[2]) >= cases
