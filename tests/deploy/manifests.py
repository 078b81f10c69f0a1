# SPDX-License-Identifier: Apache-2.0
"""Renders what deploy/ has for Kubernetes, by kustomize and by Helm itself; no cluster is asked."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.kernels.archive import Archive
from tests.network import run

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parents[2]
KUSTOMIZE: Final = ROOT / "deploy" / "kubernetes"
CHART: Final = ROOT / "deploy" / "helm" / "netatop-exporter"
CACHE: Final = ROOT / ".cache" / "kustomize"
SUITE: Final = "trixie"
"""Debian has kustomize since then; it needs nothing but a C library as old as bookworm's."""
NAME: Final = "netatop-exporter"

Objects = dict[tuple[str, str], dict[str, Any]]
"""By kind and name."""


def by_name(text: str) -> Objects:
    """Parse a stream of objects; two of a kind and name are a mistake."""
    found = [one for one in yaml.safe_load_all(text) if one]
    named = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(named) == len(found), "objects twice"
    return named


def kustomize(folder: str) -> Objects:
    """Build a kustomization."""
    return by_name(_built(folder))


@functools.cache
def _built(folder: str) -> str:
    return run(*_program(), str(KUSTOMIZE / folder))


def _program() -> tuple[str, ...]:
    """Return what builds: kustomize or kubectl, as they are here, else the one in Debian."""
    if shutil.which("kustomize"):
        return ("kustomize", "build")
    if shutil.which("kubectl"):
        return ("kubectl", "kustomize")
    program = CACHE / "usr" / "bin" / "kustomize"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            Archive(SUITE).download("kustomize", Path(folder))
            (package,) = Path(folder).glob("*.deb")
            run("dpkg-deb", "--extract", str(package), str(CACHE))
    return (str(program), "build")


def pod(objects: Objects) -> dict[str, Any]:
    """Return the template of the pods."""
    found: dict[str, Any] = objects["DaemonSet", NAME]["spec"]["template"]["spec"]
    return found


def helm(values: Mapping[str, Any] | None = None) -> Objects:
    """Render the chart, by Helm's own library."""
    import helm_python  # noqa: PLC0415 244 MB, for those who need it

    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(dict(values or {}))
        files = chart.render(dict(values or {}), name=NAME, namespace=NAME)
    texts = [text for file, text in files.items() if file.endswith((".yaml", ".yml"))]
    return by_name("\n---\n".join(texts))
