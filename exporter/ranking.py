# SPDX-License-Identifier: Apache-2.0
"""What is new, who is meant, who comes first: of the rows of any table, on any screen."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
Value: TypeAlias = str | int | float | None


def increments(before: tuple[int, ...] | None, now: tuple[int, ...]) -> tuple[int, ...]:
    """Return what is new: all of what was not there before, or has begun anew."""
    if before is None:
        return now
    if before == now:
        return (0,) * len(now)
    found = tuple(map(operator.sub, now, before))
    return now if min(found) < 0 else found


def matching(rows: Iterable[T], wanted: str, names: Callable[[T], Iterable[Value]]) -> list[T]:
    """Return the rows that have a text in any of their names, in upper or lower case."""
    if not wanted:
        return list(rows)
    text = wanted.casefold()
    return [
        row
        for row in rows
        if any(text in str(name).casefold() for name in names(row) if name is not None)
    ]


def ordered(rows: Iterable[T], value: Callable[[T], Value], *, least_first: bool) -> list[T]:
    """Return rows in order.

    What has no value is last in any case. Equals stay in the order in which they came.
    """
    with_value: list[tuple[Any, T]] = []
    without = []
    for row in rows:
        found = value(row)
        if found is None or found == "":
            without.append(row)
        else:
            with_value.append((found.casefold() if isinstance(found, str) else found, row))
    with_value.sort(key=operator.itemgetter(0), reverse=not least_first)
    return [row for _, row in with_value] + without
