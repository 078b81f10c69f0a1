# SPDX-License-Identifier: Apache-2.0
"""Fetches kernels from Debian's archive, by apt with a state of its own: the host keeps its."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kernels import image
from tests.kernels.kernel import CACHE, every
from tests.network import run

if TYPE_CHECKING:
    from tests.kernels.kernel import Kernel

KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR: Final = "http://deb.debian.org/debian"
CONFIGURATION: Final = """\
Dir::State "{place}/state";
Dir::State::status "{place}/status";
Dir::Cache "{place}/cache";
Dir::Etc::sourcelist "{place}/sources.list";
Dir::Etc::sourceparts "{place}/none";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false"; # suites past their support keep their last index
"""


class Archive:
    """One suite of Debian's archive."""

    def __init__(self, suite: str) -> None:
        """Fetch its index."""
        self.suite = suite
        self._place = CACHE / "apt" / suite
        for part in ("state/lists/partial", "cache/archives/partial", "none"):
            (self._place / part).mkdir(parents=True, exist_ok=True)
        (self._place / "status").touch()
        mirror = _mirror() + ("-security" if suite.endswith("-security") else "")
        source = f"deb [arch=amd64 signed-by={KEYS}] {mirror} {suite} main\n"
        (self._place / "sources.list").write_text(source)
        (self._place / "apt.conf").write_text(CONFIGURATION.format(place=self._place))
        self._run("apt-get", "--quiet", "update")

    def _run(self, *command: str, at: Path | None = None) -> str:
        known = {**os.environ, "APT_CONFIG": str(self._place / "apt.conf")}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=known, cwd=at
        )
        if done.returncode:
            message = f"{' '.join(command)} ({self.suite}): {done.stderr.strip()}"
            raise RuntimeError(message)
        return done.stdout

    def newest(self, series: str) -> str:
        """Return the newest release of a series, as 6.1 has 6.1.0-56-cloud-amd64."""
        prefix = "linux-image-"
        names = self._run("apt-cache", "pkgnames", prefix + series).split()
        found = newest(series, [name.removeprefix(prefix) for name in names])
        if not found:
            message = f"kernel {series}: none in {self.suite}; look where it went, in kernels.toml"
            raise RuntimeError(message)
        return found

    def download(self, package: str, place: Path) -> None:
        """Download a package into a directory."""
        self._run("apt-get", "--quiet", "download", package, at=place)

    def fetch(self, release: str, place: Path, *, headers: bool) -> None:
        """Unpack the packages of a release, with its headers or without."""
        # From Linux 6.19 on the image is in parts.
        parts = [f"linux-{part}-{release}" for part in ("binary", "modules", "base")]
        names = set(self._run("apt-cache", "pkgnames", "linux-").split())
        wanted = parts if parts[1] in names else [f"linux-image-{release}"]
        if headers:
            wanted += self._headers(release)
        with tempfile.TemporaryDirectory() as folder:
            self._run("apt-get", "--quiet", "download", *wanted, at=Path(folder))
            for package in Path(folder).glob("*.deb"):
                run("dpkg-deb", "--extract", str(package), str(place))

    def _headers(self, release: str) -> list[str]:
        """Return the packages that hold the headers of a release."""
        own = f"linux-headers-{release}"
        needed = self._run("apt-cache", "depends", own).split()
        return [own, *(name for name in needed if re.fullmatch(r"linux-headers-.*-common", name))]


def newest(series: str, releases: list[str]) -> str:
    """Return the newest cloud kernel of a series; empty: none."""
    wanted = re.compile(re.escape(series) + r"\.\d[^/]*-cloud-amd64")
    found = [release for release in releases if wanted.fullmatch(release)]
    return max(found, key=lambda name: [int(n) for n in re.findall(r"\d+", name)], default="")


def _mirror() -> str:
    """Return the mirror that this host uses."""
    found = run("apt-get", "indextargets", "--format", "$(REPO_URI)").split()
    ours = (uri.rstrip("/") for uri in found if uri.rstrip("/").endswith("/debian"))
    return next(ours, MIRROR)


def ensure(kernel: Kernel) -> None:
    """Fetch a kernel, unless it is there; with headers if bcc is to be tried on it."""
    headers = any(row.loader == "bcc" for row in every() if row.series == kernel.series)
    if kernel.version and (not headers or kernel.headers.exists()):
        return
    archive = Archive(kernel.suite)
    release = archive.newest(kernel.series)
    shutil.rmtree(kernel.place, ignore_errors=True)
    kernel.place.mkdir(parents=True)
    archive.fetch(release, kernel.place, headers=headers)
    library = kernel.place / "lib"
    if not library.exists():
        library.symlink_to("usr/lib")
    for name, pattern in (("build", release), ("source", "*-common")) if headers else ():
        (found,) = kernel.headers.glob(f"linux-headers-{pattern}")
        link = library / "modules" / release / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path("/usr/src", found.name))
    run("depmod", "--basedir", str(kernel.place), release)
    compressed = [
        *(kernel.place / "boot").glob("vmlinuz-*"),
        *(library / "modules" / release).glob("vmlinuz"),
    ]
    kernel.image.write_bytes(image.unpack(compressed[0].read_bytes()))
    (kernel.place / "version").write_text(f"{release}\n")
