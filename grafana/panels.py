# SPDX-License-Identifier: Apache-2.0
"""Panels as all dashboards have them: title, description, unit, legend, thresholds, links."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")

BYTE_RATE: Final = "Bps"
PACKET_RATE: Final = "pps"
RATE: Final = "ops"
COUNT: Final = "short"
SHARE: Final = "percentunit"
SECONDS: Final = "s"
SIZE: Final = "decbytes"

GREEN, ORANGE, RED = "green", "orange", "red"
Steps: TypeAlias = "Sequence[tuple[float | None, str]]"
PLAIN: Final[Steps] = ((None, GREEN),)
ANY_IS_BAD: Final[Steps] = ((None, GREEN), (1e-9, RED))
"""For what is 0 on a healthy host."""
NONE_IS_BAD: Final[Steps] = ((None, RED), (1, GREEN))
FULL: Final[Steps] = ((None, GREEN), (0.8, ORANGE), (0.95, RED))
"""For what has an end."""

Panel: TypeAlias = "timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel"


class Query(NamedTuple):
    """An expression, and what its series are called."""

    expression: str
    legend: str = ""


class Column(NamedTuple):
    """A number in a table."""

    title: str
    expression: str
    unit: str


class Link(NamedTuple):
    """Where a click on a cell of a table leads: another dashboard, with what stands in the row."""

    column: str
    title: str
    dashboard: str
    variables: Mapping[str, str]
    """Of the other dashboard: the column that each is taken from."""


def series(  # noqa: PLR0913
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    width: int = 12,
    steps: Steps = PLAIN,
) -> timeseries.Panel:
    """Return a plot over time."""
    legend = (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "mean", "max"])
        .sort_by("Last *")
        .sort_desc(sort_desc=True)
    )
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(9)
        .legend(legend)
        .tooltip(tooltip)
        .show_points(VisibilityMode.NEVER)
        .fill_opacity(30 if stacked else 8)
        .thresholds(_thresholds(steps))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for name, query in zip(string.ascii_uppercase, queries, strict=False):
        panel.with_target(_target(name, query))
    return panel


def number(  # noqa: PLR0913
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    steps: Steps = PLAIN,
    instant: bool = False,
    width: int = 4,
) -> stat.Panel:
    """Return one number; instant: of the whole time that is shown, without a plot."""
    target = _target("A", Query(expression))
    if instant:
        target.instant()
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(BigValueGraphMode.NONE if instant else BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .with_target(target)
    )


def rows(
    title: str,
    description: str,
    labels: Mapping[str, str],
    *columns: Column,
    links: Sequence[Link] = (),
    width: int = 24,
) -> table.Panel:
    """Return a table: a row for each set of labels, as they are now; the first number sorts.

    labels: title by label, in this order. Every column must have them.
    """
    values = {f"Value #{name}": c for name, c in zip(string.ascii_uppercase, columns, strict=False)}
    if len(columns) == 1:
        values = {"Value": columns[0]}  # a single frame keeps its name
    order = {name: place for place, name in enumerate((*labels, *values))}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(columns[0].unit)
        .span(width)
        .height(9)
        .filterable(filterable=True)
        .sort_by([common.TableSortByFieldState().display_name(columns[0].title).desc(desc=True)])
        .thresholds(_thresholds(PLAIN))
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(("Time", "__name__", "job"), True),
                    "indexByName": order,
                    "renameByName": dict(labels) | {name: c.title for name, c in values.items()},
                },
            )
        )
    )
    for name, column in zip(string.ascii_uppercase, columns, strict=False):
        target = _target(name, Query(column.expression))
        panel.with_target(target.format(PromQueryFormat.TABLE).instant())
        panel.override_by_name(column.title, [DynamicConfigValue("unit", column.unit)])
    for link in links:
        panel.override_by_name(link.column, [DynamicConfigValue("links", [_link(link)])])
    return panel


def heat(title: str, description: str, unit: str, histogram: str, width: int = 12) -> heatmap.Panel:
    """Return how a histogram changes over time; histogram: rates by `le`."""
    target = _target("A", Query(histogram, "{{le}}")).format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(9)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges"))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_values(heatmap.CellValues().unit(RATE))
        .show_value(VisibilityMode.NEVER)
        .with_target(target)
    )


def _target(name: str, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(name)
        .datasource(SOURCE)
        .expr(query.expression)
        .legend_format(query.legend or "__auto")
        .range()
    )


def _thresholds(steps: Steps) -> ThresholdsConfig:
    found = [Threshold(value=value, color=color) for value, color in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def _link(link: Link) -> dict[str, object]:
    """Return a link; job and source are those of this dashboard, and so is the time."""
    taken = "".join(
        f'&var-{variable}=${{__data.fields["{column}"]}}'
        for variable, column in link.variables.items()
    )
    url = f"/d/{link.dashboard}?${{datasource:queryparam}}&${{job:queryparam}}{taken}"
    return {"title": link.title, "url": f"{url}&${{__url_time_range}}", "targetBlank": False}
