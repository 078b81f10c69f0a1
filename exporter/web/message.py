# SPDX-License-Identifier: Apache-2.0
"""What is asked and what is answered."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLAIN: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"

Header = tuple[str, str]


class Request(NamedTuple):
    """A request; a body is never looked at."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = {}
    """By their names in lower case."""
    client: str = ""
    """Its address; empty if it has none."""

    def header(self, name: str) -> str:
        """Return a header; empty if there is none."""
        return self.headers.get(name, "")


class Answer(NamedTuple):
    """What it gets."""

    status: HTTPStatus
    kind: str
    body: bytes
    headers: tuple[Header, ...] = ()
    compressed: Callable[[], bytes] | None = None
    """Returns the body in gzip, where that is made once for many."""


def say(status: HTTPStatus, text: str, *headers: Header) -> Answer:
    """Return a line for people."""
    return Answer(status, PLAIN, f"{text}\n".encode(), headers)


def busy(text: str) -> Answer:
    """Return that it may work in a moment."""
    return say(HTTPStatus.SERVICE_UNAVAILABLE, text, ("Retry-After", "1"))
