# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e import program, workers
from tests.e2e.attachments import all_there, left_since
from tests.workload import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.program import Program


@pytest.fixture
def name() -> str:
    """Return a command name that no other process has: a group of its own."""
    return workers.new_name()


@pytest.fixture(scope="session")
def exporter() -> Iterator[Program]:
    """Return an exporter with default settings that many tests share."""
    with program.serve() as shared:
        shared.is_ours = False
        yield shared


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Check that whatever a test started has left nothing attached or loaded."""
    before = all_there()
    yield
    wait_until(lambda: not left_since(before), "nothing is left attached or loaded")
