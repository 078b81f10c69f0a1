# SPDX-License-Identifier: Apache-2.0
"""What a real Prometheus makes of a pod that is scraped as the PodMonitor says."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.deploy import manifests
from tests.deploy.manifests import NAME
from tests.e2e import program, prometheus, workers
from tests.e2e.test_groups import FORMS, kubelet, tree
from tests.kernel.lab import cgroup
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kernel

__all__ = ["kubelet"]

SIZE: Final = 47
JOB: Final = f"podMonitor/{NAME}"
TARGET: Final = {
    "__meta_kubernetes_pod_node_name": "node-7",
    "__meta_kubernetes_pod_name": "netatop-exporter-x2x4z",
    "namespace": NAME,
    "container": NAME,
    "pod": "netatop-exporter-x2x4z",
    "endpoint": "metrics",
}
"""What the operator gives a target of a PodMonitor before the monitor's own relabelling."""


def snake(monitor: Any) -> Any:
    """Return a monitor's part with the names that Prometheus has."""
    if isinstance(monitor, dict):
        return {
            re.sub("[A-Z]", lambda upper: f"_{upper[0].lower()}", name): snake(value)
            for name, value in monitor.items()
        }
    return [*map(snake, monitor)] if isinstance(monitor, list) else monitor


def job(target: str) -> str:
    """Return what the operator makes of the PodMonitor, for one target: one job more."""
    spec = manifests.kustomize("overlays/prometheus-operator")["PodMonitor", NAME]["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    part = {
        "job_name": JOB,
        "honor_labels": endpoint["honorLabels"],
        "metrics_path": endpoint["path"],
        "sample_limit": spec["sampleLimit"],
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "relabel_configs": snake(endpoint["relabelings"]),
        "static_configs": [{"targets": [target], "labels": TARGET}],
    }
    return textwrap.indent(yaml.dump([part]), "  ")


def test_labels(tmp_path: Path, kubelet: str) -> None:
    """Labels of a container are its own, also where it has none; the target is its node."""
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(kubelet)
    form, name = FORMS["cgroupfs driver"], workers.new_name()
    with (
        program.serve("--config.file", str(file)) as exporter,
        prometheus.prometheus(exporter.address, tmp_path, job(exporter.address)) as server,
        cgroup() as root,
        tree(root, form.path) as place,
        Process(workers.talker, name, SIZE, cgroup=place) as contained,
        Process(workers.talker, name, SIZE) as free,
    ):
        for talker, datagrams in ((contained, 23), (free, 29)):
            talker.hear()
            talker.tell(datagrams)
            talker.hear()
        metric = "netatop_group_transmit_packets_total"
        own = (
            f'{metric}{{job="{JOB}",pod="{form.pod}",namespace="{form.namespace}",protocol="udp"}}'
        )
        wait_until(lambda: server.value(own) == 23, "the pod's packets are there")
        (found,) = server.query(own)
        assert found["metric"]["container"] == form.container
        assert {found["metric"][label] for label in ("node", "instance")} == {"node-7"}
        (found,) = server.query(f'{metric}{{job="{JOB}",group="{name}",protocol="udp"}}')
        assert found["value"][1] == "29"
        assert not {"pod", "container", "namespace"} & found["metric"].keys()
        (up,) = server.query(f'up{{job="{JOB}"}}')
        assert up["value"][1] == "1"
        assert not {"pod", "container"} & up["metric"].keys()
        (whole,) = server.query(f'netatop_transmit_packets_total{{job="{JOB}",protocol="udp"}}')
        assert whole["metric"]["namespace"] == NAME
        for talker in (contained, free):
            talker.tell(0)
            talker.wait()
