# SPDX-License-Identifier: Apache-2.0
"""Rates on the server: samples that all who look share, a bounded history, an ordered choice."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api import live, top
from exporter.api.history import CAPACITY, POINTS, History, Point
from exporter.api.live import Live
from exporter.config.settings import Settings
from exporter.errors import ConfigError
from exporter.model import TRAFFIC
from tests.unit.facts import counters, ledger, namer, process, snapshot, thread

if TYPE_CHECKING:
    from exporter.model import Counters, TaskRecord

PROCESSES = "/api/v1/top/processes"
UDP = 101
"""Bytes of a datagram."""


def udp(packets: int) -> Counters:
    """Return the counters of a process that has sent so many datagrams."""
    return counters(udp_transmit_packets=packets, udp_transmit_bytes=packets * UDP)


class Host:
    """A host whose processes and clock the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.book = ledger()
        self.records: tuple[TaskRecord, ...] = ()
        self.now = 100
        self.reads = 0
        monkeypatch.setattr(live, "NEW_SECONDS", 0)
        self.live = Live(self.report)

    def report(self) -> Any:
        """Return a report, as the collector does."""
        self.reads += 1
        return self.book.report(snapshot(*self.records, now=self.now))

    def ask(self, query: str = "", path: str = PROCESSES) -> Any:
        """Return the answer."""
        return json.loads(top.answer(path, self.live, query))

    def later(self, seconds: int, *records: TaskRecord, query: str = "") -> Any:
        """Return the answer some seconds later, when the processes have come so far."""
        self.now += seconds
        self.records = records
        return self.ask(query)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host without processes."""
    return Host(monkeypatch)


def test_first_sample(host: Host) -> None:
    """Has totals and no rates; nobody knows how long it took."""
    found = host.later(0, process(10, counters=udp(23)))
    assert found["interval_seconds"] is None
    (row,) = found["rows"]
    assert (row["rates"], row["history"]) == (None, None)
    assert row["totals"]["transmit_bytes"] == 23 * UDP == row["udp"]["transmit_bytes"]


def test_rates(host: Host) -> None:
    """In each second of the time between, however long that is; and of the host likewise."""
    host.later(0, process(10, counters=udp(23)), process(11, counters=udp(7)))
    found = host.later(7, process(10, counters=udp(23 + 97)), process(11, counters=udp(7)))
    busy, still = found["rows"]
    assert found["interval_seconds"] == 7
    assert busy["pid"] == 10
    assert busy["rates"] == {
        "receive_packets": 0,
        "receive_bytes": 0,
        "transmit_packets": round(97 / 7, 3),
        "transmit_bytes": round(97 * UDP / 7, 3),
    }
    assert still["rates"] == dict.fromkeys(TRAFFIC, 0)
    assert found["total"]["rates"] == busy["rates"]
    assert found["total"]["udp"]["transmit_packets"] == 23 + 97 + 7


@pytest.mark.parametrize("former", [7, 97, 1009])
def test_a_pid_that_is_used_again(host: Host, former: int) -> None:
    """Is another process, which has used all it has in this time: nothing falls."""
    host.later(0, process(10, start=5, counters=udp(former)))
    ended = process(10, start=5, counters=udp(former), end_ns=101 * 10**9)
    found = host.later(1, ended, process(10, start=6, counters=udp(97)))
    (row,) = found["rows"]
    assert row["rates"]["transmit_packets"] == 97


def test_counted_from_now_on(host: Host) -> None:
    """When the configuration changes, what threads had used before is no traffic of this moment."""
    threads = "/api/v1/top/threads"
    host.records = (process(10, start=5), thread(10, 12, start=5))
    assert host.ask(path=threads)["counted"] is False
    host.book.namer = namer(Settings(threads=True))
    host.now += 1
    found = host.ask(path=threads)
    assert (found["counted"], found["rows"][0]["rates"]) == (True, None)
    host.now += 1
    assert host.ask(path=threads)["rows"][0]["rates"] == dict.fromkeys(TRAFFIC, 0)


def test_samples_are_shared(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks at the same time sees the same, and costs one reading."""
    monkeypatch.setattr(live, "NEW_SECONDS", 3600)
    host.records = (process(10, counters=udp(23)),)
    assert host.ask() == host.ask() == host.later(7, process(10, counters=udp(97)))
    assert host.reads == 1
    monkeypatch.setattr(live, "NEW_SECONDS", 0)
    assert host.ask()["rows"][0]["rates"]["transmit_packets"] == round((97 - 23) / 7, 3)
    assert host.reads == 2


def test_forgotten(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody looks, nothing is kept, and nobody reads."""
    over = threading.Event()
    monkeypatch.setattr(live, "IDLE_SECONDS", 0.05)
    forget = host.live._forget

    def tell() -> None:
        forget()
        if host.live.is_idle:
            over.set()

    monkeypatch.setattr(host.live, "_forget", tell)
    host.ask()
    assert not host.live.is_idle
    assert over.wait(5)
    assert host.reads == 1
    assert host.later(7)["interval_seconds"] is None


def test_no_report() -> None:
    """Nothing is answered until there is one."""
    assert top.answer(PROCESSES, Live(lambda: None), "") == b""


def test_plot(host: Host) -> None:
    """The areas are what was used: each point is the mean of its interval."""
    sent = 0
    host.later(0, process(10, counters=udp(sent)))
    for step, seconds in enumerate((2, 3, 5, 7), 1):
        sent += 23 * step
        found = host.later(seconds, process(10, counters=udp(sent)), query="history=3")
    assert found["age_seconds"] == [12, 7, 0]
    (row,) = found["rows"]
    expected = [round(23 * step * UDP / seconds) for step, seconds in ((2, 3), (3, 5), (4, 7))]
    assert row["history"]["transmit_bytes"] == expected
    assert row["history"]["receive_bytes"] == [0, 0, 0]
    assert found["total"]["history"] == row["history"]
    assert len(host.ask("history=150")["age_seconds"]) == 4


def test_order_search_limit(host: Host) -> None:
    """What is asked for, and how many there are beside."""
    names = ("nginx", "Nginx-old", "sshd", "")
    records = [
        process(pid, name, counters=udp(packets))
        for pid, (name, packets) in enumerate(zip(names, (7, 97, 23, 1), strict=True), 10)
    ]
    found = host.later(0, *records, query="sort=totals.bytes&limit=2")
    assert [row["pid"] for row in found["rows"]] == [11, 12]
    assert (found["count"], found["matching"], found["order"]) == (4, 4, "descending")
    found = host.ask("sort=process&search=NGINX")
    assert [row["pid"] for row in found["rows"]] == [10, 11]
    assert (found["count"], found["matching"], found["order"]) == (4, 2, "ascending")
    assert [r["pid"] for r in host.ask("sort=pid&order=descending")["rows"]] == [13, 12, 11, 10]
    assert host.ask("search=12")["rows"][0]["process"] == "sshd"
    by_name = host.ask("sort=process&order=descending")["rows"]
    assert [row["process"] for row in by_name] == ["sshd", "Nginx-old", "nginx", ""]
    assert host.ask("limit=0")["rows"] == []


@pytest.mark.parametrize(("path", "view"), top.PATHS.items())
def test_every_order(host: Host, path: str, view: Any) -> None:
    """Each that is accepted works, also without rows."""
    for sort in view.sorts:
        host.records = (process(10, end_ns=99 * 10**9), process(11))
        assert host.ask(f"sort={sort}", path)["sort"] == sort


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sort=bandwidth", "sort: found 'bandwidth'; accepted are rates.bytes, "),
        ("sort=thread", "sort: found 'thread'; accepted are "),
        ("order=up", "order: found 'up'; accepted are ascending, descending"),
        ("limit=1001", "limit: found '1001'; accepted is a whole number from 0 to 1000"),
        ("history=151", "history: found '151'; accepted is a whole number from 0 to 150"),
        ("history=x", "history: found 'x'; accepted is a whole number from 0 to 150"),
        (f"search={'x' * 257}", "search: found 257 characters; accepted are up to 256"),
        ("view=groups", "found parameter 'view'; accepted are sort, order, search, limit, history"),
        ("limit=1&limit=1", "found parameter 'limit' twice; accepted is one of each"),
    ],
)
def test_refused(host: Host, query: str, message: str) -> None:
    """What was found and what is accepted; nothing is read for it."""
    with pytest.raises(ConfigError) as caught:
        host.ask(query)
    assert str(caught.value).startswith(f"{PROCESSES}: {message}")
    assert host.reads == 0


# History


def points(number: int, rates: dict[int, int]) -> tuple[int, list[Point]]:
    """Return the points of a sample."""
    return number, [Point(identity, rate, 2 * rate) for identity, rate in rates.items()]


def test_unknown_is_not_zero() -> None:
    """Who found no room had traffic that nobody knows; who was not there had none."""
    history = History()
    crowd = dict.fromkeys(range(CAPACITY), 97) | {CAPACITY: 7}
    history.add(*points(1, crowd))
    history.add(*points(2, {CAPACITY: 7, CAPACITY + 1: 23}))
    assert history.of(CAPACITY, range(1, 3)) == ([None, 7], [None, 14])
    assert history.of(CAPACITY + 1, range(1, 3)) == ([None, 23], [None, 46])
    assert history.of(CAPACITY + 1, range(2, 3)) == ([23], [46])
    assert history.of("another", range(2, 3)) is None


@given(
    st.lists(
        st.dictionaries(st.integers(0, 4), st.integers(0, 10**6), max_size=5),
        min_size=1,
        max_size=2 * POINTS,
    )
)
def test_all_is_remembered(samples: list[dict[int, int]]) -> None:
    """Of few, every point of the last ones, as long as they are there."""
    history = History()
    for number, rates in enumerate(samples, 1):
        history.add(*points(number, rates))
    last = len(samples)
    numbers = range(max(1, last + 1 - POINTS), last + 1)
    for identity in range(5):
        gone = max((n for n in numbers if identity not in samples[n - 1]), default=0)
        found = history.of(identity, numbers)
        expected = [samples[n - 1][identity] if n > gone else 0 for n in numbers]
        assert (found[0] if found else [0] * len(numbers)) == expected


def test_memory_is_bounded() -> None:
    """However many there are."""
    history = History()
    for number in range(1, 7):
        history.add(*points(number, {n: n + 1 for n in range(10 * CAPACITY)}))
    assert len(history._rings) == CAPACITY
    assert history.of(10 * CAPACITY - 1, range(6, 7)) == ([10 * CAPACITY], [20 * CAPACITY])
