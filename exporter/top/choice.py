# SPDX-License-Identifier: Apache-2.0
"""What the user has chosen to see, and how each key changes it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from exporter.errors import ConfigError
from exporter.top import table
from exporter.top.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from exporter.top.table import Column, Row, View


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A view, an order, a filter."""

    view: View
    sorts: dict[str, str] = dataclasses.field(default_factory=dict)
    """Titles of the columns by which rows are in order, by view; else as the view says."""
    reverse: bool = False
    wanted: str = ""
    """What is to be in a name."""
    bits: bool = False
    paused: bool = False

    @classmethod
    def make(cls, noun: str, sort: str | None, *, wanted: str, reverse: bool) -> Self:
        """Return what flags say. Raises ConfigError."""
        view = VIEWS[noun]
        if sort is not None and sort.upper() not in view.titles:
            accepted = ", ".join(view.titles)
            message = f"--sort: found {sort!r}; accepted for {noun} are {accepted}"
            raise ConfigError(message)
        return cls(view, {noun: sort.upper()} if sort else {}, reverse, wanted)

    @property
    def sort(self) -> int:
        """Return the place of the column by which rows are in order."""
        return self.view.titles.index(self.sorts.get(self.view.noun, self.view.sort))

    @property
    def column(self) -> Column:
        """Return that column."""
        return self.view.columns[self.sort]

    def show(self, noun: str) -> Self:
        """Show another view; each keeps its order."""
        return dataclasses.replace(self, view=VIEWS[noun], reverse=False, paused=False)

    def move(self, step: int) -> Self:
        """Put rows in order by the column beside; from the last one on by the first."""
        titles = self.view.titles
        title = titles[(self.sort + step) % len(titles)]
        return dataclasses.replace(self, sorts={**self.sorts, self.view.noun: title}, reverse=False)

    def flip(self, what: str) -> Self:
        """Switch something on or off."""
        changed: Mapping[str, Any] = {what: not getattr(self, what)}
        return dataclasses.replace(self, **changed)

    def select(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows that are to be seen, in order."""
        found = table.matching(self.view, rows, self.wanted)
        return table.ordered(found, self.column, reverse=self.reverse)
