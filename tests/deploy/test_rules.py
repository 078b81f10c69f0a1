# SPDX-License-Identifier: Apache-2.0
"""Recording rules and alerts: promtool takes them, and each is tested at its boundaries."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.dashboards import ROOT, RULES

FOLDER: Final = Path(__file__).parent / "rules"
DEPLOY: Final = ROOT / "deploy" / "prometheus"
ALERTS: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load(RULES[1].read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
RECORDS: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load(RULES[0].read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
TESTS: Final[list[dict[str, Any]]] = [
    test
    for file in sorted(FOLDER.glob("*.yml"))
    for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
]


def promtool(*words: str, cwd: Path = DEPLOY) -> str:
    """Run it; what it says, if it fails, is the failure."""
    done = subprocess.run(
        ("promtool", *words), cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_are_taken() -> None:
    """No rule is twice there, and none has a mistake."""
    said = promtool("check", "rules", "--lint-fatal", *(file.name for file in RULES))
    assert f"{len(RECORDS)} rules found" in said
    assert f"{len(ALERTS)} rules found" in said


@pytest.mark.parametrize("name", ["prometheus.yml", "global.yml", "remote-write.yml"])
def test_configurations_are_taken(name: str) -> None:
    """Each configuration that is there to be copied is one."""
    promtool("check", "config", name)


def test_configurations_of_page(tmp_path: Path) -> None:
    """So is what docs/dashboards.md has of Prometheus' configuration."""
    text = (ROOT / "docs/dashboards.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert [block.splitlines()[0].strip("#: ") for block in blocks] == [
        "/etc/grafana/provisioning/dashboards/netatop.yaml",
        "scrape_configs",
    ]
    assert yaml.safe_load(blocks[0])["providers"][0]["type"] == "file"
    (tmp_path / "prometheus.yml").write_text(blocks[1])
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)


def test_command_of_page(tmp_path: Path) -> None:
    """The command of docs/alerts.md makes links of what leads to it."""
    text = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`(sed [^`]+)`", text)
    copy = shutil.copy(RULES[1], tmp_path)
    subprocess.run(("sh", "-c", command), check=True, cwd=tmp_path)
    found = re.findall(r"runbook_url: (\S+)", Path(copy).read_text(encoding="utf-8"))
    assert len(found) == len(ALERTS)
    start = "https://wiki.example.org/netatop/docs/alerts.md#netatop"
    assert all(url.startswith(start) for url in found)


@pytest.mark.parametrize("file", sorted(file.name for file in FOLDER.glob("*.yml")))
def test_boundaries(file: str) -> None:
    """Each fires when it should, and not one step aside."""
    promtool("test", "rules", file, cwd=FOLDER)


@pytest.mark.parametrize("name", [rule["alert"] for rule in ALERTS])
def test_alert_is_tested(name: str) -> None:
    """Of each alert there is a moment at which it fires and one at which it does not."""
    moments = [
        bool(moment.get("exp_alerts"))
        for test in TESTS
        for moment in test.get("alert_rule_test", ())
        if moment["alertname"] == name
    ]
    assert set(moments) == {True, False}


@pytest.mark.parametrize("name", [rule["record"] for rule in RECORDS])
def test_record_is_tested(name: str) -> None:
    """Of each recorded series a value is held."""
    held = [
        sample["labels"]
        for test in TESTS
        for moment in test.get("promql_expr_test", ())
        for sample in moment.get("exp_samples", ())
        if "labels" in sample
    ]
    asked = [
        moment["expr"]
        for test in TESTS
        for moment in test.get("promql_expr_test", ())
        if moment.get("exp_samples")
    ]
    assert any(f"{name}{{" in one for one in held) or any(name in one for one in asked)


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_alert_is_explained(rule: dict[str, Any]) -> None:
    """Each says what it means, how bad it is, and where to read on; and there it is."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["description"].endswith(".")
    page, _, anchor = notes["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    sections = re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = [one for one in sections if one.splitlines()[0] == rule["alert"]]
    assert rule["labels"]["severity"] in section.splitlines()[2]
    assert len(section) > 300


def test_nothing_is_explained_that_is_not_there() -> None:
    """The page has no section of an alert that is gone."""
    text = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (Netatop\w+)$", text, flags=re.MULTILINE)
    assert sorted(found) == sorted(rule["alert"] for rule in ALERTS)
