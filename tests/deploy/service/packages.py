# SPDX-License-Identifier: Apache-2.0
"""The Debian package of this checkout, and one that came before it."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from tests.deploy.service.tree import CHECKOUT, kept
from tests.earlier import make_earlier
from tests.network import run

EARLIER: Final = "0.0.1"
SOURCES: Final = (
    *("bpf", "docs", "exporter", "CHANGELOG.md", "README.md"),
    *("deploy/debian", "deploy/man", "deploy/systemd", "deploy/netatop-exporter.yml"),
)
"""What a package is made of."""
QUICKLY: Final = ("DPKG_DEB_COMPRESSOR_TYPE=gzip", "DPKG_DEB_COMPRESSOR_LEVEL=1")
MADE: Final = re.compile(r"\.(o|pyc|arch)$|/\.output/")


def package() -> Path:
    """Return the package, as `make deb` makes it."""
    files = sorted(f for name in SOURCES for f in _files(CHECKOUT / name))
    content = b"".join(b"%s %s" % (bytes(f), f.read_bytes()) for f in files)

    def make(place: Path) -> None:
        place.mkdir()
        run("env", *QUICKLY, str(CHECKOUT / "deploy/debian/build"), str(place))

    return _only(kept("package", content, make))


def _files(place: Path) -> list[Path]:
    """Return those below it that somebody wrote."""
    if place.is_file():
        return [place]
    return [f for f in place.rglob("*") if f.is_file() and not MADE.search(str(f))]


def earlier() -> Path:
    """Return one of a lower version, whose tables in the kernel have other layouts."""
    later = package()

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run("dpkg-deb", "--raw-extract", str(later), f"{folder}/tree")
            made, installed = Path(folder, "made"), Path(folder, "tree/usr/lib/netatop-exporter")
            make_earlier(made)
            for file in ("kernel/netatop.bpf.o", "kernel/layouts.py", "model.py"):
                shutil.copy(made / "exporter" / file, installed / "exporter" / file)
            control = Path(folder, "tree/DEBIAN/control")
            text = re.sub(
                "^Version: .*$", f"Version: {EARLIER}", control.read_text(), flags=re.MULTILINE
            )
            control.write_text(text)
            place.mkdir()
            words = ("--root-owner-group", "-Zgzip", "-z1", "--build")
            run("dpkg-deb", *words, f"{folder}/tree", str(place))

    header = (CHECKOUT / "tests/earlier.py").read_bytes()
    return _only(kept("earlier", bytes(later) + header, make))


def _only(place: Path) -> Path:
    [found] = place.glob("*.deb")
    return found
