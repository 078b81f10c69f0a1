# SPDX-License-Identifier: Apache-2.0
"""`once`: count for some seconds and print what a scrape would be told."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from exporter import arguments, reload, service
from exporter.kernel.choice import open_tracer

if TYPE_CHECKING:
    import argparse


def run(parsed: argparse.Namespace) -> int:
    """Print one exposition."""
    chosen = arguments.chosen(parsed)
    settings = reload.settings(chosen)
    with open_tracer(service.options(chosen, settings), chosen.loader) as tracer:
        collector = service.make_collector(tracer, settings)
        time.sleep(parsed.seconds)
        rendering = collector.expose()
        sys.stdout.buffer.write(rendering.body if rendering else b"")
        sys.stdout.buffer.flush()
    return 0
