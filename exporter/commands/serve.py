# SPDX-License-Identifier: Apache-2.0
"""`serve`: count, and answer Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter import arguments, service

if TYPE_CHECKING:
    import argparse


def run(parsed: argparse.Namespace) -> int:
    """Serve until told to end."""
    service.serve(arguments.chosen(parsed))
    return 0
