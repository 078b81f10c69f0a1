# SPDX-License-Identifier: Apache-2.0
"""Groups, containers, pods and units: real cgroups, real processes in them, real traffic."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.e2e import program, workers
from tests.kernel.lab import cgroup
from tests.network import LIBC, checked
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.exposition import Exposition
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SIZE: Final = 31
UIDS: Final = [f"6eb5044d-ef2e-49d1-a9cc-28f4e3fe88{number:02x}" for number in range(16)]


def digits(number: int) -> str:
    """Return the id of a container."""
    return f"{number + 1:02x}" * 32


def slice_of(uid: str) -> str:
    """Return the directory that the systemd driver makes for a burstable pod."""
    parent = "kubepods.slice/kubepods-burstable.slice"
    return f"{parent}/kubepods-burstable-pod{uid.replace('-', '_')}.slice"


class Form(NamedTuple):
    """A way to name a cgroup, and what it says; `group` None: the process's own name."""

    path: str
    group: str | None
    container: str = ""
    pod: str = ""
    namespace: str = ""
    unit: str = ""


FORMS: Final = {
    "containerd, systemd driver": Form(
        f"{slice_of(UIDS[0])}/cri-containerd-{digits(0)}.scope", "app", "app", "web-7d9f", "shop"
    ),
    "its sidecar": Form(
        f"{slice_of(UIDS[0])}/cri-containerd-{digits(1)}.scope",
        "proxy",
        "proxy",
        "web-7d9f",
        "shop",
    ),
    "CRI-O, systemd driver": Form(
        f"{slice_of(UIDS[1])}/crio-{digits(2)}.scope/container", "db", "db", "db-0", "shop"
    ),
    "docker below a kubelet": Form(
        f"{slice_of(UIDS[2])}/docker-{digits(3)}.scope", "job", "job", "batch-x2x4z", "batch"
    ),
    "guaranteed": Form(
        f"kubepods.slice/kubepods-pod{UIDS[3].replace('-', '_')}.slice"
        f"/cri-containerd-{digits(4)}.scope",
        "cache",
        "cache",
        "cache-1",
        "shop",
    ),
    "cgroupfs driver": Form(
        f"kubepods/burstable/pod{UIDS[4]}/{digits(5)}", "agent", "agent", "agent-k", "kube-system"
    ),
    "static pod": Form(
        f"kubepods/besteffort/pod{'0b7c' * 8}/{digits(6)}", "etcd", "etcd", "etcd-n1", "kube-system"
    ),
    "driver told wrongly": Form(
        f"system.slice/containerd.service/{slice_of(UIDS[5]).rpartition('/')[2]}"
        f":cri-containerd:{digits(7)}",
        "web",
        "web",
        "web-2",
        "shop",
    ),
    "pod without a link": Form(
        f"kubepods/burstable/pod{UIDS[6]}/{digits(8)}", "late-0", digits(8)[:12], "late-0", "shop"
    ),
    "pod of nobody": Form(
        f"kubepods/burstable/pod{UIDS[7]}/{digits(9)}",
        digits(9)[:12],
        digits(9)[:12],
        "unknown",
        "unknown",
    ),
    "docker, systemd driver": Form(
        f"system.slice/docker-{digits(10)}.scope", digits(10)[:12], digits(10)[:12]
    ),
    "docker, cgroupfs driver": Form(f"docker/{digits(11)}", digits(11)[:12], digits(11)[:12]),
    "podman": Form(
        f"machine.slice/libpod-{digits(12)}.scope/container", digits(12)[:12], digits(12)[:12]
    ),
    "podman of a user": Form(
        f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{digits(13)}.scope",
        f"user-1000/{digits(13)[:12]}",
        f"user-1000/{digits(13)[:12]}",
    ),
    "nerdctl": Form(f"system.slice/nerdctl-{digits(14)}.scope", digits(14)[:12], digits(14)[:12]),
    "kubelet in docker": Form(
        f"docker/{digits(15)}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod"
        f"{UIDS[8].replace('-', '_')}.slice/cri-containerd-{digits(16)}.scope",
        f"{digits(15)[:12]}/{digits(16)[:12]}",
        f"{digits(15)[:12]}/{digits(16)[:12]}",
        "unknown",
        "unknown",
    ),
    "lxc": Form("lxc.payload.web1", "web1", "web1"),
    "service": Form("system.slice/nginx.service", "nginx.service", unit="nginx.service"),
    "service of a template": Form(
        r"system.slice/system-getty.slice/getty@tty1\x2da.service",
        "getty@tty1-a.service",
        unit="getty@tty1-a.service",
    ),
    "service of a user": Form(
        "user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
        "user-1000/nginx.service",
        unit="user-1000/nginx.service",
    ),
    "user who claims a container": Form(
        f"user.slice/user-1000.slice/user@1000.service/{slice_of(UIDS[0])}"
        f"/cri-containerd-{digits(0)}.scope",
        f"user-1000/{digits(0)[:12]}",
        f"user-1000/{digits(0)[:12]}",
        "unknown",
        "unknown",
    ),
    "container that claims another": Form(
        f"docker/{digits(18)}/{slice_of(UIDS[0])}/cri-containerd-{digits(0)}.scope",
        f"{digits(18)[:12]}/{digits(0)[:12]}",
        f"{digits(18)[:12]}/{digits(0)[:12]}",
        "unknown",
        "unknown",
    ),
    "conmon": Form(f"machine.slice/libpod-conmon-{digits(17)}.scope", None),
    "session": Form("user.slice/user-1000.slice/session-3.scope", None),
    "slice": Form("user.slice", None),
}


@pytest.fixture(scope="module")
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make the directories of a kubelet with the pods above, but for those it says nothing of.

    Returns what the configuration says of them.
    """
    root = tmp_path_factory.mktemp("log")
    (root / "containers").mkdir()
    (root / "pods").mkdir()
    for form in FORMS.values():
        if form.pod not in {"", "unknown", "late-0"}:
            number = next(n for n in range(20) if digits(n) in form.path.rpartition("/kubelet")[2])
            name = f"{form.pod}_{form.namespace}_{form.container}-{digits(number)}.log"
            (root / "containers" / name).symlink_to("/nowhere")
    (root / "pods" / f"shop_late-0_{UIDS[6]}").mkdir()
    return f"kubernetes: {{container_logs: {root}/containers, pod_logs: {root}/pods}}\n"


@pytest.fixture(scope="module")
def exporter(kubelet: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Return an exporter that looks there."""
    file = tmp_path_factory.mktemp("exporter") / "netatop-exporter.yml"
    file.write_text(kubelet)
    with program.serve("--config.file", str(file)) as running:
        yield running


@contextlib.contextmanager
def tree(root: Path, path: str) -> Iterator[Path]:
    """Make a cgroup with all its parents, and remove them."""
    made = root / path
    made.mkdir(parents=True)
    try:
        yield made
    finally:
        for folder in (made, *made.parents[: len(made.relative_to(root).parts) - 1]):
            wait_until(functools.partial(_removed, folder), f"{folder} is removed")


def _removed(folder: Path) -> bool:
    """Remove a cgroup; one of whose last process the kernel has not let go yet stays."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def grown(before: Exposition, after: Exposition, **labels: str) -> dict[str, float]:
    """Return by how much groups have grown."""
    old, new = (found.traffic("group_", protocol="udp", **labels) for found in (before, after))
    return {what: new[what] - old[what] for what in new}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms(exporter: Program, name: str, form: Form) -> None:
    """Each runtime's and driver's own: the traffic is in the right group, with the right labels."""
    labels = {
        "group": form.group or name,
        "container": form.container,
        "pod": form.pod,
        "namespace": form.namespace,
    }
    with cgroup() as root, tree(root, form.path) as place:
        before = exporter.scrape()
        with Process(workers.talker, name, SIZE, cgroup=place) as talker:
            talker.hear()
            talker.tell(23)
            talker.hear()
            after = exporter.scrape()
            assert grown(before, after, **labels) == workers.traffic(23, SIZE)
            (info,) = after.series("netatop_process_info", pid=str(talker.pid))
            talker.tell(0)
            talker.wait()
        if form.group:
            assert not any(after.traffic("group_", group=name).values())
    assert dict(info) | {"start": ""} == {
        "pid": str(talker.pid),
        "process": name,
        "exe": str(Path("/proc/self/exe").readlink()),
        "user": "root",
        "cgroup": f"/{place.relative_to(root.parent)}".replace("//", "/"),
        "unit": form.unit,
        "container": form.container,
        "pod": form.pod,
        "namespace": form.namespace,
        "start": "",
    }
    assert abs(float(dict(info)["start"]) - time.time()) < 60


def test_a_container_that_has_ended(exporter: Program, name: str) -> None:
    """Its cgroup is gone before any scrape has seen the process: the group it had is not known."""
    form = FORMS["containerd, systemd driver"]
    with cgroup() as root, tree(root, form.path) as place:
        before = exporter.scrape()
        with Process(workers.talker, name, SIZE, cgroup=place) as talker:
            talker.hear()
            talker.tell(23)
            talker.hear()
            exporter.scrape()
            talker.tell(29)
            talker.hear()
            talker.tell(0)
            talker.wait()
    after = exporter.scrape()
    labels = {"group": "app", "container": "app", "pod": "web-7d9f", "namespace": "shop"}
    assert grown(before, after, **labels) == workers.traffic(23 + 29, SIZE)
    assert after.sum("netatop_exited_processes_total", **labels) - before.sum(
        "netatop_exited_processes_total", **labels
    ) == (1)


@pytest.fixture
def hierarchy(tmp_path: Path) -> Iterator[Path]:
    """Mount a version 1 hierarchy with a name and no controllers."""
    options = f"none,name=netatop{os.getpid()}".encode()
    point = bytes(tmp_path / "hierarchy")
    (tmp_path / "hierarchy").mkdir()
    checked(LIBC.mount(b"none", point, b"cgroup", 0, ctypes.c_char_p(options)))
    try:
        yield tmp_path / "hierarchy"
    finally:
        checked(LIBC.umount2(point, 0))


def test_version_1(hierarchy: Path, kubelet: str, name: str, tmp_path: Path) -> None:
    """A container whose cgroup is in a version 1 hierarchy only."""
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(kubelet)
    with (
        program.serve("--config.file", str(file)) as exporter,
        tree(hierarchy, f"kubepods/burstable/pod{UIDS[0]}/{digits(0)}") as place,
        Process(workers.talker, name, SIZE) as talker,
    ):
        talker.hear()
        (place / "cgroup.procs").write_text(str(talker.pid))
        before = exporter.scrape()
        talker.tell(23)
        talker.hear()
        after = exporter.scrape()
        labels = {"group": "app", "container": "app", "pod": "web-7d9f", "namespace": "shop"}
        assert grown(before, after, **labels) == workers.traffic(23, SIZE)
        talker.tell(0)
        talker.wait()


RULES: Final = """
groups:
- name: "talks as {{{{.Username}}}}: {{{{.Matches.what}}}}"
  cmdline: ['(?P<what>python)']
  comm: [{name}]
- name: other
  comm: [{name}-b]
- namespace: [shop]
  name: "all of {{{{.Namespace}}}}"
  container_labels: false
"""


def test_rules(name: str, kubelet: str, tmp_path: Path) -> None:
    """The first that fits; `other` is not to be had; containers together, or each for itself."""
    file = tmp_path / "rules.yml"
    file.write_text(RULES.format(name=name) + kubelet)
    expected = {"talks as root: python": (name, 23), "other_": (f"{name}-b", 29)}
    with program.serve("--config.file", str(file)) as exporter, cgroup() as root:
        for group, (process, datagrams) in expected.items():
            with Process(workers.talker, process, SIZE) as talker:
                talker.hear()
                talker.tell(datagrams)
                talker.hear()
                found = exporter.scrape()
            traffic = found.traffic("group_", protocol="udp", group=group)
            assert traffic == workers.traffic(datagrams, SIZE)
        for form in (FORMS["containerd, systemd driver"], FORMS["its sidecar"]):
            with (
                tree(root, form.path) as place,
                Process(workers.talker, f"{name}-c", SIZE, cgroup=place) as talker,
            ):
                talker.hear()
                talker.tell(31)
                talker.hear()
                found = exporter.scrape()
                talker.tell(0)
                talker.wait()
        traffic = found.traffic("group_", protocol="udp", group="all of shop", container="")
        assert traffic == workers.traffic(2 * 31, SIZE)


HOSTILE_WORDS: Final = {
    "control": b"\x01\x1b[31m\x7f",
    "lines": b"a\nb\r\n# EOF\n",
    "not UTF-8": b"\xff\xfe",
    "labels": b'"a"="b",pid="1"} 99\n',
    "4 kB": b"x" * 4096,
    "100 kB": b"(" * 100_000,
    "template": b"{{.Username}}",
    "rest": b"other",
}
SENDS: Final = f"""
import socket, sys
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("{program.LOCAL}", 0))
for _ in range(23):
    own.sendto(bytes({SIZE}), own.getsockname())
    own.recv({SIZE})
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("word", HOSTILE_WORDS.values(), ids=HOSTILE_WORDS)
def test_hostile_command_lines(tmp_path: Path, word: bytes) -> None:
    """A name made of a command line is short and harmless, and takes nothing from anybody."""
    file = tmp_path / "rules.yml"
    file.write_text(
        "groups: [{name: '{{.Matches.word}}', cmdline: ['#hostile#(?P<word>.*)']}]\n"
        "limits: {processes: 1000}\n"
    )
    marked = b"#hostile#" + word
    with (
        program.serve("--config.file", str(file)) as exporter,
        subprocess.Popen(
            [sys.executable, "-c", SENDS, marked], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        for openmetrics in (False, True):
            found = exporter.scrape(openmetrics=openmetrics)
            series = found.series("netatop_process_transmit_packets_total", pid=str(process.pid))
            ((labels, value),) = series.items()
            assert value == 23
            group = dict(labels)["group"]
            assert group.isprintable()
            assert 0 < len(group) <= 128
            assert group != "other"
            traffic = found.traffic("group_", group=group, protocol="udp")
            assert traffic == workers.traffic(23, SIZE)
        process.stdin.close()
