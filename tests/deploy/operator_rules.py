# SPDX-License-Identifier: Apache-2.0
"""Writes the rules of deploy/prometheus as the Prometheus operator takes them: `make rules`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = tuple(
    ROOT / "deploy" / "prometheus" / f"netatop.{kind}.yml" for kind in ("rules", "alerts")
)
KUSTOMIZE: Final = ROOT / "deploy/kubernetes/components/prometheus-operator/prometheusrule.yaml"
HELM: Final = ROOT / "deploy/helm/netatop-exporter/files/rules.yaml"
SAID: Final = "# Written by `make rules` from deploy/prometheus; not to be edited.\n"


def groups() -> list[dict[str, Any]]:
    """Return all that there are."""
    return [group for source in SOURCES for group in yaml.safe_load(source.read_text())["groups"]]


def _text(content: dict[str, Any]) -> str:
    return SAID + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def write() -> None:
    """Write both."""
    spec = {"groups": groups()}
    found = yaml.safe_load(KUSTOMIZE.read_text())
    KUSTOMIZE.write_text(_text(found | {"spec": spec}))
    HELM.write_text(_text(spec))


if __name__ == "__main__":
    write()
