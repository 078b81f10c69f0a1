# SPDX-License-Identifier: Apache-2.0
"""Events in the lives of processes: each is told once, also by two programs at one tracepoint."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from exporter.kernel.watcher import Filter, Watcher
from tests.network import run

pytestmark = pytest.mark.kernel

CHILDREN = 23


@pytest.mark.parametrize("spares", [False, True], ids=["alone", "spares"])
def test_once(spares: bool) -> None:
    """23 children that call exec and end: 23 forks, 23 execs, 23 exits."""
    with Watcher(Filter(pid=os.getpid(), tree=True, spares=spares)) as watcher:
        for _ in range(CHILDREN):
            run("true")
        found = Counter(life.event for life in watcher.poll(1))
        assert watcher.missed == 0
    assert found == dict.fromkeys(("fork", "exec", "exit"), CHILDREN)
