# SPDX-License-Identifier: Apache-2.0
"""`detach`: remove what `serve --pin-path` has left in the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter import arguments
from exporter.errors import ConfigError
from exporter.kernel.pins import Pins

if TYPE_CHECKING:
    import argparse


def run(parsed: argparse.Namespace) -> int:
    """Remove what is pinned."""
    path = arguments.chosen(parsed).pin_path
    if path is None:
        message = "detach: --pin-path is missing; name the directory that 'serve' was given"
        raise ConfigError(message)
    if not Path(path).exists():
        print(f"{path}: nothing is pinned there")
        return 0
    with Pins(path) as pins:
        pins.remove()
        Path(path).rmdir()
    print(f"{path}: removed")
    return 0
