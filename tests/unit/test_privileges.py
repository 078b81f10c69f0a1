# SPDX-License-Identifier: Apache-2.0
"""docs/privileges.md: tests that are there hold every row."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from exporter.kernel.capabilities import Capability

TESTS: Final = Path(__file__).parents[1] / "e2e"
TEXT: Final = (TESTS.parents[1] / "docs" / "privileges.md").read_text()
ROWS: Final = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| feature |"))
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_row(row: list[str]) -> None:
    """What it takes at the start is said, and the tests in the last cell are there."""
    _, at_start, _, _, named = row
    assert at_start
    found = re.findall(r"`(?:(\w+\.py)::)?(\w+)`", named)
    assert found
    for file, name in found:
        tree = ast.parse((TESTS / (file or "test_privileges.py")).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_numbers() -> None:
    """Those of capabilities(7)."""
    header = Path("/usr/include/linux/capability.h").read_text()
    numbers = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", header, re.MULTILINE))
    assert {one.name: str(one.value) for one in Capability}.items() <= numbers.items()
