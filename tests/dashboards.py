# SPDX-License-Identifier: Apache-2.0
"""The dashboards as they are committed, and what they ask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "grafana" / "dashboards"
RULES: Final = tuple(ROOT / f"deploy/prometheus/netatop.{kind}.yml" for kind in ("rules", "alerts"))
BOARDS: Final[dict[str, dict[str, Any]]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted(FOLDER.glob("*.json"))
}
METRIC: Final = re.compile(r"(?<![\w:])netatop_[a-z0-9_]+")
RECORDED: Final = re.compile(r"(?<![\w:])[a-z_]+:netatop_[a-z0-9_]+:[a-z0-9_]+")
LABEL_VALUES: Final = re.compile(r"label_values\((.+), (\w+)\)")


class Target(NamedTuple):
    """A query of a panel."""

    board: str
    panel: str
    name: str
    expression: str
    is_instant: bool

    def __str__(self) -> str:
        """Return its name, for people."""
        return f"{self.board}: {self.panel}: {self.name}"


def panels(board: str) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without the titles of rows."""
    return [panel for panel in BOARDS[board]["panels"] if panel["type"] != "row"]


def targets(board: str) -> Iterator[Target]:
    """Yield all queries of a dashboard."""
    for panel in panels(board):
        for one in panel["targets"]:
            yield Target(board, panel["title"], one["refId"], one["expr"], one["instant"])


def variables(board: str) -> dict[str, dict[str, Any]]:
    """Return the variables of a dashboard by name."""
    return {one["name"]: one for one in BOARDS[board]["templating"]["list"]}


def substitute(expression: str, **values: str) -> str:
    """Put values in the place of variables, as Grafana does."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], expression)
