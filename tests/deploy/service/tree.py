# SPDX-License-Identifier: Apache-2.0
"""The files of a Debian with systemd and what the package depends on; made once, then kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.network import run

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT: Final = Path(__file__).parents[3]
CACHE: Final = CHECKOUT / ".cache" / "deploy"
SUITE: Final = os.environ.get("SUITE", "bookworm")
MIRROR: Final = os.environ.get("MIRROR", "http://deb.debian.org/debian")
PACKAGES: Final = (
    *("systemd-sysv", "iproute2", "nftables", "procps"),
    # What the package depends on, so that it can be installed without a network.
    *("adduser", "libbpf1", "libstdc++6", "python3", "python3-bcrypt", "python3-h11"),
    *("python3-linkify-it", "python3-mdurl", "python3-typing-extensions", "python3-yaml"),
)


def kept(name: str, content: bytes, make: Callable[[Path], None]) -> Path:
    """Return what was made of this content, or make it, whole or not at all."""
    place = CACHE / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            fresh = Path(folder, "fresh")
            make(fresh)
            fresh.rename(place)
    return place


def tree() -> Path:
    """Return the directory that they are in."""
    return kept("tree", repr((SUITE, MIRROR, PACKAGES)).encode(), _make)


def _make(place: Path) -> None:
    included = f"--include={','.join(PACKAGES)}"
    run(
        "mmdebstrap", "--variant=minbase", "--format=directory", included, SUITE, str(place), MIRROR
    )
