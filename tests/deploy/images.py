# SPDX-License-Identifier: Apache-2.0
"""Builds the image for real, by buildah on a base of Debian's own packages; no registry is asked.

The base, the layers and what came of them are kept in .cache/images: what has not changed is not
built again. What buildah mounts, it mounts where nobody else sees it, and where it ends with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.network import run

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "images"
BASE: Final = "localhost/debian:bookworm-slim"
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""Of the host: whoever leads it to the package index, it trusts."""
INSIDE: Final = "/run/certificates.crt"
SLIM: Final = ("doc", "info", "locale", "man")
"""What Debian's own slim image leaves out of /usr/share."""
ALONE: Final = ("unshare", "--mount", "--propagation=private")
BUILDAH: Final = (
    *("buildah", "--root", str(CACHE / "store"), "--runroot", str(CACHE / "run")),
    *("--log-level", "error"),
)
UNPACK: Final = """
set -eu
into=$1
shift
container=$("$@" from --pull-never "$IMAGE")
trap '"$@" rm "$container" >/dev/null' EXIT
cp --archive --reflink=auto "$("$@" mount "$container")" "$into"
"$@" umount "$container" >/dev/null
"""
"""In one mount namespace: of an image, a directory."""


class Image(NamedTuple):
    """What was built, as a container runtime would start it."""

    root: Path
    """Its files; nobody may write there."""
    settings: dict[str, Any]
    """As `docker inspect` shows them."""

    @property
    def entrypoint(self) -> list[str]:
        """Return the program."""
        found: list[str] = self.settings["Entrypoint"]
        return found

    @property
    def command(self) -> list[str]:
        """Return its arguments where none are given."""
        found: list[str] = self.settings["Cmd"]
        return found

    @property
    def environment(self) -> list[str]:
        """Return its variables."""
        found: list[str] = self.settings["Env"]
        return found


def buildah(*words: str) -> str:
    """Run buildah with a store of our own."""
    return run(*ALONE, *BUILDAH, *words).strip()


def built(target: str) -> Image:
    """Build a stage of the Dockerfile, or return what was built of the same sources."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = _base()
        if target == BASE:
            return _unpacked("base", base)
        _stage("build")  # has a name too, so that its layers are kept
        image = _unpacked(target, _stage(target))
        with contextlib.suppress(RuntimeError):  # another run of the tests stands on it
            buildah("rmi", "--prune")  # what earlier sources have left
    return image


def _base() -> str:
    """Make the base, unless it is there; return its id."""
    if known := buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        return known
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        # As Debian's image does, there and in what is built on it.
        quick = ("--dpkgopt=force-unsafe-io",)
        without = (f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in SLIM)
        archive = Path(folder, "base.tar")
        run(
            "mmdebstrap", "--quiet", "--variant=minbase", *quick, *without, "bookworm", str(archive)
        )
        Path(folder, "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        return buildah("build", "--quiet", "--isolation=chroot", f"--tag={BASE}", folder)


def _stage(name: str) -> str:
    """Build one; return its id."""
    more = [f"--build-arg={one}" for one in ("PIP_INDEX_URL",) if one in os.environ]
    if CERTIFICATES.exists():
        more += [f"--volume={CERTIFICATES}:{INSIDE}:ro", f"--build-arg=PIP_CERT={INSIDE}"]
    return buildah(
        *("build", "--quiet", "--layers", "--isolation=chroot", "--network=host"),
        *("--pull-never", "--format=docker", f"--build-arg=BASE={BASE}"),
        *(f"--target={name}", f"--tag=localhost/netatop-exporter:{name}", *more, str(ROOT)),
    ).splitlines()[-1]


def _unpacked(name: str, image: str) -> Image:
    """Return an image as a directory, which is made if it is another image's."""
    place = CACHE / name
    mark, root = place / "id", place / "root"
    if not mark.exists() or mark.read_text() != image:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        run(*ALONE, "env", f"IMAGE={image}", "sh", "-c", UNPACK, "sh", str(root), *BUILDAH)
        mark.write_text(image)
    settings = json.loads(buildah("inspect", "--type=image", image))["Docker"]["config"]
    return Image(root, settings)


def used(root: Path) -> int:
    """Return the bytes that the files below take."""
    return int(run("du", "--summarize", "--block-size=1", str(root)).split()[0])
