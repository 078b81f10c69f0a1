# SPDX-License-Identifier: Apache-2.0
"""docs/heritage.md: every row says what does it here, and whatever it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from exporter import cli
from tests.unit.test_metrics import everything

TESTS: Final = Path(__file__).parents[1]
PAGE: Final = TESTS.parent / "docs" / "heritage.md"
TEXT: Final = PAGE.read_text()
ROWS: Final = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| function |"))
]
NAMED_TESTS: Final = sorted(set(re.findall(r"`([a-z0-9_/]+\.py)::(\w+)`", TEXT)))
METRICS: Final = sorted(set(re.findall(r"\bnetatop_[a-z0-9_]+\b", TEXT)))
FLAGS: Final = sorted(set(re.findall(r"(?<!\w)--[a-z][a-z.-]*[a-z]", TEXT)))
COMMANDS: Final = (
    *("serve", "status", "exits", "hosts", "connections", "top"),
    *("watch", "wait", "doctor", "detach"),
)


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_row(row: list[str]) -> None:
    """Three cells, none of them empty, and a test in the last one."""
    assert len(row) == 3
    assert all(row)
    assert re.fullmatch(r"(`[a-z0-9_/]+\.py::\w+`(, )?)+", row[2])
    assert "not supported" not in " ".join(row).lower()


def test_sections() -> None:
    """All four systems have one."""
    titles = re.findall(r"^## (\w+)$", TEXT, re.MULTILINE)
    assert titles == ["netatop", "netatopd", "kmonitor", "tctable"]


@pytest.mark.parametrize(("file", "name"), NAMED_TESTS)
def test_tests(file: str, name: str) -> None:
    """The test is in that file."""
    tree = ast.parse((TESTS / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name: str) -> None:
    """It is in the exposition."""
    samples = {sample.name for family in everything() for sample in family.samples}
    assert name in samples


def test_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """Some command takes it."""
    for words in (["--help"], *([command, "--help"] for command in COMMANDS)):
        with pytest.raises(SystemExit):
            cli.main(words)
    known = set(re.findall(r"--[a-z][a-z.-]*[a-z]", capsys.readouterr().out))
    assert set(FLAGS) <= known
