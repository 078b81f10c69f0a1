# SPDX-License-Identifier: Apache-2.0
"""What deploy/ has for Kubernetes is valid, and the same by kustomize and by Helm."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloudcoil.models.prometheus_operator.v1 as operator
import helm_python
import kubernetes_validate
import pydantic
import pytest
import yaml

from exporter import __version__, arguments
from exporter.config import document
from exporter.config.flags import DEFAULT_PORT
from tests.deploy import manifests, operator_rules
from tests.deploy.manifests import CHART, KUSTOMIZE, NAME, ROOT
from tests.network import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.deploy.manifests import Objects

VERSIONS: Final = ("1.25", "1.29", "1.37")
"""Of Kubernetes: the oldest that the chart takes, one between, and the newest that is known."""
OPERATOR: Final = {
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
}
SAME: Final[dict[str, dict[str, Any]]] = {
    "base": {},
    "overlays/plain": {
        "podAnnotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "10048"}
    },
    "overlays/prometheus-operator": OPERATOR,
    "overlays/tls": {"web": {"secretName": "netatop-exporter-web"}},
    "overlays/complete": {
        **OPERATOR,
        "pins": {"enabled": True},
        "namespaces": {"enabled": True},
    },
}
"""Each kustomization, and what makes the chart the same."""
OF_HELM: Final = {
    "app.kubernetes.io/version": __version__,
    "app.kubernetes.io/managed-by": "Helm",
    "helm.sh/chart": f"{NAME}-{__version__}",
}
"""Labels that only Helm's objects have."""
HASHED: Final = re.compile(rf"{NAME}-[a-z0-9]{{10}}")


def configured(objects: Objects) -> dict[str, Any]:
    """Return the configuration."""
    (found,) = (one for (kind, _), one in objects.items() if kind == "ConfigMap")
    return found


def comparable(objects: Objects) -> Objects:
    """Return objects without what kustomize and Helm must name differently: the hash."""
    hashed = configured(objects)["metadata"]["name"]
    assert HASHED.fullmatch(hashed)
    return manifests.by_name(yaml.dump_all(objects.values()).replace(hashed, NAME))


@pytest.mark.parametrize("folder", SAME)
def test_chart_is_kustomization(folder: str) -> None:
    """Object by object, value by value."""
    ours, theirs = comparable(manifests.kustomize(folder)), manifests.helm(SAME[folder])
    for one in theirs.values():
        labels = one["metadata"]["labels"]
        for name, value in OF_HELM.items():
            assert labels.pop(name) == value
    theirs = comparable(theirs)
    del ours["Namespace", NAME]  # who installs a chart has made it
    assert ours.keys() == theirs.keys()
    for key, one in ours.items():
        assert one == theirs[key], key


def test_a_change_of_configuration_is_a_rollout() -> None:
    """Another file, another name, and the pods mount that one."""
    names = set()
    for config in ("", "limits: {groups: 23}\n"):
        objects = manifests.helm({"config": config})
        name = configured(objects)["metadata"]["name"]
        volumes = {one["name"]: one for one in manifests.pod(objects)["volumes"]}
        assert volumes["config"]["configMap"]["name"] == name
        names.add(name)
    assert len(names) == 2


# Valid


def check(one: dict[str, Any], version: str) -> None:
    """Hold an object against Kubernetes' schema, or the operator's; raises what they raise."""
    if one["apiVersion"] == "monitoring.coreos.com/v1":
        model = getattr(operator, one["kind"])
        model.model_validate_json(json.dumps(one), strict=True, extra="forbid")
    else:
        kubernetes_validate.validate(one, version, strict=True)


def check_all(objects: Objects, version: str) -> None:
    """Hold all of them."""
    for one in objects.values():
        check(one, version)


@pytest.mark.parametrize(
    ("folder", "version"),
    [
        *((folder, VERSIONS[-1]) for folder in SAME),
        *(("overlays/complete", version) for version in VERSIONS[:-1]),
    ],
)
def test_valid(folder: str, version: str) -> None:
    """Every object of every kustomization, and so of the chart."""
    check_all(manifests.kustomize(folder), version)


def _container(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = manifests.pod(objects)["containers"][0]
    return found


BROKEN: Final[dict[str, Callable[[Objects], Any]]] = {
    "a name that nobody knows": lambda objects: _container(objects)["securityContext"].update(
        readOnlyRootFileSystem=True
    ),
    "a number as a word": lambda objects: _container(objects)["ports"][0].update(
        containerPort="10048"
    ),
    "what must be there": lambda objects: objects["DaemonSet", NAME]["spec"].pop("selector"),
    "a policy of numbers": lambda objects: objects["NetworkPolicy", NAME]["spec"].update(
        policyTypes=[1]
    ),
    "a monitor's name that nobody knows": lambda objects: objects["PodMonitor", NAME]["spec"][
        "podMetricsEndpoints"
    ][0].update(honourLabels=True),
    "a time that is none": lambda objects: objects["PodMonitor", NAME]["spec"][
        "podMetricsEndpoints"
    ][0].update(interval="15 s"),
    "a rule without an expression": lambda objects: objects["PrometheusRule", NAME]["spec"][
        "groups"
    ][0]["rules"][0].pop("expr"),
}


@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN)
def test_validation_can_fail(breaks: Callable[[Objects], Any]) -> None:
    """Each mistake is found."""
    objects = copy.deepcopy(manifests.kustomize("overlays/complete"))
    breaks(objects)
    with pytest.raises((kubernetes_validate.ValidationError, pydantic.ValidationError)):
        check_all(objects, VERSIONS[-1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image": {"repository": "a", "tags": "b"}}, "tags"),
        ({"pins": {"enabled": "yes"}}, "enabled"),
        ({"extraArgs": ["collector.threads"]}, "extraArgs"),
        ({"tolerationSeconds": 3}, "tolerationSeconds"),
        ({"podMonitor": {"interval": "15"}}, "interval"),
    ],
)
def test_values_are_checked(values: dict[str, Any], said: str) -> None:
    """What the chart does not know is refused by its name."""
    with pytest.raises(helm_python.HelmError, match=said):
        manifests.helm(values)


def test_a_monitor_of_tls() -> None:
    """What Prometheus is to be told of it is added to the endpoint, and is valid."""
    more = {
        "scheme": "https",
        "tlsConfig": {"ca": {"secret": {"name": "prometheus", "key": "ca.crt"}}},
        "basicAuth": {
            "username": {"name": "prometheus", "key": "user"},
            "password": {"name": "prometheus", "key": "password"},
        },
    }
    objects = manifests.helm({"podMonitor": {"enabled": True, "endpoint": more}})
    check_all(objects, VERSIONS[-1])
    (endpoint,) = objects["PodMonitor", NAME]["spec"]["podMetricsEndpoints"]
    assert more.items() <= endpoint.items()
    assert endpoint["honorLabels"]


def test_chart_is_sound() -> None:
    """Helm's own lint has nothing to say but that there is no picture."""
    found = helm_python.lint(str(CHART))
    assert not found["errors"]
    assert [one["error"] for one in found["messages"]] == ["icon is recommended"]


def test_versions_are_one() -> None:
    """The chart's, the image's and the program's."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    for objects in (manifests.kustomize("base"), manifests.helm()):
        assert _container(objects)["image"] == f"{NAME}:{__version__}"


# What it says is what the program takes


@pytest.mark.parametrize("folder", SAME)
def test_flags(folder: str) -> None:
    """The program knows them, and listens where the probes and the monitor ask."""
    objects = manifests.kustomize(folder)
    container = _container(objects)
    chosen = arguments.chosen(arguments.parse(container["args"]))
    assert [*map(str, chosen.listen_addresses)] == [f":{DEFAULT_PORT}"]
    (port,) = container["ports"]
    assert port["containerPort"] == DEFAULT_PORT
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert {one["port"] for one in probes} == {port["name"]}
    assert [one["path"] for one in probes] == ["/readyz", "/healthz", "/readyz"]
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert chosen.config_file
    assert str(Path(chosen.config_file).parent) in mounts
    assert not chosen.pin_path or str(Path(chosen.pin_path).parent) in mounts


def test_configuration(tmp_path: Path) -> None:
    """The program reads it, and looks for names of pods where they are mounted."""
    objects = manifests.kustomize("base")
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(configured(objects)["data"][file.name])
    found = document.load(str(file))
    mounts = {one["mountPath"] for one in _container(objects)["volumeMounts"]}
    assert {found.kubernetes.container_logs, found.kubernetes.pod_logs} <= mounts


def test_least_privilege() -> None:
    """What nobody needs is not there, whatever overlay is taken."""
    for folder in SAME:
        pod = manifests.pod(manifests.kustomize(folder))
        context = pod["containers"][0]["securityContext"]
        wide = ["SYS_ADMIN", "SYS_PTRACE"] if folder.endswith("complete") else []
        added = ["BPF", "PERFMON", "NET_ADMIN", "DAC_READ_SEARCH", *wide]
        assert context == {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": added},
        }
        assert (pod["hostPID"], pod["hostNetwork"]) == (True, False)
        assert pod["automountServiceAccountToken"] is False
        writable = {
            one["mountPath"]
            for one in pod["containers"][0]["volumeMounts"]
            if not one.get("readOnly")
        }
        assert writable == ({"/host/sys/fs/bpf"} if folder.endswith("complete") else set())
        assert "cpu" not in pod["containers"][0]["resources"]["limits"]


# What Prometheus makes of it


def test_rules(tmp_path: Path) -> None:
    """Prometheus takes them, and they are those of deploy/prometheus."""
    spec = manifests.kustomize("overlays/prometheus-operator")["PrometheusRule", NAME]["spec"]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.dump(spec))
    run("promtool", "check", "rules", str(file))
    assert spec["groups"] == operator_rules.groups(), "stale: make rules"


def test_documented_scrape_configuration(tmp_path: Path) -> None:
    """Prometheus takes the one in the documentation, and it says what the PodMonitor says.

    Debian's Prometheus does not know Kubernetes: it is given a target in its place.
    """
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"^```yaml\n(scrape_configs:.*?)^```", text, re.DOTALL | re.MULTILINE)
    (job,) = yaml.safe_load(block)["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": [NAME]}}]
    file = tmp_path / "prometheus.yml"
    job["static_configs"] = [{"targets": ["192.0.2.1:10048"]}]
    file.write_text(yaml.dump({"scrape_configs": [job]}))
    run("promtool", "check", "config", "--syntax-only", str(file))
    spec = manifests.kustomize("overlays/prometheus-operator")["PodMonitor", NAME]["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (job["honor_labels"], job["sample_limit"]) == (True, spec["sampleLimit"])
    replaced = [one for one in endpoint["relabelings"] if "targetLabel" in one]
    assert [(one["source_labels"], one["target_label"]) for one in job["relabel_configs"][1:]] == [
        (one["sourceLabels"], one["targetLabel"]) for one in replaced
    ]


def test_documented_overlay(tmp_path: Path) -> None:
    """The one in the documentation takes another image, the user's configuration, and pins."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"^```yaml\n(apiVersion: kust.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / NAME).symlink_to(ROOT)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(block)
    (mine / f"{NAME}.yml").write_text("limits: {groups: 23}\n")
    objects = manifests.kustomize(str(mine))
    check_all(objects, VERSIONS[-1])
    container = _container(objects)
    assert container["image"] == f"registry.example.org/{NAME}:{__version__}"
    assert "--pin-path=/host/sys/fs/bpf/netatop-exporter" in container["args"]
    found = configured(objects)
    assert found["data"] == {f"{NAME}.yml": "limits: {groups: 23}\n"}
    assert manifests.pod(objects)["volumes"][0]["configMap"]["name"] == found["metadata"]["name"]


def test_notes() -> None:
    """What Helm says in the end names this release's objects, and what is left of pins."""
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render({"pins": {"enabled": True}}, name="net", namespace="watch")
    notes = files[f"{NAME}/templates/NOTES.txt"]
    assert f"kubectl -n watch exec ds/net-{NAME} -- netatop-exporter status" in notes
    assert "detach --pin-path=/host/sys/fs/bpf/netatop-exporter" in notes
    objects = manifests.by_name(files[f"{NAME}/templates/daemonset.yaml"])
    assert ("DaemonSet", f"net-{NAME}") in objects


def test_every_folder_is_built() -> None:
    """No kustomization is forgotten here."""
    found = {
        str(one.parent.relative_to(KUSTOMIZE)) for one in KUSTOMIZE.rglob("kustomization.yaml")
    }
    assert {one for one in found if not one.startswith("components/")} == set(SAME)
