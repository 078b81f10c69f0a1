# SPDX-License-Identifier: Apache-2.0
"""A task's group: for now its command name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.model import TaskRecord


def by_command(task: TaskRecord) -> str:
    """Return the command name of a process."""
    return task.name
