# SPDX-License-Identifier: Apache-2.0
"""What the measuring commands share: the load generator, and numbers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE: Final = Path(__file__).parent


def compile_c(name: str, directory: Path) -> Path:
    """Compile NAME.c into `directory`."""
    program = directory / name
    subprocess.run(["cc", "-O2", "-o", program, HERE / f"{name}.c"], check=True)
    return program


def compile_empty(directory: Path) -> Path:
    """Compile empty.bpf.c into `directory`."""
    made = directory / "empty.bpf.o"
    include = f"/usr/include/{os.uname().machine}-linux-gnu"  # Debian: asm/types.h
    flags = ["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-idirafter", include]
    subprocess.run(["clang", *flags, "-c", HERE / "empty.bpf.c", "-o", made], check=True)
    return made


class Moved(NamedTuple):
    """What a load moved."""

    per_second: float
    per_processor_second: float
    """Of both processes; softer on noise, since time given to others doesn't count."""


def run_load(program: Path, mode: str, seconds: float) -> Moved:
    """Run the generator."""
    done = subprocess.run(
        [program, mode, str(seconds)],
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
    )
    return Moved(*map(float, done.stdout.split()))


def print_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print columns: the first to the left, the others to the right."""
    table = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))
    print(flush=True)
