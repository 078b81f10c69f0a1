# SPDX-License-Identifier: Apache-2.0
"""Asks the exporter for what a view shows: once, or again and again in a thread of its own."""

from __future__ import annotations

import json
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from exporter.client import StatusError
from exporter.errors import ServeError
from exporter.top import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.client import Client
    from exporter.top.table import Answer, Row, View


def ask(client: Client, view: View) -> Answer:
    """Return what the exporter answers now. Raises ServeError, also if it does not count that."""
    try:
        text = client.fetch(view.path)
    except StatusError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            message = f"this exporter does not know {view.noun}; a later version of it does"
            raise ServeError(message) from error
        raise
    try:
        answer = table.parse(view, json.loads(text, parse_constant=_refuse), time.monotonic())
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        message = (
            f"the answer at {client.url(view.path)} is no list of {view.noun}; is it "
            "netatop-exporter's address?"
        )
        raise ServeError(message) from error
    if not answer.is_counted:
        message = f"{view.noun} are not counted; {view.hint}"
        raise ServeError(message)
    return answer


def _refuse(constant: str) -> NoReturn:
    message = f"found {constant}"
    raise ValueError(message)


class News(NamedTuple):
    """What has come of a question."""

    view: View
    rows: list[Row] | None
    """None if it failed."""
    failure: str = ""


class Follower(threading.Thread):
    """Asks, compares with the answer before, tells, waits; until it is stopped.

    A thread of its own that nobody waits for: an exporter that does not answer must delay no key.
    """

    def __init__(
        self,
        fetch: Callable[[View], Answer],
        view: View,
        seconds: float,
        tell: Callable[[News], object],
    ) -> None:
        super().__init__(daemon=True, name="follower")
        self._fetch = fetch
        self._view = view
        self._seconds = seconds
        self._tell = tell
        self._go_on = threading.Event()
        self._go_on.set()
        self._changed = threading.Event()
        self._stopped = False

    def show(self, view: View) -> None:
        """Ask for this from now on, and at once, whether paused or not."""
        self._view = view
        self.pause(on=False)

    def pause(self, *, on: bool) -> None:
        """Ask no more, or again."""
        if on:
            self._go_on.clear()
        else:
            self._go_on.set()
            self._changed.set()

    def stop(self) -> None:
        """Ask and tell no more; a question that is under way is not waited for."""
        self._stopped = True
        self.pause(on=False)

    def run(self) -> None:
        """Go on until stopped."""
        view, before = self._view, None
        while not self._stopped:
            self._changed.clear()
            if self._view is not view:
                view, before = self._view, None
            try:
                now = self._fetch(view)
                news = News(view, table.rows(before, now))
                before = now
            except ServeError as error:
                news = News(view, None, str(error))
            if not self._stopped:
                self._tell(news)
            self._changed.wait(self._seconds)
            self._go_on.wait()
