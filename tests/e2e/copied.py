# SPDX-License-Identifier: Apache-2.0
"""What the documentation gives to copy, and what runs it.

Every command of a page is in one of these: in RUNS, and tests/e2e/test_docs.py runs it as it stands
on the page; or in ELSEWHERE, with the test that runs the same. Another one fails
tests/unit/test_docs.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.pages import Command

KINDS: Final = ("", "console", "indented", "ini", "promql", "text", "yaml")
"""Of blocks: after the fence, or indented. Without a word: a drawing, or lines of /metrics."""


class Run(NamedTuple):
    """How a command is run, and what is held of it."""

    status: int = 0
    until: str = ""
    """It goes on for ever: it is ended when it has printed this, or answers at this path."""
    serves: bool = False
    """It is an exporter itself: it is run where no other one is."""
    replaced: Mapping[str, str] = {}
    """What the page has as an example, and what is put there: fields of test_docs.Place."""
    head: bool = False
    """Of what the page shows only the first line is held: the rest is who is there."""


SERVES: Final = Run(until="/readyz", serves=True)
FOLLOWS: Final = Run(until="time ", head=True, replaced={"4711": "{pid}"})

RUNS: Final[Mapping[str, Run]] = {
    "curl -s 'http://127.0.0.1:10048/api/v1/exits?since=0&limit=100'": Run(),
    "curl -s 'http://127.0.0.1:10048/api/v1/openapi.json'": Run(),
    "curl -s 'http://127.0.0.1:10048/api/v1/processes?limit=10'": Run(),
    "curl -s 'http://127.0.0.1:10048/api/v1/top/groups?sort=rates.receive_bytes&history=150'": (
        Run()
    ),
    "curl -s 'http://127.0.0.1:10048/api/v1/top/processes?limit=1' | python3 -m json.tool": Run(),
    "curl -s 'http://127.0.0.1:10048/api/v1/top/processes?limit=1e3'": Run(),
    "curl -s http://127.0.0.1:10048/metrics | grep '^netatop_process_transmit_bytes_total.*curl'": (
        Run(head=True)
    ),
    "mount -t bpf bpf /sys/fs/bpf": Run(serves=True),
    "netatop-exporter COMMAND --help": Run(replaced={"COMMAND": "status"}),
    "netatop-exporter check-config --config.file /etc/netatop-exporter/netatop-exporter.yml": Run(
        replaced={"/etc/netatop-exporter/": ""}
    ),
    "netatop-exporter check-config --config.file FILE": Run(
        replaced={"FILE": "netatop-exporter.yml"}
    ),
    "netatop-exporter check-config --config.file wrong.yml": Run(status=2),
    "netatop-exporter check-config --schema": Run(),
    "netatop-exporter connections ADDRESS": Run(replaced={"ADDRESS": "127.0.0.1"}),
    "netatop-exporter detach --pin-path /sys/fs/bpf/netatop-exporter": Run(serves=True),
    "netatop-exporter detach --pin-path=/host/sys/fs/bpf/netatop-exporter": Run(
        serves=True, replaced={"/host/": "/"}
    ),
    "netatop-exporter doctor": Run(),
    "netatop-exporter exits": Run(head=True),
    "netatop-exporter hosts": Run(head=True),
    "netatop-exporter hosts 203.0.113.5": Run(),
    "netatop-exporter serve --pin-path /sys/fs/bpf/netatop-exporter": SERVES,
    "netatop-exporter serve --web.allowed-host metrics.example.org": SERVES,
    "netatop-exporter serve --web.listen-address 127.0.0.1:10048 "
    "--web.listen-address unix:/run/netatop-exporter.sock": SERVES,
    "netatop-exporter status": Run(),
    "netatop-exporter status --ready": Run(),
    "netatop-exporter status --web.listen-address unix:/run/netatop-exporter.sock": Run(),
    "netatop-exporter top --batch --count 3 --interval 10 --view groups --sort BYTESSND": Run(
        replaced={"--interval 10": "--interval 0.1"}
    ),
    "netatop-exporter watch --pid 4711 --tree": FOLLOWS,
    "sudo netatop-exporter serve --compat.netatop": SERVES,
    "sudo netatop-exporter serve --config.file netatop.yml": SERVES,
    "echo '{compat: {netatop: true}, exit_log: {format: netatop}}' > netatop.yml": Run(),
    "make": Run(replaced={"make": "make -C {checkout}"}),
    "rm -r /sys/fs/bpf/netatop-exporter": Run(serves=True),
}
"""By what stands on the page, without the comment behind it."""

BARE: Final = "tests/e2e/bare_debian.sh"
PACKAGE: Final = "tests/deploy/service/test_package.py"
SERVICE: Final = "tests/deploy/service/test_service.py"
IMAGE: Final = "tests/deploy/test_image.py"
MANIFESTS: Final = "tests/deploy/test_manifests.py"
POD: Final = "tests/deploy/test_pod.py"
MANUAL: Final = "tests/deploy/test_manual.py"
KERNELS: Final = "tests/kernels/test_boot.py"

ELSEWHERE: Final[Mapping[str, str]] = {
    "ARGS=--web.systemd-socket": f"{SERVICE}::test_socket_activation",
    "apt install linux-headers-$(uname -r)": "tests/unit/test_kernel_headers.py",
    "apt install python3-bpfcc": "tests/e2e/test_bcc.py",
    "apt-get purge": f"{PACKAGE}::test_removed_and_purged",
    "apt-get remove": f"{PACKAGE}::test_removed_and_purged",
    "atop -K": "tests/e2e/test_atop.py::test_processes_and_threads",
    "bpftool cgroup show": "tests/e2e/attachments.py",
    "bpftool link detach": "tests/e2e/test_continuity.py::test_severed",
    "docker build --build-arg": f"{IMAGE}::test_settings",
    "docker build -t REGISTRY/netatop-exporter:0.1.0 .": f"{IMAGE}::test_settings",
    "docker build -t REGISTRY/netatop-exporter:0.1.0-bcc --target bcc .": (
        f"{IMAGE}::test_with_a_compiler"
    ),
    "docker ps": "tests/e2e/test_groups.py::test_forms",
    "docker run --rm --read-only --pid=host --cap-drop=ALL --cap-add=BPF --cap-add=PERFMON "
    "--cap-add=NET_ADMIN --cap-add=DAC_READ_SEARCH --security-opt=no-new-privileges "
    "-v /sys/fs/cgroup:/host/sys/fs/cgroup:ro -p 127.0.0.1:10048:10048 "
    "REGISTRY/netatop-exporter:0.1.0": f"{POD}::test_privileges",
    "helm install --namespace netatop-exporter netatop-exporter deploy/helm/netatop-exporter "
    "--set image.repository=REGISTRY/netatop-exporter --set podMonitor.enabled=true": (
        f"{MANIFESTS}::test_chart_is_kustomization"
    ),
    "journalctl -u netatop-exporter": f"{SERVICE}::test_nothing_to_complain_of",
    "journalctl -u netatop-exporter -n 50": f"{SERVICE}::test_nothing_to_complain_of",
    "kubectl -n netatop-exporter create secret generic netatop-exporter-web "
    "--from-file=web.yml --from-file=tls.crt --from-file=tls.key --from-file=ca.crt": (
        f"{POD}::test_tls"
    ),
    "kubectl -n netatop-exporter exec ds/netatop-exporter -- netatop-exporter doctor": (
        f"{POD}::test_privileges"
    ),
    "kubectl apply -k deploy/kubernetes/overlays/prometheus-operator": f"{MANIFESTS}::test_valid",
    "kubectl create namespace netatop-exporter": f"{MANIFESTS}::test_valid",
    "kubectl label namespace netatop-exporter pod-security.kubernetes.io/enforce=privileged": (
        f"{MANIFESTS}::test_valid"
    ),
    "kubectl logs --previous": f"{POD}::test_refusals",
    "make bench": "tests/unit/test_docs.py::test_programs_that_measure",
    "make check": BARE,
    "make dashboards": "tests/deploy/test_dashboards.py::test_reproducible",
    "make deb": f"{PACKAGE}::test_lintian",
    "make bpf ARCH=arm64": "tests/kernel/test_machines.py",
    "make layouts": "tests/kernel/test_contract.py",
    "make lint": BARE,
    "make lint test": BARE,
    "make kernels": KERNELS,
    "make pictures": "tests/e2e/test_page.py::test_pictures",
    "make rules": f"{MANIFESTS}::test_rules",
    "make schema": "tests/e2e/test_configuration.py::test_schema",
    "make tables": "tests/unit/test_docs.py::test_tables",
    "man 5 netatop-exporter": f"{MANUAL}::test_readers",
    "man netatop-exporter": f"{MANUAL}::test_readers",
    "netatop-exporter top": "tests/e2e/test_docs.py::test_screen",
    "pip install 'netatop-exporter[top]'": "tests/e2e/test_top.py::test_without_the_library",
    "pre-commit install": "tests/unit/test_docs.py::test_hooks",
    "promtool check web-config": "tests/e2e/test_web_config.py::test_good_file",
    "promtool test rules": "tests/deploy/test_rules.py::test_boundaries",
    "python -m tests.kernel.scenarios": "tests/unit/test_scenarios.py",
    "sed -i 's,runbook_url: docs/,runbook_url: https://wiki.example.org/netatop/docs/,' "
    "netatop.alerts.yml": "tests/deploy/test_rules.py::test_command_of_page",
    "sudo ./quickstart.sh": BARE,
    "sudo ./quickstart.sh run once --seconds 10": BARE,
    "sudo ./quickstart.sh test": BARE,
    "sudo apt-get install ./dist/netatop-exporter_0.1.0_amd64.deb": f"{PACKAGE}::test_upgrade",
    "sudo atop -K -n": "tests/e2e/test_atop_exits.py::test_lived_between_samples",
    "sudo make bench": "tests/unit/test_docs.py::test_programs_that_measure",
    "sudo make check": BARE,
    "sudo make kernels": KERNELS,
    "sudo systemctl edit netatop-exporter": f"{SERVICE}::test_drop_in",
    "sudo systemctl enable --now netatop-exporter.socket": f"{SERVICE}::test_socket_activation",
    "sudo systemctl reload netatop-exporter": f"{SERVICE}::test_reload",
    "sudo systemctl restart netatop-exporter": f"{SERVICE}::test_reload",
    "sudo systemctl start netatop-exporter": f"{SERVICE}::test_socket_activation",
    "sudo systemctl stop netatop-exporter": f"{SERVICE}::test_socket_activation",
    "sysctl kernel.bpf_stats_enabled=1": "tests/unit/test_metrics.py"
    "::test_run_times_only_with_the_kernels_statistics",
    "systemctl edit netatop-exporter.socket": f"{SERVICE}::test_socket_activation",
    "systemctl reload netatop-exporter": f"{SERVICE}::test_reload",
    "systemctl status": f"{SERVICE}::test_reload",
    "systemctl status netatop-exporter": f"{SERVICE}::test_least_privilege",
    "systemctl stop netatop-exporter": f"{SERVICE}::test_address_in_use",
    "systemd-analyze security": f"{SERVICE}::test_unit",
    "tc filter del dev br0 ingress pref 48": "tests/kernel/test_forwarder.py",
}
"""By command: the test, or the script, that runs the same."""


def is_run(command: Command) -> bool:
    """Tell whether a test here runs it, or holds of its kind that it could be run."""
    return command.text in RUNS or program_that_measures(command.text) or a_part(command.text)


def program_that_measures(text: str) -> bool:
    """Tell whether it is one of bench/: minutes each, so its file and its flags are held only."""
    return any(word.startswith("bench/") for word in text.split())


def a_part(text: str) -> bool:
    """Tell whether it runs a part of the suites: they are there."""
    return text.startswith("sudo .venv/bin/pytest ")
