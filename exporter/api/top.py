# SPDX-License-Identifier: Apache-2.0
"""The busiest: a bounded list with rates, and with those of the last minutes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from exporter import ranking
from exporter.api import live, terms
from exporter.api.history import POINTS
from exporter.api.views import NUMBERS, RATES, TOTALS, UNITS, VIEWS
from exporter.errors import ConfigError
from exporter.model import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.api.history import History
    from exporter.api.live import Live, Row, Sample
    from exporter.api.views import View
    from exporter.ranking import Value

PATHS: Final = {f"/api/v1/top/{noun}": view for noun, view in VIEWS.items()}
"""By path: what is told there."""
ORDERS: Final = ("ascending", "descending")
MAX_SEARCH: Final = 256
"""Characters."""
MAX_ROWS: Final = 1000
ROWS: Final = 100
"""If nothing else is asked for."""


def answer(path: str, look: Live, query: str) -> bytes:
    """Return what is asked for; nothing at all: not ready yet. Raises ConfigError."""
    view = PATHS[path]
    asked = terms.parameters(
        path,
        query,
        {
            "sort": functools.partial(_one_of, f"{path}: sort", view.sorts),
            "order": functools.partial(_one_of, f"{path}: order", ORDERS),
            "search": functools.partial(_search, f"{path}: search"),
            "limit": MAX_ROWS,
            "history": POINTS,
        },
    )
    sort = asked.get("sort", view.sorts[0])
    order = asked.get("order") or _usual_order(sort)
    found = look.look(
        lambda sample: {
            "view": view.noun,
            "sort": sort,
            "order": order,
            "search": asked.get("search", ""),
            **_tell(sample, view, asked, _value(view, sort), least_first=order == ORDERS[0]),
        }
    )
    return terms.dump(found) if found else b""


def _one_of(what: str, accepted: tuple[str, ...], text: str) -> str:
    if text not in accepted:
        message = f"{what}: found {text!r}; accepted are {', '.join(accepted)}"
        raise ConfigError(message)
    return text


def _search(what: str, text: str) -> str:
    if len(text) > MAX_SEARCH:
        message = f"{what}: found {len(text)} characters; accepted are up to {MAX_SEARCH}"
        raise ConfigError(message)
    return text


def _usual_order(sort: str) -> str:
    return ORDERS[sort in NUMBERS or sort in RATES or sort in TOTALS]


def _tell(
    sample: Sample,
    view: View,
    asked: dict[str, Any],
    value: Callable[[Row], Value],
    *,
    least_first: bool,
) -> dict[str, Any]:
    rows = sample.rows[view.noun]
    found = ranking.matching(rows, asked.get("search", ""), functools.partial(_names, view))
    # Most are often equal, namely idle: then by all that they have used.
    found = ranking.ordered(found, _value(view, "totals.bytes"), least_first=False)
    shown = ranking.ordered(found, value, least_first=least_first)[: asked.get("limit", ROWS)]
    numbers = sample.numbers[-asked["history"] :] if asked.get("history") else range(0)
    counted = view.is_counted(sample.report)
    total, unidentified = (
        {**terms.traffic(row.known), **_numbers(row, sample.histories[live.HOST], numbers)}
        for row in sample.rows[live.HOST]
    )
    ages = [(sample.ends[-1] - end) / 1e9 for end in sample.ends]
    return {
        "counted": counted,
        "hint": None if counted else view.hint,
        **terms.instant(sample.report),
        "interval_seconds": sample.seconds and round(sample.seconds, 6),
        "age_seconds": [round(age, 3) for age in ages[len(ages) - len(numbers) :]],
        "views": {
            name: len(sample.rows[name]) if one.is_counted(sample.report) else None
            for name, one in VIEWS.items()
        },
        "count": len(rows),
        "matching": len(found),
        "total": total,
        "unidentified": unidentified,
        "rows": [
            {
                **view.describe(row.known),
                **_numbers(row, sample.histories[view.noun], numbers, has_rates=view.has_rates),
            }
            for row in shown
        ],
    }


def _names(view: View, row: Row) -> Iterable[Value]:
    fields = view.describe(row.known)
    return (fields[name] for name in view.names)


def _value(view: View, sort: str) -> Callable[[Row], Value]:
    """Return how the value is found by which rows are put in order."""
    what, _, name = sort.partition(".")
    if not name:
        return lambda row: _scalar(view.describe(row.known)[sort])
    is_rate = what == "rates"
    if name in UNITS:
        place = TRAFFIC.index(f"receive_{name}")
        return lambda row: _sum(row.rates if is_rate else row.totals, place)
    place = TRAFFIC.index(name)
    return lambda row: _at(row.rates if is_rate else row.totals, place)


def _scalar(value: object) -> Value:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _sum(numbers: tuple[float, ...] | None, place: int) -> float | None:
    return None if numbers is None else numbers[place] + numbers[place + len(UNITS)]


def _at(numbers: tuple[float, ...] | None, place: int) -> float | None:
    return None if numbers is None else numbers[place]


def _numbers(
    row: Row, history: History, numbers: range, *, has_rates: bool = True
) -> dict[str, Any]:
    """Return totals, rates and past rates."""
    past = history.of(row.identity, numbers) if numbers and has_rates else None
    rates = row.rates if has_rates else None
    return {
        "totals": dict(zip(TRAFFIC, row.totals, strict=True)),
        "rates": rates and dict(zip(TRAFFIC, (round(n, 3) for n in rates), strict=True)),
        "history": past and {"receive_bytes": past[0], "transmit_bytes": past[1]},
    }
