# SPDX-License-Identifier: Apache-2.0
"""The exit list and its summaries, and what of them survives a restart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import model
from exporter.api import exits as api
from exporter.attribution import memory
from exporter.attribution.ledger import KEEP_NS
from exporter.commands import exits
from exporter.errors import ConfigError, StateError
from exporter.model import Group, RoundTrips, TcpTraffic
from tests.unit.facts import SECOND, counters, ledger, process, snapshot

if TYPE_CHECKING:
    from exporter.model import Report, TaskRecord

P = Group("p")
KEEP = KEEP_NS // SECOND
SENT = counters(udp_transmit_packets=23, udp_transmit_bytes=4099)
MORE = counters(udp_transmit_packets=30, udp_transmit_bytes=5000)


def ended(pid: int, end: int = 100, **changes: Any) -> TaskRecord:
    """Return the record of a finished process."""
    return process(pid, end_ns=end * SECOND, **changes)


def ask(report: Report, query: str = "") -> dict[str, Any]:
    """Return the answer of the API."""
    answer: dict[str, Any] = json.loads(api.answer(report, query))
    return answer


def test_bound() -> None:
    """The oldest make room, are counted, and stay in the sums."""
    report = ledger(5).report(snapshot(*(ended(pid) for pid in range(10, 33))))
    assert [entry.task.pid for entry in report.exit_list] == [28, 29, 30, 31, 32]
    assert report.exit_list_evicted == 18
    assert report.next_exit == 23
    assert report.exits == {(P, "exit"): 23}
    assert report.exited == {P: tuple(23 * n for n in SENT)}


def test_the_oldest_make_room() -> None:
    """Whatever the order in which the kernel has them."""
    ends = {10: 7, 11: 3, 12: 9, 13: 1, 14: 5}
    report = ledger(2).report(snapshot(*(ended(pid, end) for pid, end in ends.items()), now=10))
    assert [entry.task.pid for entry in report.exit_list] == [10, 12]


def test_no_list() -> None:
    """With a bound of 0 there is none, and the sums are the same."""
    report = ledger(0).report(snapshot(ended(10)))
    assert (report.exit_list, report.exit_list_evicted) == ((), 1)
    assert report.exited == {P: SENT}


def test_late_packets_join_until_final() -> None:
    """The entry grows as its record does; then it is final, and in the histograms, once."""
    book = ledger()
    book.report(snapshot(ended(10)))
    report = book.report(snapshot(ended(10, counters=MORE), now=101))
    assert [(e.task.counters, e.final) for e in report.exit_list] == [(MORE, False)]
    assert report.sizes == report.lifetimes == {}
    for later in (1, 2):
        report = book.report(snapshot(ended(10, counters=MORE), now=100 + KEEP + later))
        assert [(e.task.counters, e.final) for e in report.exit_list] == [(MORE, True)]
        assert report.sizes[P] == ((0, 1, 0, 0, 0, 0), 5000)
        assert report.lifetimes[P] == ((0, 0, 0, 1, 0, 0, 0), 99)


@pytest.mark.parametrize(("size", "bucket"), [(1, 0), (1000, 0), (1001, 1), (1 << 60, 5)])
def test_buckets_are_inclusive(size: int, bucket: int) -> None:
    """As Prometheus has it: less or equal."""
    book = ledger()
    used = counters(udp_receive_packets=1, udp_receive_bytes=size)
    report = book.report(snapshot(ended(10, counters=used), now=100 + KEEP + 1))
    expected = [0] * 6
    expected[bucket] = 1
    assert report.sizes[P] == (tuple(expected), size)


def test_groups_keep_the_layer_above() -> None:
    """What TCP said of a process stays in its group, as its packets do."""
    used = {"tcp": TcpTraffic(19, 23, 29), "round_trips": RoundTrips((0,) * 9 + (1,), 7)}
    book = ledger()
    book.report(snapshot(process(10, **used), process(11, **used)))
    report = book.report(snapshot())
    assert report.group_tcp == {P: (38, 46, 58)}
    assert report.round_trips == {P: ((0,) * 9 + (2,), 14)}


def test_answer() -> None:
    """Words of the model, with units; what a process did not use is 0."""
    entry = ended(
        10,
        wait_status=3 << 8,
        threads=2,
        sockets=5,
        tcp=TcpTraffic(19, 23, 29),
    )
    book = ledger(cgroup_path={1: "/system.slice/p.service"}.__getitem__)
    (found,) = ask(book.report(snapshot(entry)))["exits"]
    assert found.pop("end_time_seconds") - found.pop("start_time_seconds") == 99
    nothing = {"receive_packets": 0, "receive_bytes": 0, "transmit_packets": 0, "transmit_bytes": 0}
    assert found == {
        "number": 0,
        "pid": 10,
        "process": "p",
        "group": "p.service",
        "container": None,
        "pod": None,
        "namespace": None,
        "uid": 0,
        "user": "root",
        "cgroup_id": 1,
        "cgroup": "/system.slice/p.service",
        "runtime": None,
        "container_id": None,
        "pod_uid": None,
        "unit": "p.service",
        "outcome": "error",
        "exit_status": 3,
        "signal": None,
        "threads": 2,
        "sockets": 5,
        "tcp": nothing,
        "udp": nothing | {"transmit_packets": 23, "transmit_bytes": 4099},
        "icmp": nothing,
        "other": nothing,
        "tcp_payload": {
            "received_bytes": 19,
            "acknowledged_bytes": 23,
            "retransmitted_packets": 29,
        },
        "final": False,
    }


@pytest.mark.parametrize(
    ("status", "exit_status", "name"),
    [(0, 0, None), (1 << 8, 1, None), (9, None, "SIGKILL"), (11 | 128, None, "SIGSEGV")],
)
def test_how_it_ended(status: int, exit_status: int | None, name: str | None) -> None:
    """An exit status or a signal, whether it dumped core or not."""
    (found,) = ask(ledger().report(snapshot(ended(10, wait_status=status))))["exits"]
    assert (found["exit_status"], found["signal"]) == (exit_status, name)
    assert (name or f"exit {exit_status}") in exits.line(found)


def test_pages() -> None:
    """`next` is where to go on; at the end, the number of the one that comes next."""
    report = ledger().report(snapshot(*(ended(pid) for pid in range(10, 17))))
    first = ask(report, "limit=3")
    assert [e["number"] for e in first["exits"]] == [0, 1, 2]
    second = ask(report, f"since={first['next']}&limit=100")
    assert [e["number"] for e in second["exits"]] == [3, 4, 5, 6]
    assert ask(report, f"since={second['next']}") == {"exits": [], "next": 7, "evicted": 0}
    assert ask(report, "since=2&limit=0")["next"] == 2


@pytest.mark.parametrize("query", ["since=-1", "since=", "limit=x", "from=1", "since=1.5"])
def test_bad_parameters(query: str) -> None:
    """The answer names the parameter and what is accepted."""
    with pytest.raises(ConfigError, match=r"/api/v1/exits: .*found .*accepted"):
        api.answer(ledger().report(snapshot()), query)


def test_restored() -> None:
    """A ledger that is restored goes on as the one that was dumped would have."""
    used = {"tcp": TcpTraffic(19, 23, 29), "round_trips": RoundTrips((0,) * 9 + (1,), 7)}
    old = ledger()
    now = snapshot(process(10, "a\u2028\ufffd", **used), ended(11, wait_status=9), ended(12, end=1))
    old.report(now)
    new = ledger()
    new.memory = memory.restore(memory.dump(old.memory), 1000)
    then = snapshot(
        process(10, "renamed", counters=MORE, **used), ended(11, counters=MORE), now=200
    )
    assert new.report(now) == old.report(now)
    assert new.report(then) == old.report(then)


def test_restored_into_a_shorter_list() -> None:
    """The last ones are kept, the others counted as evicted."""
    old = ledger()
    old.report(snapshot(*(ended(pid) for pid in range(10, 17))))
    for room in (3, 0):
        found = memory.restore(memory.dump(old.memory), room).exit_list
        assert len(found.entries) == room
        assert (found.evicted, found.next_number) == (7 - room, 7)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 99), st.sampled_from("ab"), st.booleans()),
        max_size=20,
    ),
    saved=st.integers(0, 20),
)
def test_an_older_memory_counts_nothing_twice(
    steps: list[tuple[int, int, str, bool]], saved: int
) -> None:
    """Killed between two reports: whoever comes next ends with the same sums over all groups."""
    without, book, kept = ledger(), ledger(), b""
    there: dict[int, TaskRecord] = {}
    for number, (pid, packets, name, ends) in enumerate(steps):
        record = there.get(pid, process(pid, counters=model.ZERO))
        used = counters(tcp_receive_packets=packets, tcp_receive_bytes=60 * packets)
        there[pid] = record._replace(
            name=name,
            counters=model.add(record.counters, used),
            end_ns=record.end_ns or ends * SECOND * 100,
        )
        facts = snapshot(*there.values())
        expected = without.report(facts)
        if number == saved:
            book.memory = memory.restore(kept, 1000) if kept else ledger().memory
        else:
            book.report(facts)
            kept = memory.dump(book.memory) if number % 2 else kept
    if steps:
        found = book.report(facts)
        assert found.total == expected.total
        assert sum(found.exits.values()) == sum(expected.exits.values())


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"version":99}', b'{"version":1}', b"\xff", b"null"]
)
def test_garbage(text: bytes) -> None:
    """What can't be read is said to be so, and nothing is made of it."""
    with pytest.raises(StateError, match="what was remembered"):
        memory.restore(text, 10)


def test_a_name_can_not_break_a_line() -> None:
    """Any program names itself as it likes."""
    (found,) = ask(ledger().report(snapshot(ended(10, name="a\nb\x1b[2J"))))["exits"]
    assert exits.line(found).isprintable()
