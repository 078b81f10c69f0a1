# SPDX-License-Identifier: Apache-2.0
"""A kernel of the list: where it comes from, and where it is once it has been fetched."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

CHECKOUT: Final = Path(__file__).parents[2]
LIST: Final = Path(__file__).with_name("kernels.toml")
CACHE: Final = Path(os.environ.get("NETATOP_KERNELS", CHECKOUT / ".cache" / "kernels"))
"""Holds a directory for each kernel; another one saves fetching them again."""


class Kernel(NamedTuple):
    """A row of the list."""

    series: str
    suite: str
    refused: str = ""
    """What the loader's message must name, where it can't work; empty: it must work."""
    loader: str = "core"
    lockdown: str = ""
    """What it is booted with (kernel_lockdown(7))."""

    @property
    def label(self) -> str:
        """Return what the row is called: the series, and what is not as in its first row."""
        loader = "" if self.loader == "core" else self.loader
        return "-".join(filter(None, (self.series, loader, self.lockdown)))

    @property
    def place(self) -> Path:
        """Return its directory in the cache."""
        return CACHE / self.series

    @property
    def image(self) -> Path:
        """Return the uncompressed kernel."""
        return self.place / "vmlinux"

    @property
    def version(self) -> str:
        """Return its release, as uname(2) gives it; empty if it was not fetched yet."""
        file = self.place / "version"
        return file.read_text().strip() if file.exists() and self.image.exists() else ""

    @property
    def modules(self) -> Path:
        """Return the directory of its modules."""
        return self.place / "lib" / "modules" / self.version

    @property
    def headers(self) -> Path:
        """Return the directory of its headers: what is /usr/src where it runs."""
        return self.place / "usr" / "src"


def every() -> tuple[Kernel, ...]:
    """Return the list, oldest first, each with its loaders."""
    rows = tomllib.loads(LIST.read_text())["kernel"]
    return tuple(
        Kernel(loader=loader, **row) for row in rows for loader in row.pop("loaders", ("core",))
    )


def named(labels: Iterable[str]) -> tuple[Kernel, ...]:
    """Return those with these labels, or all if there are none. Raises ValueError."""
    known = {kernel.label: kernel for kernel in every()}
    wanted = tuple(labels) or tuple(known)
    if unknown := [label for label in wanted if label not in known]:
        message = f"kernel {unknown[0]}: not in {LIST.name}; accepted are {', '.join(known)}"
        raise ValueError(message)
    return tuple(known[label] for label in wanted)
