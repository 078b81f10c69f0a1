# SPDX-License-Identifier: Apache-2.0
"""The table in docs/accuracy.md is the suite's, and whatever it names is there."""

from __future__ import annotations

import importlib

import pytest

from tests.kernel import scenarios


def test_page() -> None:
    """The page holds the table as it is: python -m tests.kernel.scenarios writes it."""
    _, _, rest = scenarios.PAGE.read_text().partition(scenarios.BEGIN)
    shown, found, _ = rest.partition(scenarios.END)
    assert found
    assert shown == scenarios.table()


@pytest.mark.parametrize("row", scenarios.ELSEWHERE, ids=lambda row: row.test)
def test_elsewhere(row: scenarios.Elsewhere) -> None:
    """A row that another test holds names one that exists."""
    module, _, function = row.test.partition(".")
    assert callable(getattr(importlib.import_module(f"tests.kernel.{module}"), function))
