# SPDX-License-Identifier: Apache-2.0
"""The tree in the docstring is the tree."""

from __future__ import annotations

import inspect
import re

from exporter import errors


def test_every_error_is_drawn() -> None:
    """A new one without a line in the docstring is caught here."""
    drawn = set(re.findall(r"\w+Error", errors.__doc__ or ""))
    there = {
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, Exception)
    }
    assert drawn == there


def test_exit_statuses() -> None:
    """2 for wrong usage, 1 for everything else."""
    assert errors.ConfigError("x").exit_status == 2
    assert errors.KernelError("x").exit_status == 1
