# SPDX-License-Identifier: Apache-2.0
"""Answers that are shared: who asks while others are answered is answered with all who wait.

Nobody gets an answer that was begun before he asked, so everybody sees all that happened until
then. However many ask at once, there are two rounds: that of the first, and that of the others.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Round(Generic[Question, Answer]):
    """Questions that are answered together."""

    def __init__(self) -> None:
        self.questions: dict[Question, None] = {}
        """Each once, in their order."""
        self.answers: list[Answer] = []
        """One, as soon as it is there."""
        self.lock = threading.Lock()
        """Held by who works for all of them: the others need not wait for the next round, too."""


class Rounds(Generic[Question, Answer]):
    """Calls one function for all who ask. Safe for threads."""

    def __init__(
        self, lock: threading.Lock, answer: Callable[[Collection[Question]], Answer]
    ) -> None:
        self._lock = lock
        """Held while a round is under way, and by others whom it must not meet."""
        self._answer = answer
        self._gate = threading.Lock()
        """Held for moments: who goes through it is in the next round."""
        self._next: Round[Question, Answer] = Round()

    def ask(self, question: Question) -> Answer:
        """Return the answer to all questions of the next round; what it raises, to one of them."""
        with self._gate:
            mine = self._next
            mine.questions[question] = None
        with mine.lock:
            if not mine.answers:
                with self._lock:
                    with self._gate:
                        if self._next is mine:
                            self._next = Round()
                    mine.answers.append(self._answer(mine.questions))
            return mine.answers[0]
