# SPDX-License-Identifier: Apache-2.0
"""Groups never fall, whatever their processes do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exporter import model
from exporter.attribution import memory
from exporter.attribution.ledger import KEEP_NS
from exporter.config import document, remotes
from exporter.config.settings import Settings
from exporter.kernel import layouts
from exporter.model import OTHER, Group, LifeKey
from tests.unit.facts import SECOND, counters, ledger, namer, process, snapshot, thread

if TYPE_CHECKING:
    from exporter.model import Report, TaskRecord

P, Q = Group("p"), Group("q")
SENT = counters(udp_transmit_packets=23, udp_transmit_bytes=4099)
MORE = counters(udp_transmit_packets=30, udp_transmit_bytes=5000)


def law_holds(report: Report) -> bool:
    """Tell whether the total is the sum of its parts."""
    total = model.ZERO
    for part in (*report.groups.values(), *report.unidentified.values()):
        total = model.add(total, part)
    return total == report.total


def test_a_process_is_in_its_group() -> None:
    """Two processes with one name are one group."""
    report = ledger().report(snapshot(process(10), process(11)))
    assert report.groups == {P: model.add(SENT, SENT)}
    assert list(report.processes) == [10, 11]
    assert law_holds(report)


def test_reading_twice_counts_once() -> None:
    """A scrape changes nothing that the next one sees."""
    book = ledger()
    assert book.report(snapshot(process(10))) == book.report(snapshot(process(10)))


def test_a_group_keeps_what_an_ended_process_used() -> None:
    """Its record goes, its traffic stays; it is counted as exited once."""
    book = ledger()
    book.report(snapshot(process(10)))
    ended = process(10, end_ns=100 * SECOND)
    for now in (100, 101):
        report = book.report(snapshot(ended, now=now))
        assert report.exits == {(P, "exit"): 1}
        assert report.exited == {P: SENT}
        (entry,) = report.exit_list
        assert (entry.task.pid, entry.task.counters, entry.final) == (10, SENT, False)
    report = book.report(snapshot())
    assert report.groups == {P: SENT}
    assert report.exited == {P: SENT}
    assert report.exit_list == (entry,)
    assert report.processes == {}


def test_late_packets_join_group_and_exited() -> None:
    """What comes after the end belongs to the finished process."""
    book = ledger()
    book.report(snapshot(process(10, end_ns=100 * SECOND)))
    report = book.report(snapshot(process(10, end_ns=100 * SECOND, counters=MORE)))
    assert report.groups == {P: MORE}
    assert report.exited == {P: MORE}


def test_a_process_that_sent_nothing_has_not_used_the_network() -> None:
    """It had a socket, but it is no exit; a late packet makes it one."""
    book = ledger()
    silent = process(10, end_ns=100 * SECOND, counters=model.ZERO)
    assert book.report(snapshot(silent)).exits == {}
    assert book.report(snapshot(silent._replace(counters=SENT))).exits == {(P, "exit"): 1}


def test_outcomes() -> None:
    """Status 0, status 3, killed by signal 9."""
    ended = [
        process(10 + n, end_ns=1, wait_status=status) for n, status in enumerate((0, 3 << 8, 9))
    ]
    report = ledger().report(snapshot(*ended))
    assert report.exits == {(P, "exit"): 1, (P, "error"): 1, (P, "signal"): 1}


def test_a_new_name_leaves_the_past_where_it_was() -> None:
    """What was counted under the old name stays there; only the rest goes to the new one."""
    book = ledger()
    book.report(snapshot(process(10, "old")))
    report = book.report(snapshot(process(10, "new", counters=MORE)))
    assert report.groups == {Group("old"): SENT, Group("new"): model.subtract(MORE, SENT)}


def test_a_pid_that_is_used_again_starts_anew() -> None:
    """The former process is still in the exit list; the pid's series is the new one's."""
    old, new = process(10, end_ns=99 * SECOND), process(10, "q", start=99, counters=MORE)
    report = ledger().report(snapshot(old, new))
    assert [p.task.name for p in report.processes.values()] == ["q"]
    assert report.groups == {P: SENT, Q: MORE}


def test_records_may_go_when_nothing_can_join_them() -> None:
    """Sixteen seconds after the end and not a nanosecond earlier."""
    ended = process(10, end_ns=100 * SECOND)
    at = snapshot(ended)
    for age, forgettable in ((KEEP_NS, ()), (KEEP_NS + 1, (ended.identity,))):
        now = dataclasses.replace(at, now_ns=ended.end_ns + age)
        assert ledger().report(now).forgettable == forgettable


def test_threads_are_shown_and_not_added() -> None:
    """A process has all its traffic already; a thread is a closer look at it."""
    report = ledger(settings=Settings(threads=True)).report(snapshot(process(10), thread(10, 12)))
    assert report.groups == {P: SENT}
    assert [m.labels for m in report.members["thread"]] == [("10", "12", "t")]
    assert report.tasks == {"process": 1, "thread": 1}


def test_groups_are_bounded() -> None:
    """A program that changes its name for ever fills the list once; the rest is `other`."""
    book = ledger(max_groups=19)
    names = [f"n{number}" for number in range(19 + 23)]
    report = book.report(snapshot(*(process(2 + n, name) for n, name in enumerate(names))))
    assert len(report.groups) == 20
    assert model.pick(report.groups[OTHER], "udp", "transmit", "packets") == 23 * 23
    assert law_holds(report)


def classes(**numbers: int) -> model.Remotes:
    """Return what a process has transmitted, in bytes, to classes a and b and to no address."""
    row = [0] * (4 * model.REMOTE_CLASSES)
    for name, value in numbers.items():
        row[4 * CLASSES.index(name) + 3] = value
    return tuple(row)


CLASSES = ("a", "b", *[""] * (model.REMOTE_CLASSES - 3), "none")


def test_groups_by_class_of_remote_address() -> None:
    """All classes there are, zeros too; what was counted under a former name stays there."""
    book = ledger(class_names=CLASSES)
    book.report(snapshot(process(10, remotes=classes(a=5, none=1)), process(11)))
    report = book.report(
        snapshot(process(10, "q", counters=MORE, remotes=classes(a=5, b=7, none=1)))
    )
    assert {
        group: {name: numbers[3] for name, numbers in found.items()}
        for group, found in report.remotes.items()
    } == {P: {"a": 5, "b": 0, "none": 1}, Q: {"a": 0, "b": 7, "none": 0}}
    assert book.report(snapshot()).remotes == report.remotes


def test_numbers_of_classes() -> None:
    """The kernel has as many as the configuration permits, and the last means the same."""
    assert layouts.TASK_REMOTES.size == 8 * len(model.NO_REMOTES)
    assert remotes.MOST == model.REMOTE_CLASSES
    found = Settings(
        remotes=True, address_classes=(remotes.AddressClass(name="x", addresses=("10.0.0.0/8",)),)
    ).classes
    assert found
    assert (found.names[:4], found.names[-1]) == (("internet", "loopback", "lan", "x"), "other")
    assert len(found.names) == remotes.MOST
    assert dict(found.prefixes)["10.0.0.0/8"] == found.names.index("x")
    assert dict(found.prefixes)["192.168.0.0/16"] == found.names.index("lan")


def test_renamed_at_the_end() -> None:
    """Exited is told by the group in which it was used; names without traffic are bounded too."""
    book = ledger(max_groups=5)
    for pid in range(10, 33):
        book.report(snapshot(process(pid)))
        report = book.report(snapshot(process(pid, f"n{pid}", end_ns=100 * SECOND)))
    assert len(report.groups) <= 6
    assert len({group for group, _ in report.exits}) <= 6
    assert report.exited[P] == report.groups[P] == tuple(23 * n for n in SENT)
    assert not any(any(c) for group, c in report.exited.items() if group != P)


def test_a_group_that_changes_after_the_end() -> None:
    """How it ended, and how long it lived, stays where it was when it ended."""
    book = ledger()
    ended = process(10, end_ns=100 * SECOND)
    book.report(snapshot(ended))
    book.namer = namer(document.parse(b"groups: [{name: all}]", "f.yml"))
    report = book.report(snapshot(ended, now=100 + KEEP_NS // SECOND + 1))
    assert report.exits == {(P, "exit"): 1}
    assert set(report.lifetimes) == set(report.sizes) == {P}
    (entry,) = report.exit_list
    assert entry.group == P


def test_what_is_gone_is_forgotten() -> None:
    """Memory by process is that of the processes there are."""
    book = ledger(class_names=CLASSES)
    for name in ("p", "q"):
        sent = MORE if name == "q" else SENT
        book.report(snapshot(process(10, name, counters=sent, remotes=classes(a=sent[7]))))
    assert book.memory.elsewhere
    book.report(snapshot())
    memory_ = book.memory
    assert not any((memory_.seen, memory_.seen_remotes, memory_.current, memory_.elsewhere))


def test_exited_by_group() -> None:
    """What was used under each name; late packets belong to the last."""
    book = ledger()
    book.report(snapshot(process(10)))
    book.report(snapshot(process(10, "q", counters=MORE)))
    ended = process(10, "q", counters=MORE, end_ns=100 * SECOND)
    assert book.report(snapshot(ended)).exited == {P: SENT, Q: model.subtract(MORE, SENT)}
    restored = ledger()
    restored.recall(memory.restore(memory.dump(book.memory), 1000))
    more = model.add(MORE, SENT)
    late = ended._replace(counters=more)
    for one in (book, restored):
        assert one.report(snapshot(late)).exited == {P: SENT, Q: model.subtract(more, SENT)}


def test_classes_that_are_not_counted_any_more() -> None:
    """They go, and begin anew when they are counted again; with other names, too."""
    book = ledger(class_names=CLASSES)
    book.report(snapshot(process(10, remotes=classes(a=50))))
    without = ledger()
    without.recall(memory.restore(memory.dump(book.memory), 1000))
    assert without.report(snapshot(process(10, counters=MORE))).remotes == {}
    again = ledger(class_names=CLASSES)
    again.recall(memory.restore(memory.dump(without.memory), 1000))
    more = model.add(MORE, SENT)
    found = again.report(snapshot(process(10, counters=more, remotes=classes(a=3)))).remotes
    assert found[P]["a"][3] == 3
    others = ledger(class_names=("c", *CLASSES[1:]))
    others.recall(memory.restore(memory.dump(book.memory), 1000))
    found = others.report(snapshot(process(10, counters=more, remotes=classes(a=57)))).remotes
    assert found[P]["c"][3] == 7


def test_events_of_lives() -> None:
    """By group; those for whom there was no room are `other`; a new name leaves the past."""
    book = ledger()
    key, rest = LifeKey("sh", 0, 1), LifeKey("", 0, 0)
    book.report(snapshot(lives={key: (1, 2, 3, 4, 5, 6), rest: (7, 0, 0, 0, 0, 0)}))
    report = book.report(snapshot(lives={key: (2, 2, 3, 4, 5, 6), rest: (7, 0, 0, 0, 0, 0)}))
    assert report.lives == {Group("sh"): (2, 2, 3, 4, 5, 6), OTHER: (7, 0, 0, 0, 0, 0)}
    book.namer = namer(document.parse(b"groups: [{comm: [sh], name: all}]", "f.yml"))
    report = book.report(snapshot(lives={key: (5, 2, 3, 4, 5, 6)}))
    assert report.lives[Group("sh")] == (2, 2, 3, 4, 5, 6)
    assert report.lives[Group("all")] == (3, 0, 0, 0, 0, 0)


def test_unidentified_is_part_of_the_total() -> None:
    """Every reason is there, also those with nothing."""
    report = ledger().report(snapshot(process(10), unidentified={"kernel": MORE}))
    assert tuple(report.unidentified) == model.REASONS
    assert report.total == model.add(SENT, MORE)


RULES = (
    "",
    "groups: [{name: all}]",
    "groups: [{comm: [a], name: other}, {comm: [b], name: 'x{{.PID}}'}]",
    "groups: [{user: ['0'], comm: [a, b], name: '{{.Comm}}{{.Username}}'}, {threads: true}]",
)


class Kernel(RuleBasedStateMachine):
    """A kernel whose processes do what they like, and a ledger that reads it now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.book = ledger(max_groups=4)
        self.tasks: dict[int, TaskRecord] = {}
        self.truth = model.ZERO
        self.now = 1
        self.before: Report | None = None

    @rule(pid=st.integers(2, 5), name=st.sampled_from("abc"))
    def start(self, pid: int, name: str) -> None:
        """Start a process under a pid that no living one has."""
        if any(task.pid == pid and not task.end_ns for task in self.tasks.values()):
            return
        self.now += 1
        task = process(pid, name, start=self.now, counters=model.ZERO)
        self.tasks[task.identity] = task

    @rule(choice=st.integers(0, 99), packets=st.integers(1, 9))
    def traffic(self, choice: int, packets: int) -> None:
        """Send, also after the end."""
        if not self.tasks:
            return
        task = list(self.tasks.values())[choice % len(self.tasks)]
        if task.end_ns and self.now * SECOND - task.end_ns > KEEP_NS:
            return
        sent = counters(tcp_transmit_packets=packets, tcp_transmit_bytes=packets * 41)
        self.tasks[task.identity] = task._replace(counters=model.add(task.counters, sent))
        self.truth = model.add(self.truth, sent)

    @rule(choice=st.integers(0, 99), name=st.sampled_from("abc"))
    def rename(self, choice: int, name: str) -> None:
        """Change a name."""
        if self.tasks:
            task = list(self.tasks.values())[choice % len(self.tasks)]
            self.tasks[task.identity] = task._replace(name=name)

    @rule(choice=st.integers(0, 99), status=st.sampled_from((0, 256, 9)))
    def end(self, choice: int, status: int) -> None:
        """End a process."""
        if not self.tasks:
            return
        task = list(self.tasks.values())[choice % len(self.tasks)]
        if not task.end_ns:
            self.tasks[task.identity] = task._replace(end_ns=self.now * SECOND, wait_status=status)

    @rule(rules=st.sampled_from(RULES))
    def reload(self, rules: str) -> None:
        """Apply another configuration: groups have other names from now on."""
        self.book.namer = namer(document.parse(rules.encode(), "f.yml"))

    @rule(limit=st.integers(1, 6))
    def change_limit(self, limit: int) -> None:
        """Permit more or fewer groups."""
        self.book.max_groups = limit

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def scrape(self) -> None:
        """Read, compare with the last time, and forget what may go."""
        report = self.book.report(snapshot(*self.tasks.values(), now=self.now))
        assert report.total == self.truth
        assert law_holds(report)
        shown = model.ZERO
        for task in self.tasks.values():
            shown = model.add(shown, task.counters)
        if self.before is not None:
            for kind in ("groups", "exited"):
                for name, old in getattr(self.before, kind).items():
                    assert min(model.subtract(getattr(report, kind)[name], old)) >= 0
            for key, count in self.before.exits.items():
                assert report.exits[key] >= count
        self.before = report
        for identity in report.forgettable:
            del self.tasks[identity]

    @invariant()
    def ends_are_counted_at_most_once(self) -> None:
        """No more exits than ended processes were ever seen."""
        if self.before is not None:
            assert sum(self.before.exits.values()) <= self.now


KernelTest = Kernel.TestCase
KernelTest.settings = settings(max_examples=2000, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 2**62), min_size=16, max_size=16))
def test_add_and_subtract_are_inverse(numbers: list[int]) -> None:
    """Counters stay exact beyond what a float holds."""
    some = tuple(numbers)
    assert model.subtract(model.add(some, MORE), MORE) == some


def test_threads_go_with_their_process() -> None:
    """A thread of whose end nobody has heard is forgotten when its process is."""
    late = thread(10, 12)
    gone = process(10, end_ns=100 * SECOND)
    after = KEEP_NS // SECOND + 101
    for now, forgotten in ((101, set()), (after, {gone.identity, late.identity})):
        assert set(ledger().report(snapshot(gone, late, now=now)).forgettable) == forgotten
