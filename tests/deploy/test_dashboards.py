# SPDX-License-Identifier: Apache-2.0
"""The dashboards as Grafana imports them: made anew, of the right types, and by the usual rules.

The rules are those of Grafana's dashboard-linter. That every query finds something is held by
tests/e2e/test_dashboards.py.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.dashboards import (
    BOARDS,
    FOLDER,
    METRIC,
    RECORDED,
    ROOT,
    RULES,
    Target,
    panels,
    substitute,
    targets,
    variables,
)
from tests.deploy.sdk_types import mismatches

if TYPE_CHECKING:
    from pathlib import Path

with warnings.catch_warnings():  # the classic format is what every Grafana imports
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models import dashboard, units

SELECTOR: Final = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}(\[[^\]]+\])?")
COUNTER_FUNCTIONS: Final = ("rate", "irate", "increase", "changes", "resets")
NAMES: Final = r"[a-z_]*\{[^}]*\}[a-z_{},]*|[a-z_]+"
EVERY: Final = [pytest.param(target, id=str(target)) for name in BOARDS for target in targets(name)]
EVERY_PANEL: Final = [
    pytest.param(panel, id=f"{name}: {panel['title']}") for name in BOARDS for panel in panels(name)
]


def test_reproducible(tmp_path: Path) -> None:
    """`make dashboards` writes what is committed, to the byte."""
    command = (sys.executable, "-W", "ignore::DeprecationWarning", "-m", "grafana", str(tmp_path))
    subprocess.run(command, check=True, cwd=ROOT)
    made = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_bytes() for file in FOLDER.iterdir()}
    assert len(made) == 5


@pytest.mark.parametrize("board", BOARDS)
def test_types(board: str) -> None:
    """Nothing is there that Grafana's own schema does not know, and all of it has its types."""
    register_default_plugins()
    read = dashboard.Dashboard.from_json(BOARDS[board])
    again = json.loads(json.dumps(read, cls=JSONEncoder))
    for link in again["links"]:
        del link["placement"]  # the SDK adds it
    assert again == BOARDS[board]
    assert list(mismatches(read, dashboard.Dashboard, board)) == []


@pytest.mark.parametrize(
    ("key", "value"), [("title", 23), ("refresh", True), ("panels", [{"type": 1}]), ("tags", "x")]
)
def test_types_can_be_wrong(key: str, value: object) -> None:
    """It would be found."""
    broken = BOARDS["netatop-host"] | {key: value}
    read = dashboard.Dashboard.from_json(broken)
    assert list(mismatches(read, dashboard.Dashboard, "broken"))


@pytest.mark.parametrize("board", BOARDS)
def test_board(board: str) -> None:
    """Each has a name of its own, can't be edited by accident, and leads to the others."""
    made = BOARDS[board]
    assert made["uid"] == board
    assert len(made["uid"]) <= 40
    assert made["title"]
    assert made["description"]
    assert made["editable"] is False
    assert "__inputs" not in made
    assert made["tags"] == ["netatop"]
    (link,) = made["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["netatop"])
    assert link["includeVars"]
    assert link["keepTime"]
    assert len({one["title"] for one in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS)
def test_variables(board: str) -> None:
    """There are a data source, a job and an instance, and each other one asks the data source."""
    found = variables(board)
    assert list(found)[:3] == ["datasource", "job", "instance"]
    source = found.pop("datasource")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert source["label"] == "Data source"
    assert (found["job"]["label"], found["instance"]["label"]) == ("Job", "Instance")
    for one in found.values():
        assert one["type"] == "query"
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert one["multi"]
        assert one["includeAll"]
        assert one["allValue"] in {".+", ".*"}
        assert one["refresh"] == 2  # whenever the time range changes


@pytest.mark.parametrize("board", BOARDS)
def test_layout(board: str) -> None:
    """No panel lies on another, none is wider than the page, and ids are unique."""
    every = BOARDS[board]["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    taken: Counter[tuple[int, int]] = Counter()
    for panel in every:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken.update(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
    assert max(taken.values()) == 1
    for panel in panels(board):  # each line is full
        line = [one for one in panels(board) if one["gridPos"]["y"] == panel["gridPos"]["y"]]
        assert sum(one["gridPos"]["w"] for one in line) == 24, panel["title"]
        assert len({one["gridPos"]["h"] for one in line}) == 1, panel["title"]


@pytest.mark.parametrize("panel", EVERY_PANEL)
def test_panel(panel: dict[str, Any]) -> None:
    """Each has a title, says what it shows and in what unit, and asks the data source chosen."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    known = {value for name, value in vars(units).items() if name[0].isupper()}
    fields = panel["fieldConfig"]
    assert fields["defaults"]["unit"] in known
    for override in fields["overrides"]:
        for one in override["properties"]:
            assert one["id"] != "unit" or one["value"] in known
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    names = [target["refId"] for target in panel["targets"]]
    assert len(set(names)) == len(names)
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["range"] != target["instant"]


@pytest.mark.parametrize("target", EVERY)
def test_expression(target: Target) -> None:
    """Every selector is of what was chosen, every window is right, every counter is in a rate."""
    known = variables(target.board)
    values = dict.fromkeys(known, "x") | {"__rate_interval": "1m", "__range": "1h"}
    substitute(target.expression, **values)  # no variable that there is not
    found = list(SELECTOR.finditer(target.expression))
    assert found
    for match in found:
        metric, matchers, window = match.groups()
        assert 'job=~"$job"' in matchers
        fleet = metric.split(":")[0] in {"group", "job_protocol"}  # have no instance
        assert fleet or 'instance=~"$instance"' in matchers
        before = target.expression[: match.start()]
        function = re.search(r"(\w+)\($", before)
        inside = function[1] if function else ""
        if metric.endswith(("_total", "_bucket", "_sum", "_count")):
            assert inside in COUNTER_FUNCTIONS or " and on (" in before, metric
        if window:
            assert window == ("[$__rate_interval]" if inside in {"rate", "irate"} else "[$__range]")
        assert inside != "irate"


@pytest.mark.parametrize("target", EVERY)
def test_totals(target: Target) -> None:
    """No total is made of processes, threads or sockets: those that come and go are not in it."""
    if re.search(r"netatop_(process|thread|socket)_\w+_total", target.expression):
        assert target.panel.endswith(" now"), "not a list of the busiest"
        assert re.search(r"\b(pid|tid)\b", target.expression)


@pytest.mark.parametrize("board", BOARDS)
def test_links(board: str) -> None:
    """A link in a table leads to a dashboard and a variable that are there, from a column."""
    for panel in panels(board):
        shown = {
            title
            for change in panel.get("transformations", ())
            for title in change["options"].get("renameByName", {}).values()
        }
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in shown
            for one in override["properties"]:
                for link in one["value"] if one["id"] == "links" else ():
                    other = re.match(r"/d/([\w-]+)\?", link["url"])
                    assert other
                    assert other[1] in BOARDS
                    taken = re.findall(r'var-(\w+)=\$\{__data.fields\["([\w ]+)"\]\}', link["url"])
                    assert taken
                    assert {name for name, _ in taken} <= variables(other[1]).keys()
                    assert {column for _, column in taken} <= shown


def expanded(text: str) -> set[str]:
    """Return the names of metrics in a text, with `{a,b}` in them written out."""
    found = set()
    for word in re.findall(r"netatop_(?:\{[a-z_,]+\}|[a-z0-9_])+", text):
        parts = [part.strip("{}").split(",") for part in re.split(r"(\{[^}]*\})", word)]
        found |= {"".join(chosen) for chosen in itertools.product(*parts)}
    return found


def test_names() -> None:
    """Every metric that is named is one that docs/metrics.md describes; every rule's, in a rule."""
    known = expanded((ROOT / "docs/metrics.md").read_text(encoding="utf-8"))
    known |= {f"{name}_{end}" for name in known for end in ("bucket", "sum", "count")}
    recorded = {
        rule["record"]
        for group in yaml.safe_load(RULES[0].read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    }
    pages = [ROOT / "docs" / f"{name}.md" for name in ("dashboards", "alerts")]
    texts = [file.read_text(encoding="utf-8") for file in (*RULES, *pages)]
    for text in (*texts, *(target.expression for name in BOARDS for target in targets(name))):
        assert set(RECORDED.findall(text)) <= recorded
        assert {name for name in METRIC.findall(RECORDED.sub("", text)) if "{" not in name} <= known
