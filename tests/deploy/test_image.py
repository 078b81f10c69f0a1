# SPDX-License-Identifier: Apache-2.0
"""What is in the image, and what is not. That it counts is in test_pod.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from exporter import __version__
from tests.deploy import images
from tests.deploy.images import BASE, ROOT

if TYPE_CHECKING:
    from tests.deploy.images import Image

HADOLINT: Final = (str(Path(sys.executable).with_name("hadolint")), "--config")
PACKAGE: Final = "opt/netatop-exporter"
MOST: Final = 70 << 20
"""Bytes that the default image may add to its base."""
UNCHECKED: Final = 1
"""In the second word of a compiled file: it is taken as it is (PEP 552)."""

pytestmark = pytest.mark.kernel


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    """Run hadolint with our configuration."""
    return subprocess.run(
        (*HADOLINT, str(ROOT / ".hadolint.yaml"), str(file)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_lint(tmp_path: Path) -> None:
    """Nothing to complain of; and it does complain if there is."""
    done = lint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    broken = tmp_path / "Dockerfile"
    text = (ROOT / "Dockerfile").read_text()
    broken.write_text(text.replace(" --no-install-recommends", "").replace('["serve"', "[serve"))
    done = lint(broken)
    assert done.returncode
    assert {"DL3015", "DL3025"} <= set(done.stdout.split())


def found(root: Path, *patterns: str) -> list[str]:
    """Return what is there by one of these names, in any directory."""
    return sorted(str(one.relative_to(root)) for name in patterns for one in root.rglob(name))


def test_no_more_than_it_takes(image: Image) -> None:
    """No compiler, no pip, no headers, nothing that a package manager or a build has left."""
    programs = ("clang*", "gcc", "cc", "ld", "make", "llvm*", "libLLVM*", "libbcc*")
    for place in ("bin", "sbin", "lib", "local"):
        assert not found(image.root / "usr" / place, *programs)
    assert not found(image.root, "pip", "pip-*", "ensurepip", "*.whl", "*.egg-info")
    assert not found(image.root, "bpf_helpers.h", "vmlinux.h")
    for empty in ("var/lib/apt/lists", "var/cache/apt", "root/.cache", "src", "tmp"):
        place = image.root / empty
        assert not place.exists() or not list(place.iterdir()), empty


def test_size(image: Image) -> None:
    """The base apart: Python, libbpf, the program."""
    added = images.used(image.root) - images.used(images.built(BASE).root)
    assert 0 < added < MOST


def test_compiled(image: Image) -> None:
    """All bytecode is there, never to be held against its source: the root may be read-only."""
    sources = list((image.root / PACKAGE / "lib").rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert int.from_bytes(compiled.read_bytes()[4:8], "little") == UNCHECKED, source


def test_settings(image: Image) -> None:
    """What docker, podman and registries are told."""
    settings = image.settings
    assert settings["Entrypoint"] == ["netatop-exporter"]
    assert settings["Cmd"] == ["serve", "--web.listen-address=:10048"]
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Healthcheck"]["Test"] == ["CMD", "netatop-exporter", "status", "--ready"]
    assert list(settings["ExposedPorts"]) == ["10048/tcp"]
    assert not settings["User"]  # root: of others the kernel takes the capabilities away
    labels = {
        name.rpartition(".")[2]: text
        for name, text in settings["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert labels["title"] == "netatop-exporter"
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0 AND (MIT OR GPL-2.0-only)"
    assert labels["name"] == BASE


def test_with_a_compiler(bcc_image: Image, image: Image) -> None:
    """The other image has bcc, and is the same but for that."""
    assert found(bcc_image.root / "usr" / "lib", "libbcc.so.0")
    assert bcc_image.settings["Cmd"] == image.settings["Cmd"]
    assert bcc_image.settings["Healthcheck"] == image.settings["Healthcheck"]
