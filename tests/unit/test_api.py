# SPDX-License-Identifier: Apache-2.0
"""What the answers under /api/v1/ say of a report."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from exporter.api import ANSWERS, exits, groups, hosts, processes, sockets, terms, threads
from exporter.config import flags
from exporter.config.settings import Settings
from exporter.errors import ConfigError
from exporter.model import DIRECTIONS, UNITS, ZERO, SocketRecord
from tests.unit.facts import counters, ledger, namer, process, snapshot, thread

if TYPE_CHECKING:
    from exporter.model import Report

NOTHING = {f"{direction}_{unit}": 0 for direction in DIRECTIONS for unit in UNITS}
SENT = NOTHING | {"transmit_packets": 23, "transmit_bytes": 4099}
SOCKET = SocketRecord(
    4093,
    process(10, start=5).identity,
    "udp",
    "10.0.0.1",
    53,
    "10.0.0.2",
    4099,
    7,
    2,
    101,
    23,
    4099,
)


def tell(module: Any, report: Report) -> Any:
    """Return what a module answers."""
    answer = json.loads(module.answer(report, ""))
    assert answer["counted"] is True
    assert answer["time_seconds"] == 100
    return answer[module.PATH.rpartition("/")[2]]


def report(*records: SocketRecord, **settings: Any) -> Report:
    """Report of a process that lives, one that has ended, and a thread of the first."""
    book = ledger()
    book.namer = namer(Settings(**settings))
    ended = process(
        11, "q", start=7, end_ns=9, wait_status=9, counters=counters(icmp_receive_bytes=97)
    )
    return book.report(snapshot(process(10, start=5), ended, thread(10, 12, start=5)), records)


def test_processes() -> None:
    """Who they are, how those ended that have, and their traffic by protocol."""
    first, second = tell(processes, report())
    assert (first["pid"], first["process"], first["group"], first["unit"]) == (10, "p", "p", None)
    assert (first["outcome"], second["outcome"]) == (None, "signal")
    assert first["udp"] == SENT
    assert first["tcp"] == first["icmp"] == first["other"] == NOTHING
    assert second["icmp"] == NOTHING | {"receive_bytes": 97}
    assert second["start_time_seconds"] - first["start_time_seconds"] == pytest.approx(2)


def test_a_process_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the clock is put right: its start is half of its identity."""
    before = tell(processes, report())
    monkeypatch.setattr("exporter.procfs.booted_at", lambda: 1.0)
    assert tell(processes, report()) == before


def test_threads() -> None:
    """A thread has its own id, name and start, and the names of its process."""
    (only,) = tell(threads, report(threads=True))
    assert (only["pid"], only["tid"], only["thread"], only["process"]) == (10, 12, "t", "p")
    assert only["udp"] == SENT


def test_sockets() -> None:
    """With its user, or without one that is known."""
    mine, stray = tell(sockets, report(SOCKET, SOCKET._replace(owner=0), sockets=True))
    assert (mine["pid"], mine["process"], mine["tid"]) == (10, "p", None)
    assert (stray["pid"], stray["process"], stray["start_time_seconds"]) == (None, None, None)
    assert mine.keys() == stray.keys()
    assert (mine["cookie"], mine["local_port"], mine["remote_address"]) == (4093, 53, "10.0.0.2")
    assert mine["tcp"] == NOTHING
    assert list(mine["udp"].values()) == [2, 101, 23, 4099]


@pytest.mark.parametrize(("module", "noun"), [(threads, "threads"), (sockets, "sockets")])
def test_not_counted(module: Any, noun: str) -> None:
    """That there are none is told apart from that nobody looks."""
    answer = json.loads(module.answer(report(SOCKET), ""))
    assert (answer["counted"], answer[noun]) == (False, [])


def test_groups() -> None:
    """With those that live; a group whose processes have all ended stays."""
    first, second = tell(groups, report())
    assert (first["group"], first["processes"], first["udp"]) == ("p", 1, SENT)
    assert (second["group"], second["processes"], second["container"]) == ("q", 0, None)


def test_protocols() -> None:
    """Each has its own numbers, in the order of the counters."""
    told = terms.traffic(tuple(range(len(ZERO))))
    assert list(told) == ["tcp", "udp", "icmp", "other"]
    assert [*told["icmp"].items()] == [*zip(NOTHING, range(8, 12), strict=True)]


def test_names_are_escaped() -> None:
    """In ASCII, whatever a program calls itself."""
    name = '\x1b[31m"\\\u202e\ud800é'
    body = processes.answer(ledger().report(snapshot(process(10, name))), "")
    assert body.isascii()
    assert b"\x1b" not in body
    assert json.loads(body)["processes"][0]["process"] == name


def test_only_finite_numbers() -> None:
    """JSON has no others."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        terms.dump({"number": math.nan})


@pytest.mark.parametrize("path", ANSWERS.keys() - {exits.PATH})
@pytest.mark.parametrize("query", ["x", "since="])
def test_parameters(path: str, query: str) -> None:
    """There are none but a limit, and those of exits and hosts."""
    accepted = "are address, limit" if path == hosts.PATH else "is limit"
    with pytest.raises(ConfigError, match=rf"{path}: found parameter .*; accepted {accepted}"):
        ANSWERS[path](report(), query)


@pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=-1", "limit=", "limit=1000001"])
@pytest.mark.parametrize("path", ANSWERS)
def test_bad_limits(path: str, query: str) -> None:
    """Whole numbers, once."""
    with pytest.raises(ConfigError, match=rf"{path}: .*limit.*; accepted is "):
        ANSWERS[path](report(), query)


def test_limit() -> None:
    """At most so many, the first ones."""
    everyone, one, nobody = (
        json.loads(processes.answer(report(), query))["processes"]
        for query in ("limit=7", "limit=1", "limit=0")
    )
    assert (len(everyone), nobody) == (2, [])
    assert one == everyone[:1]


def test_paths_are_reserved() -> None:
    """The metrics can't be put there."""
    assert all(map(flags.is_reserved, ANSWERS))
