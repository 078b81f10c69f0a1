# SPDX-License-Identifier: Apache-2.0
"""Bounded series: at most so many, none falls, and the increments add up."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exporter.attribution.bounds import HALF_LIFE_NS, MAX_CLIENTS, Bounds, Ranking, View, increment
from exporter.attribution.ledger import KEEP_NS
from exporter.model import NO_TRAFFIC, Member, Traffic, add, subtract
from tests.unit.facts import SECOND, counters, ledger, process, snapshot

UDP_SENT, UDP_SENT_BYTES, TCP_SENT_BYTES = 6, 7, 3


def traffic(udp: int = 0, tcp: int = 0) -> Traffic:
    """Return traffic with so many bytes transmitted by UDP and TCP."""
    row = list(NO_TRAFFIC)
    row[UDP_SENT_BYTES], row[TCP_SENT_BYTES] = udp, tcp
    return tuple(row)


def member(name: str, udp: int, **changes: Any) -> Member:
    """Return a member with one label."""
    return Member((name,), traffic(udp))._replace(**changes)


class Selection:
    """One kind, as it is shown to one client."""

    def __init__(self) -> None:
        self._ranking = Ranking()
        self._view = View(1)

    def follow(self, members: list[Member]) -> None:
        """See them, and expose nothing."""
        self._view.follow({one.labels: one for one in members})

    def choose(
        self, members: list[Member], used: Traffic, limit: int, now: int
    ) -> tuple[Member, ...]:
        """Expose."""
        there = {one.labels: one for one in members}
        return self._view.expose(self._ranking.choose(there, limit, now), there, used, limit)


def whole(*members: Member) -> Traffic:
    """Return what they have used together."""
    total = NO_TRAFFIC
    for one in members:
        total = add(total, one.traffic)
    return total


class Prometheus:
    """Sees an increment only of a series that is in two scrapes, one after the other."""

    def __init__(self) -> None:
        self.before: dict[tuple[tuple[str, ...], int], int] | None = None

    def scrape(self, shown: tuple[Member, ...]) -> Traffic | None:
        """Return what all series together have grown by; None in the first scrape."""
        series = {}
        for labels, row, *_ in shown:
            for begin, end in ((0, 4), (4, 8), (8, 12), (12, 16), (16, 19)):
                if any(row[begin:end]) or labels[0] == "other":
                    series |= {(labels, number): row[number] for number in range(begin, end)}
        before, self.before = self.before, series
        if before is None:
            return None
        seen = list(NO_TRAFFIC)
        for key, value in series.items():
            if key in before:
                grown = value - before[key]
                seen[key[1]] += grown if grown >= 0 else value
        return tuple(seen)


def names(shown: tuple[Member, ...]) -> set[str]:
    """Return who is shown, `other` aside."""
    assert shown[-1].labels == ("other",)
    return {one.labels[0] for one in shown[:-1]}


def test_all_while_there_is_room() -> None:
    """`other` is there, with nothing in it: what is shown for the first time has no increment."""
    a, b = member("a", 23), member("b", 29)
    shown = Selection().choose([a, b], whole(a, b), 2, SECOND)
    assert shown == (a, b, Member(("other",), NO_TRAFFIC))


def test_the_busiest() -> None:
    """With the value of their whole life; what the rest has used since is in `other`."""
    selection = Selection()
    first = [member("a", 100), member("b", 10), member("c", 1)]
    assert names(selection.choose(first, whole(*first), 1, SECOND)) == {"a"}
    then = [member("a", 101), member("b", 12), member("c", 4)]
    assert selection.choose(then, whole(*then), 1, SECOND) == (
        member("a", 101),
        Member(("other",), traffic(2 + 3)),
    )


def test_what_a_new_one_had_used_is_in_other() -> None:
    """Prometheus has no earlier sample of it, in a series for each protocol."""
    selection = Selection()
    a = member("a", 5)
    selection.choose([a], whole(a), 9, SECOND)
    a, b = Member(("a",), traffic(udp=7, tcp=3)), member("b", 11)
    shown = selection.choose([a, b], whole(a, b), 9, 2 * SECOND)
    assert shown[-1].traffic == traffic(udp=11, tcp=3)
    assert names(shown) == {"a", "b"}


def test_it_takes_twice_the_activity_to_replace_one() -> None:
    """Those of about the same rank do not change places all the time."""
    selection = Selection()
    a, b, now = 1000, 0, SECOND
    selection.choose([member("a", a), member("b", b)], traffic(a), 1, now)
    for number in range(50):
        now += 15 * SECOND
        a, b = a + 100, b + 100 + number % 60
        members = [member("a", a), member("b", b)]
        assert names(selection.choose(members, whole(*members), 1, now)) == {"a"}
    for _ in range(20):
        now += 15 * SECOND
        a, b = a + 100, b + 300
        members = [member("a", a), member("b", b)]
        shown = selection.choose(members, whole(*members), 1, now)
    assert names(shown) == {"b"}


def test_activity_is_forgotten() -> None:
    """A large transfer of an hour ago does not keep its place."""
    selection = Selection()
    a, b = member("a", 10**9), member("b", 0)
    selection.choose([a, b], whole(a, b), 1, SECOND)
    b = member("b", 1000)
    hour = SECOND + 60 * HALF_LIFE_NS
    assert names(selection.choose([a, b], whole(a, b), 1, hour)) == {"b"}


def test_one_that_is_gone_is_shown_once_more() -> None:
    """With what it has used in the end, if no scrape has seen that yet; then its series goes."""
    selection = Selection()
    a = member("a", 5)
    selection.choose([a], whole(a), 3, SECOND)
    last = member("a", 9, is_alive=False)
    selection.follow([last])
    assert selection.choose([], whole(last), 3, 2 * SECOND)[0] == last
    assert selection.choose([], whole(last), 3, 3 * SECOND)[:-1] == ()


def test_one_that_has_ended_does_not_replace_a_living_one() -> None:
    """It has no more increments to show."""
    selection = Selection()
    a = member("a", 5)
    selection.choose([a], whole(a), 1, SECOND)
    dead = member("b", 10**6, is_alive=False)
    assert names(selection.choose([a, dead], whole(a, dead), 1, 2 * SECOND)) == {"a"}


def test_a_busy_one_that_has_ended_is_in_nobodys_way() -> None:
    """It keeps its place while it is there; others change theirs meanwhile."""
    selection = Selection()
    first = [member("a", 10**9), member("b", 10), member("c", 0)]
    assert names(selection.choose(first, whole(*first), 2, SECOND)) == {"a", "b"}
    then = [member("a", 10**9, is_alive=False), member("b", 10), member("c", 1000)]
    assert names(selection.choose(then, whole(*then), 2, 2 * SECOND)) == {"a", "c"}


def test_a_series_that_begins_anew() -> None:
    """A pid is used again by a process of the same name: to Prometheus a reset."""
    selection, prometheus = Selection(), Prometheus()
    old = member("a", 100)
    prometheus.scrape(selection.choose([old], traffic(100), 3, SECOND))
    new = member("a", 30)
    shown = selection.choose([new], traffic(100 + 7 + 30), 3, 2 * SECOND)
    assert prometheus.scrape(shown) == traffic(7 + 30)
    assert shown[-1].traffic == traffic(7)


def test_no_room_at_all() -> None:
    """Everything is `other`."""
    selection = Selection()
    a = member("a", 5)
    assert names(selection.choose([a], whole(a), 0, SECOND)) == set()
    a = member("a", 50)
    assert selection.choose([a], whole(a), 0, SECOND) == (Member(("other",), traffic(45)),)


def test_nobodys_are_no_part_of_the_whole() -> None:
    """A socket that nobody is known to use is shown, and `other` is as it would be without it."""
    selection = Selection()
    for used in (5, 50):
        a = member("a", used, is_counted=False)
        shown = selection.choose([a], NO_TRAFFIC, 3, SECOND)
        assert shown == (a, Member(("other",), NO_TRAFFIC))


def test_nobodys_hide_nothing_of_others() -> None:
    """What they have grown by is not taken from what those that are hidden have."""
    selection = Selection()
    for used, others in ((5, 100), (5000, 107)):
        a = member("a", used, is_counted=False)
        shown = selection.choose([a], traffic(others), 3, SECOND)
    assert shown[-1].traffic == traffic(7)


def test_the_whole_may_come_later() -> None:
    """Sockets are read before processes: `other` waits, and does not fall."""
    selection = Selection()
    a = member("a", 5)
    selection.choose([a], traffic(5), 3, SECOND)
    a = member("a", 50)
    assert selection.choose([a], traffic(45), 3, SECOND)[-1].traffic == NO_TRAFFIC
    assert selection.choose([a], traffic(60), 3, SECOND)[-1].traffic == traffic(10)


def test_each_client_sees_all() -> None:
    """Two that scrape in turn; a third one, that came once, makes no difference to them."""
    chance = random.Random(31)
    book, bounds = ledger(), Bounds({"process": 2})
    servers = {"a": Prometheus(), "b": Prometheus()}
    used = dict.fromkeys(servers, NO_TRAFFIC)
    sent: dict[int, int] = {}
    for number in range(60):
        pid = chance.randrange(2, 9)
        sent[pid] = sent.get(pid, 0) + chance.randrange(1 << 30)
        tasks = [process(pid, counters=counters(udp_transmit_bytes=n)) for pid, n in sent.items()]
        report = book.report(snapshot(*tasks))
        bounds.follow(report)
        client = "ab"[number % 2]
        if number == 11:
            bounds.choose(report, number * SECOND, "c")
        seen = servers[client].scrape(bounds.choose(report, number * SECOND, client)["process"])
        if seen is not None:
            assert seen == subtract(report.whole["process"], used[client])
        used[client] = report.whole["process"]


def test_clients_are_bounded() -> None:
    """One that was forgotten begins anew: to Prometheus, a reset of `other`."""
    report = ledger().report(snapshot(process(10)))
    bounds = Bounds({"process": 2})
    for number in range(MAX_CLIENTS + 23):
        bounds.choose(report, SECOND, str(number))
    assert len(bounds._views) == MAX_CLIENTS
    late = SECOND + 3601 * SECOND
    bounds.choose(report, late, "0")
    bounds.choose(report, late, "new")
    assert {"0", "new"} <= bounds._views.keys()


def test_an_old_friend_is_not_forgotten() -> None:
    """However many come for the first time: its `other` goes on."""
    book, bounds = ledger(), Bounds({"process": 0})
    used = 0
    for scrape in range(5):
        used += 1000
        sent = counters(udp_transmit_packets=1, udp_transmit_bytes=used)
        report = book.report(snapshot(process(10, counters=sent)))
        other = bounds.choose(report, SECOND, "prometheus")["process"][-1]
        assert other.traffic[UDP_SENT_BYTES] == 1000 * scrape
        for number in range(2 * MAX_CLIENTS):
            bounds.choose(report, SECOND, f"{scrape} {number}")
    assert len(bounds._visits) == MAX_CLIENTS


@pytest.mark.parametrize(
    ("before", "now", "seen"),
    [
        (traffic(5), traffic(9), traffic(4)),
        (traffic(9), traffic(5), traffic(5)),
        (NO_TRAFFIC, traffic(5), NO_TRAFFIC),
        (traffic(5), traffic(9, 3), traffic(4)),
    ],
)
def test_what_prometheus_sees(before: Traffic, now: Traffic, seen: Traffic) -> None:
    """Nothing of a series that was not there; all of one that fell."""
    assert increment(before, now) == seen


class Host(RuleBasedStateMachine):
    """Members that come, use the network and go, and a limit that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()
        self.prometheus = Prometheus()
        self.limit = 3
        self.now = 0
        self.next = 0
        self.there: dict[str, Member] = {}
        self.ended: dict[str, int] = {}
        self.used = NO_TRAFFIC
        self.exposed = NO_TRAFFIC
        self.other = NO_TRAFFIC

    @rule(name=st.sampled_from("abcdefgh"))
    def start(self, name: str) -> None:
        """Start one; a name that was used before is another one's."""
        if name not in self.there or not self.there[name].is_alive:
            self.there[name] = member(name, 0)
            self.ended.pop(name, None)

    @rule(choice=st.integers(0, 7), udp=st.integers(0, 1 << 40), tcp=st.integers(0, 3))
    def use(self, choice: int, udp: int, tcp: int) -> None:
        """Use the network, also after the end."""
        if self.there:
            name = sorted(self.there)[choice % len(self.there)]
            amount = traffic(udp, tcp)
            one = self.there[name]
            self.there[name] = one._replace(traffic=add(one.traffic, amount))
            self.used = add(self.used, amount)

    @rule(choice=st.integers(0, 7))
    def end(self, choice: int) -> None:
        """End one."""
        if self.there:
            name = sorted(self.there)[choice % len(self.there)]
            self.there[name] = self.there[name]._replace(is_alive=False)
            self.ended.setdefault(name, self.now)

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        """Let time pass; records of what has ended go."""
        self.now += seconds * SECOND
        for name, at in list(self.ended.items()):
            if self.now - at > KEEP_NS:
                del self.there[name], self.ended[name]

    @rule()
    def upkeep(self) -> None:
        """Read without exposing."""
        self.selection.follow(list(self.there.values()))

    @rule(limit=st.integers(0, 8))
    def change_limit(self, limit: int) -> None:
        """Another configuration is applied."""
        self.limit = limit

    @rule()
    def scrape(self) -> None:
        """All that was used since the last scrape is seen in the series, no more and no less."""
        shown = self.selection.choose(
            list(self.there.values()), self.used, self.limit, self.now + SECOND
        )
        assert len(shown) <= self.limit + 1
        assert len({one.labels for one in shown}) == len(shown)
        grown = self.prometheus.scrape(shown)
        if grown is not None:
            assert grown == subtract(self.used, self.exposed)
        self.exposed = self.used
        assert all(a <= b for a, b in zip(self.other, shown[-1].traffic, strict=True))
        self.other = shown[-1].traffic

    @invariant()
    def nothing_is_invented(self) -> None:
        """`other` is never more than all."""
        assert all(a <= b for a, b in zip(self.other, self.used, strict=True))


HostTest = Host.TestCase
HostTest.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)


def test_five_thousand_over_a_limit_of_five_hundred() -> None:
    """The ranking changes with every scrape, and the series promised are not exceeded."""
    chance = random.Random(23)
    selection, prometheus = Selection(), Prometheus()
    sizes = [chance.randrange(1 << 20) for _ in range(5000)]
    before = None
    for scrape in range(40):
        for _ in range(700):
            sizes[chance.randrange(5000)] += chance.randrange(1 << chance.randrange(1, 40))
        total = traffic(sum(sizes))
        members = [member(str(number), size) for number, size in enumerate(sizes)]
        shown = selection.choose(members, total, 500, (1 + scrape * 15) * SECOND)
        assert len(shown) == 501
        grown = prometheus.scrape(shown)
        if before is not None:
            assert grown == subtract(total, before)
        before = total
