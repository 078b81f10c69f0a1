# SPDX-License-Identifier: Apache-2.0
"""The image in a pod, as the manifests have it, by a real container runtime: it counts exactly."""

from __future__ import annotations

import contextlib
import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.deploy import containers, manifests
from tests.e2e import attachments, workers
from tests.e2e.certificates import Authority
from tests.e2e.exposition import Exposition
from tests.e2e.test_groups import FORMS, digits, grown, tree
from tests.kernel.lab import cgroup, cgroup_root
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.deploy.containers import Container
    from tests.deploy.images import Image
    from tests.e2e.certificates import Certificate
    from tests.network import Cable, Namespace

pytestmark = pytest.mark.kernel

SIZE: Final = 43
LABELS: Final = ("group", "container", "pod", "namespace")
SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


class Node:
    """A host with a kubelet, as far as a pod sees of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.volumes = {
            "config": place / "config",
            "cgroup": cgroup_root(),  # as /sys/fs/cgroup is where there is no version 1
            "container-logs": place / "containers",
            "pod-logs": place / "pods",
        }
        for name in ("config", "container-logs", "pod-logs"):
            self.volumes[name].mkdir()
        self.configure("base")

    def configure(self, folder: str) -> dict[str, Any]:
        """Take a kustomization's configuration; return its pod."""
        objects = manifests.kustomize(folder)
        (settings,) = (one for (kind, _), one in objects.items() if kind == "ConfigMap")
        for name, text in settings["data"].items():
            (self.volumes["config"] / name).write_text(text)
        return manifests.pod(objects)

    def run(self, *forms: str) -> None:
        """Write the logs of these containers."""
        for number, form in ((n, FORMS[form]) for n, form in enumerate(FORMS) if form in forms):
            name = f"{form.pod}_{form.namespace}_{form.container}-{digits(number)}.log"
            (self.volumes["container-logs"] / name).symlink_to("/nowhere")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return one with a kubelet that runs nothing yet."""
    return Node(tmp_path)


def scrape(container: Container) -> Exposition:
    """Scrape, and hold the law of conservation."""
    answer = container.ask()
    assert answer.status == 200, answer
    found = Exposition(answer.body.decode(), openmetrics=True)
    found.check_law()
    return found


@contextlib.contextmanager
def talking(place: Path, name: str, namespace: Namespace) -> Iterator[Callable[[int], None]]:
    """Run a process in a cgroup that sends itself as many datagrams as are asked for."""
    with Process(workers.talker, name, SIZE, cgroup=place, namespace=namespace) as talker:
        talker.hear()

        def say(datagrams: int) -> None:
            talker.tell(datagrams)
            assert talker.hear() == "done"

        yield say
        talker.tell(0)
        talker.wait()


@pytest.mark.parametrize(
    ("form", "hierarchy"),
    [
        ("containerd, systemd driver", None),
        ("cgroupfs driver", Path("/sys/fs/cgroup")),  # perhaps with version 1 beside it
    ],
)
def test_counts(
    image: Image, node: Node, network: Cable, form: str, hierarchy: Path | None
) -> None:
    """What a pod in another network name space sends, under its name, to the packet."""
    node.run(form)
    node.volumes["cgroup"] = hierarchy or node.volumes["cgroup"]
    pod, expected = node.configure("base"), FORMS[form]
    labels = {label: getattr(expected, label) for label in LABELS}
    wanted = containers.configuration(image, pod, node.volumes, network.left.namespace)
    with (
        containers.serve(wanted, node.place, network.left.namespace) as exporter,
        cgroup() as root,
        tree(root, expected.path) as place,
        talking(place, workers.new_name(), network.right.namespace) as say,
    ):
        before = scrape(exporter)
        say(23)
        after = scrape(exporter)
        assert grown(before, after, **labels) == workers.traffic(23, SIZE)
        (info,) = after.series("netatop_process_info", container=expected.container)
        assert dict(info)["cgroup"] == f"/{place.relative_to(root.parent)}"
        # What the exporter limits by itself is less than what Prometheus is told to refuse.
        monitor = manifests.kustomize("overlays/complete")["PodMonitor", manifests.NAME]
        shown = after.sum("netatop_series", kind="group") + after.sum(
            "netatop_series", kind="process"
        )
        others = len(after.samples) - shown
        limit = after.sum("netatop_series_limit", kind="group")
        limit += after.sum("netatop_series_limit", kind="process")
        assert limit + others < monitor["spec"]["sampleLimit"]


def test_privileges(image: Image, node: Node, network: Cable) -> None:
    """It goes on with one capability, writes nowhere, is asked from outside, and ends in time."""
    pod = node.configure("base")
    wanted = containers.configuration(image, pod, node.volumes, network.left.namespace)
    assert wanted["process"]["noNewPrivileges"]
    with containers.start(wanted, node.place, network.left.namespace) as exporter:
        wait_until(exporter.is_ready, "the container is ready")
        status = Path(f"/proc/{exporter.pid}/status").read_text().splitlines()
        fields = dict(line.split(":\t") for line in status if "\t" in line)
        read_search = f"{1 << 2:016x}"
        assert [fields[name] for name in SETS] == [
            *("0" * 16, read_search, read_search, fields["CapBnd"], "0" * 16),
            *("1", "2"),
        ]
        for file in ("/x", "/opt/x", "/host/sys/fs/cgroup/x", "/var/log/pods/x", "/proc/sys/x"):
            done = exporter.run("sh", "-c", f"> {file}")
            assert done.returncode, file
        assert exporter.run("netatop-exporter", "status", "--ready").returncode == 0
        far = containers.ask(network.right.namespace, network.left.ipv4, "/healthz")
        assert far.status == 200
        begun = time.monotonic()
        assert exporter.end() == 0
        assert time.monotonic() - begun < 2
        assert "stopping" in exporter.log


def test_health_check(image: Image, node: Node, network: Cable) -> None:
    """What docker runs says no as long as nobody answers, and why."""
    pod = copy.deepcopy(node.configure("base"))
    pod["containers"][0]["command"] = ["sleep", "61"]
    pod["containers"][0]["args"] = []
    wanted = containers.configuration(image, pod, node.volumes, network.left.namespace)
    with containers.start(wanted, node.place, network.left.namespace) as asleep:
        wait_until(asleep.is_running, "it runs")
        kind, *command = image.settings["Healthcheck"]["Test"]
        done = asleep.run(*command)
    assert (kind, done.returncode) == ("CMD", 1), done
    assert done.stderr.startswith("netatop-exporter: no exporter answers at http://127.0.0.1:10048")


def test_a_rollout_with_pins(image: Image, node: Node, network: Cable, bpffs: Path) -> None:
    """A pod gives way to the next: what was sent meanwhile is counted, and nothing begins anew."""
    node.run("containerd, systemd driver")
    pod, form = node.configure("overlays/complete"), FORMS["containerd, systemd driver"]
    volumes = {**node.volumes, "bpf": bpffs}
    wanted = containers.configuration(image, pod, volumes, network.left.namespace)
    labels = {label: getattr(form, label) for label in LABELS}
    detach = ("netatop-exporter", "detach", "--pin-path=/host/sys/fs/bpf/netatop-exporter")
    with (
        cgroup() as root,
        tree(root, form.path) as place,
        talking(place, workers.new_name(), network.right.namespace) as say,
    ):
        with containers.serve(wanted, node.place, network.left.namespace) as old:
            say(23)
            before = scrape(old)
            assert grown(_NOTHING, before, **labels) == workers.traffic(23, SIZE)
        say(29)
        with containers.serve(wanted, node.place, network.left.namespace) as new:
            say(31)
            after = scrape(new)
            assert grown(_NOTHING, after, **labels) == workers.traffic(23 + 29 + 31, SIZE)
            assert "other users' processes" not in new.log.partition("capabilities kept")[0]
            refused = new.run(*detach)
            assert refused.returncode == 1
            assert "in use by another exporter" in refused.stderr
    pod["containers"][0]["args"] = [*detach[1:]]
    wanted = containers.configuration(image, pod, volumes, network.left.namespace)
    with containers.start(wanted, node.place, network.left.namespace) as last:
        assert last.process.wait(60) == 0, last.log
        assert "removed" in last.log
    assert not (bpffs / "netatop-exporter").exists()


_NOTHING: Final = Exposition("")


def _without_cgroups(wanted: dict[str, Any]) -> None:
    wanted["mounts"] = [
        mount for mount in wanted["mounts"] if not mount["destination"].startswith("/host")
    ]


def _older_seccomp(wanted: dict[str, Any]) -> None:
    given = wanted["process"]["capabilities"]["bounding"]
    wanted["linux"]["seccomp"] = containers.seccomp(given, gated=False)


def _another_user(wanted: dict[str, Any]) -> None:
    wanted["process"]["user"] = {"uid": 65534, "gid": 65534}
    # As runtimes do it: of another user none are permitted.
    wanted["process"]["capabilities"] |= {"effective": [], "permitted": []}


def _without_net_admin(wanted: dict[str, Any]) -> None:
    for given in wanted["process"]["capabilities"].values():
        given[:] = [one for one in given if one != "CAP_NET_ADMIN"]


def _other_users(wanted: dict[str, Any]) -> None:
    mapped = [{"containerID": 0, "hostID": 1 << 20, "size": 1 << 16}]
    wanted["linux"]["namespaces"].append({"type": "user"})
    wanted["linux"] |= {"uidMappings": mapped, "gidMappings": mapped}
    # These can't be mounted there, and are looked at later anyway.
    without = {"/sys", "/sys/fs/cgroup", "/dev/mqueue", "/proc"}
    wanted["mounts"] = [
        {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind", "ro"]},
        *(one for one in wanted["mounts"] if one["destination"] not in without),
    ]
    # A runtime gives them a layer that is theirs; in the image itself they may make nothing.
    for mount in wanted["mounts"]:
        if not mount["destination"].startswith("/dev/"):
            made = Path(wanted["root"]["path"], mount["destination"].lstrip("/"))
            made.mkdir(parents=True, exist_ok=True)


def _bad_settings(wanted: dict[str, Any]) -> None:
    (source,) = (
        mount["source"] for mount in wanted["mounts"] if mount["destination"].startswith("/etc")
    )
    Path(source, "netatop-exporter.yml").write_text("limits: {groups: many}\n")


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (_without_cgroups, 1, "found a part of the version 2 hierarchy only (/sys/fs/cgroup"),
        (_older_seccomp, 1, "bpf(2) is refused (EPERM) although CAP_BPF is there"),
        (_another_user, 1, "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF missing"),
        (_without_net_admin, 1, "CAP_NET_ADMIN missing"),
        (_other_users, 1, "capabilities are those of a user namespace, not the host's"),
        (_bad_settings, 2, "limits.groups: found 'many'"),
    ],
)
def test_refusals(  # noqa: PLR0917 as pytest has it
    image: Image,
    node: Node,
    network: Cable,
    change: Callable[[dict[str, Any]], None],
    status: int,
    message: str,
) -> None:
    """Each mistake in a manifest is named at the start, and nothing is left of it."""
    before = attachments.all_there()
    wanted = containers.configuration(
        image, node.configure("base"), node.volumes, network.left.namespace
    )
    change(wanted)
    with containers.start(wanted, node.place, network.left.namespace) as container:
        assert container.process.wait(60) == status, container.log
        lines = container.log.splitlines()
        first = next(line for line in lines if line.startswith("netatop-exporter: "))
        assert message in first
        assert "Traceback" not in container.log
    wait_until(lambda: not attachments.left_since(before), "nothing is left")


def test_without_the_hosts_processes(image: Image, node: Node, network: Cable) -> None:
    """Without hostPID it counts, and says what it can't know."""
    pod = copy.deepcopy(node.configure("base"))
    pod["hostPID"] = False
    wanted = containers.configuration(image, pod, node.volumes, network.left.namespace)
    with containers.start(wanted, node.place, network.left.namespace) as exporter:
        wait_until(lambda: "serves http" in exporter.log, "it serves")
        assert exporter.ask("/readyz").status == 200
        assert "executables, command lines and network namespaces" in exporter.log
        assert "run it in the host's (hostPID in Kubernetes, --pid=host" in exporter.log
        done = exporter.run("netatop-exporter", "status", "--ready")
        assert done.returncode == 0
        assert exporter.end() == 0


def test_without_a_kubelet(image: Image, node: Node, network: Cable) -> None:
    """Where nobody writes logs containers go by their ids."""
    pod, form = node.configure("base"), FORMS["containerd, systemd driver"]
    wanted = containers.configuration(image, pod, node.volumes, network.left.namespace)
    wanted["mounts"] = [one for one in wanted["mounts"] if "/var/log" not in one["destination"]]
    labels = {"container": digits(0)[:12], "pod": "unknown", "namespace": "unknown"}
    with (
        containers.serve(wanted, node.place, network.left.namespace) as exporter,
        cgroup() as root,
        tree(root, form.path) as place,
        talking(place, workers.new_name(), network.right.namespace) as say,
    ):
        say(23)
        assert grown(_NOTHING, scrape(exporter), **labels) == workers.traffic(23, SIZE)


def test_bcc(bcc_image: Image, node: Node, network: Cable) -> None:
    """The image with a compiler compiles in its container, and counts the same."""
    pod = copy.deepcopy(node.configure("base"))
    pod["containers"][0]["args"] += ["--loader=bcc"]
    name = workers.new_name()
    wanted = containers.configuration(bcc_image, pod, node.volumes, network.left.namespace)
    with (
        containers.serve(wanted, node.place, network.left.namespace) as exporter,
        cgroup() as place,
        talking(place, name, network.right.namespace) as say,
    ):
        scrape(exporter)
        say(23)
        found = scrape(exporter)
        assert grown(_NOTHING, found, group=name) == workers.traffic(23, SIZE)
        assert found.series("netatop_loader_info", loader="bcc")


def test_no_compiler(image: Image, node: Node, network: Cable) -> None:
    """The default image refuses --loader bcc, and says what has it."""
    pod = copy.deepcopy(node.configure("base"))
    pod["containers"][0]["args"] += ["--loader=bcc"]
    wanted = containers.configuration(image, pod, node.volumes, network.left.namespace)
    with containers.start(wanted, node.place, network.left.namespace) as container:
        assert container.process.wait(60) == 1
        assert "python3-bpfcc" in container.log


WEB: Final = """\
tls_server_config:
  cert_file: tls.crt
  key_file: tls.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
auth_excluded_paths: [/healthz, /readyz]
"""


def test_tls(image: Image, node: Node, network: Cable) -> None:
    """Who has no certificate is told nothing; the kubelet's probes, which have none, go on."""
    pod = node.configure("overlays/tls")
    web = node.place / "web"
    web.mkdir()
    authority = Authority(web)
    server = authority.issue("tls", f"IP:{network.left.ipv4}")
    assert (server.certificate.name, server.key.name) == ("tls.crt", "tls.key")
    (web / "web.yml").write_text(WEB)
    client = authority.issue("client")
    volumes = {**node.volumes, "web": web}
    wanted = containers.configuration(image, pod, volumes, network.left.namespace)
    with containers.start(wanted, node.place, network.left.namespace) as exporter:
        wait_until(lambda: "serves https" in exporter.log, "it serves")

        def ask(path: str, shown: Certificate | None = None) -> int:
            context = authority.trusting(shown)
            where = network.right.namespace, network.left.ipv4
            return containers.ask(*where, path, context).status

        for kind in ("startup", "liveness", "readiness"):
            probe = pod["containers"][0][f"{kind}Probe"]["httpGet"]
            assert probe["scheme"] == "HTTPS"
            assert ask(probe["path"]) == 200
        assert ask("/metrics", client) == 200
        assert ask("/metrics") == 403
        assert exporter.end() == 0
