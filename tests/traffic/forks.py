# SPDX-License-Identifier: Apache-2.0
"""Processes by the ten thousand, by forks.c, and what each of them does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_suffix(".c")


class Run(NamedTuple):
    """How many processes, and which ids they share."""

    forks: int
    span: int
    first: int


def compile_in(folder: Path, name: str, source: Path = SOURCE) -> Path:
    """Compile it under a name, which is what its processes are called."""
    if shutil.which("clang") is None:
        message = "needs clang: apt-get install clang"
        raise RuntimeError(message)
    built = folder / name
    subprocess.run(["clang", "-O2", "-Wall", "-Werror", source, "-o", built], check=True)
    return built


def start(program: Path, run: Run, address: str, port: int) -> subprocess.Popen[bytes]:
    """Start it; its error output is empty if all goes well."""
    return subprocess.Popen(
        [program, *map(str, run), address, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def sent(number: int, headers: int) -> tuple[int, int]:
    """Return the packets and bytes that a process sends, with so many bytes of headers each."""
    packets = 1 + number % 3
    return packets, packets * (headers + 23 + number % 1009)


def status(number: int) -> int:
    """Return the exit status of a process."""
    return number % 128
