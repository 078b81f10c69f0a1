# SPDX-License-Identifier: Apache-2.0
"""Who asks while others are answered is answered once, together, and from the beginning."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from exporter.rounds import Rounds
from tests.unit.facts import Turnstile
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Collection


class Gate:
    """Answers with all questions of a round, and lets none end before it is told to."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.rounds: list[list[int]] = []
        self.failures: list[BaseException] = []
        self.lock: Any = Turnstile()
        self.target: Rounds[int, list[int]] = Rounds(self.lock, self.answer)
        self.turnstile = self.target._gate = Turnstile()  # type: ignore[assignment]

    def answer(self, questions: Collection[int]) -> list[int]:
        self.rounds.append(list(questions))
        self.entered.release()
        assert self.opened.wait(PATIENCE)
        if self.failures:
            raise self.failures.pop()
        return self.rounds[-1]

    def wait_for(self, passed: int) -> None:
        """Wait until so many have gone through: who asks does so once, and once each round."""
        wait_until(lambda: self.turnstile.passed == passed, f"{passed} through the gate")


def test_two_rounds_for_all() -> None:
    """That of the first, and that of the others, who share one answer."""
    gate = Gate()
    with ThreadPoolExecutor(53) as pool:
        first = pool.submit(gate.target.ask, 0)
        gate.entered.acquire()
        others = [pool.submit(gate.target.ask, 1 + number % 3) for number in range(52)]
        gate.wait_for(2 + 52)
        gate.opened.set()
        assert first.result() == [0]
        answers = [other.result() for other in others]
    assert [sorted(questions) for questions in gate.rounds] == [[0], [1, 2, 3]]
    assert all(answer is gate.rounds[1] for answer in answers)
    # Who only takes an answer that is there waits for no other round.
    assert gate.lock.passed == 2


def test_nobody_gets_what_was_begun_before() -> None:
    """A question that comes when a round has begun is not in it, also if it is the same."""
    gate = Gate()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(gate.target.ask, 23)
        gate.entered.acquire()
        second = pool.submit(gate.target.ask, 23)
        gate.wait_for(2 + 1)
        gate.opened.set()
        assert first.result() is not second.result()
    assert gate.rounds == [[23], [23]]


def test_one_after_the_other() -> None:
    """Nothing is kept for later."""
    gate = Gate()
    gate.opened.set()
    assert [gate.target.ask(number) for number in (2, 2, 3)] == [[2], [2], [3]]


def test_a_failure_is_for_one() -> None:
    """The others of that round are answered by another attempt, and who comes later as ever."""
    gate = Gate()
    gate.failures.append(KeyboardInterrupt())
    with ThreadPoolExecutor(3) as pool:
        with gate.target._lock:
            asked = [pool.submit(gate.target.ask, number) for number in (5, 7)]
            gate.wait_for(2)
        gate.opened.set()
        found = [one.exception() or one.result() for one in asked]
    assert sorted(map(str, found)) == sorted(["", str([*gate.rounds[0]])])
    assert gate.target.ask(11) == [11]
    with pytest.raises(ZeroDivisionError):
        Rounds(threading.Lock(), lambda _: 1 // 0).ask(1)
