# SPDX-License-Identifier: Apache-2.0
"""`check-config`: whether a configuration file is good, and what one may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter import arguments
from exporter.config import document
from exporter.errors import ConfigError

if TYPE_CHECKING:
    import argparse


def run(parsed: argparse.Namespace) -> int:
    """Read a configuration file, or print the schema."""
    if parsed.schema:
        print(document.schema())
        return 0
    path = arguments.chosen(parsed).config_file
    if not path:
        message = "check-config: --config.file is missing; name the file that is to be checked"
        raise ConfigError(message)
    found = document.load(path)
    rules = len(found.groups)
    print(f"{path}: good; {rules} {'rule' if rules == 1 else 'rules'} for groups")
    return 0
