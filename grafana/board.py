# SPDX-License-Identifier: Apache-2.0
"""A dashboard: variables, rows of panels, links to the others; and its JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.panels import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.panels import Panel

TAG: Final = "netatop"
ALL: Final = VariableOption(selected=True, text="All", value="$__all")


class Variable(NamedTuple):
    """A choice among the values of a label."""

    name: str
    label: str
    selector: str
    """Of series that have a label of this name."""
    may_be_empty: bool = False
    """Series without the label, as those of no pod, are meant by All too."""
    all_at_first: bool = True


class Part(NamedTuple):
    """A row with a title, and what is under it."""

    title: str
    panels: Sequence[Panel]


class Board(NamedTuple):
    """A dashboard."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    parts: Sequence[Part]


def exporters(metric: str = "netatop_build_info", *, all_at_first: bool = True) -> list[Variable]:
    """Return the two variables that every dashboard has."""
    return [
        Variable("job", "Job", metric),
        Variable("instance", "Instance", f'{metric}{{job=~"$job"}}', all_at_first=all_at_first),
    ]


def as_json(board: Board) -> dict[str, Any]:
    """Return what Grafana imports."""
    link = (
        DashboardLink("netatop")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=False)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
    source = DatasourceVariable("datasource").label("Data source").type("prometheus")
    made = (
        Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("1m")
        .timezone("browser")
        .link(link)
        .with_variable(source)
    )
    for variable in board.variables:
        made.with_variable(_query(variable))
    for part in board.parts:
        made.with_row(Row(part.title))
        for panel in part.panels:
            made.with_panel(panel)
    found: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel_ in enumerate(found["panels"], 1):
        panel_["id"] = number  # the SDK gives none, and Grafana would, another one each time
    for one in found["links"]:
        del one["placement"]  # which hides it in a menu, and is new
    return found


def _query(variable: Variable) -> QueryVariable:
    made = (
        QueryVariable(variable.name)
        .label(variable.label)
        .datasource(SOURCE)
        .query(f"label_values({variable.selector}, {variable.name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*" if variable.may_be_empty else ".+")
    )
    return made.current(ALL) if variable.all_at_first else made
