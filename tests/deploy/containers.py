# SPDX-License-Identifier: Apache-2.0
"""Runs an image as a node runs a pod: by an OCI runtime (runc), with what the manifest grants.

Nothing of it is made up: name spaces, capabilities, seccomp profile, masked paths, read-only root
file system and mounts are those of a container runtime under a kubelet. What is missing is the
kubelet, and with it the names of its cgroups.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter.config.flags import DEFAULT_PORT
from tests.e2e.program import OPENMETRICS, Answer
from tests.network import run
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

    from tests.deploy.images import Image
    from tests.network import Namespace

NAMES = itertools.count(1)
SECCOMP: Final = Path("/usr/share/containers/seccomp.json")
"""What runtimes take as their default, in docker's form; Debian has it with buildah."""
MASKED: Final = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY: Final = (*("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),)
GATED: Final = {"CAP_BPF": "bpf", "CAP_PERFMON": "perf_event_open"}
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
EVERYWHERE: Final = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),  # noqa: S108 its own
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup2", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro")),
)
"""What every container has mounted, where hosts have version 2 cgroups only."""


class Container:
    """One that runs."""

    def __init__(
        self,
        name: str,
        wanted: Mapping[str, Any],
        place: Path,
        namespace: Namespace,
    ) -> None:
        self.name = name
        self._environment = dict(one.split("=", 1) for one in wanted["process"]["env"])
        self.namespace = namespace
        self._state = place / "state"
        self._log = place / f"{name}.log"
        self.process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        """Return the process id on the host."""
        found: int = json.loads(run(*self._runc("state", self.name)))["pid"]
        return found

    def _runc(self, *words: str) -> tuple[str, ...]:
        return ("runc", "--root", str(self._state), *words)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as a health check is run, but with root's capabilities.

        Not by runc: where the tests run below a chroot(2), its way in leads out.
        """
        spaces = ("--mount", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd")
        return subprocess.run(
            ("nsenter", "--target", str(self.pid), *spaces, *command),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def ask(self, path: str = "/metrics", address: str = "127.0.0.1") -> Answer:
        """Make a request from its network name space, as whoever is in its pod."""
        return ask(self.namespace, address, path)

    def is_running(self) -> bool:
        """Tell whether its program has been started."""
        command = self._runc("state", self.name)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode == 0 and json.loads(done.stdout)["status"] == "running"

    def is_ready(self) -> bool:
        """Tell whether it says so; an error if it has ended."""
        assert self.process.poll() is None, f"status {self.process.returncode}: {self.log}"
        try:
            return self.ask("/readyz").status == 200
        except OSError:
            return False

    def end(self, signal: str = "TERM") -> int:
        """Send it the image's stop signal; return the exit status."""
        run(*self._runc("kill", self.name, signal))
        return self.process.wait(PATIENCE)

    def remove(self) -> None:
        """End it if need be, and forget it."""
        subprocess.run(self._runc("delete", "--force", self.name), check=True, capture_output=True)
        self.process.wait(PATIENCE)


def ask(
    namespace: Namespace, address: str, path: str, context: ssl.SSLContext | None = None
) -> Answer:
    """Make a request from a network name space, by TLS if a context is given."""
    with Process(_ask, address, path, context, namespace=namespace) as asking:
        found = asking.hear()
        asking.wait()
    if isinstance(found, str):
        raise OSError(found)
    return Answer(*found)


def _ask(talk: Connection, address: str, path: str, context: ssl.SSLContext | None) -> None:
    connection = (
        http.client.HTTPSConnection(address, DEFAULT_PORT, timeout=PATIENCE, context=context)
        if context
        else http.client.HTTPConnection(address, DEFAULT_PORT, timeout=PATIENCE)
    )
    try:
        connection.request("GET", path, headers={"Accept": OPENMETRICS})
        answer = connection.getresponse()
        talk.send((answer.status, answer.headers, answer.read()))
    except OSError as error:
        talk.send(str(error))


def configuration(
    image: Image,
    pod: Mapping[str, Any],
    mounts: Mapping[str, Path],
    namespace: Namespace,
) -> dict[str, Any]:
    """Return what an OCI runtime is given for the first container of a pod.

    mounts: what stands for the pod's volumes, by name.
    """
    container = pod["containers"][0]
    context = pod.get("securityContext", {}) | container["securityContext"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["capabilities"]["drop"] == ["ALL"]
    capabilities = [f"CAP_{name}" for name in context["capabilities"].get("add", ())]
    words = [
        *container.get("command", image.entrypoint),
        *container.get("args", image.command),
    ]
    kinds = ["mount", "ipc", "uts", "cgroup", *(() if pod["hostPID"] else ("pid",))]
    return {
        "ociVersion": "1.0.2",
        "hostname": "netatop-exporter",
        "process": {
            "args": words,
            "cwd": "/",
            "env": [*image.environment, "KUBERNETES_SERVICE_HOST=192.0.2.1"],
            "user": {"uid": context["runAsUser"], "gid": context.get("runAsGroup", 0)},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": not context["allowPrivilegeEscalation"],
        },
        "root": {"path": str(image.root), "readonly": context["readOnlyRootFilesystem"]},
        "mounts": [
            *(
                {"destination": target, "type": kind, "source": source, "options": list(options)}
                for target, kind, source, options in EVERYWHERE
            ),
            *(
                {
                    "destination": mount["mountPath"],
                    "type": "bind",
                    "source": str(mounts[mount["name"]]),
                    "options": ["rbind", "rprivate", "ro" if mount.get("readOnly") else "rw"],
                }
                for mount in container["volumeMounts"]
            ),
        ],
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in kinds),
                {"type": "network", "path": f"/run/netns/{namespace.name}"},
            ],
            "resources": {"memory": {"limit": size(container["resources"]["limits"]["memory"])}},
            "seccomp": seccomp(capabilities),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }


def size(text: str) -> int:
    """Return the bytes of a quantity as 256Mi."""
    return int(text.removesuffix("Mi")) << 20


def seccomp(capabilities: list[str], *, gated: bool = True) -> dict[str, Any]:
    """Return the default profile as it is for a container with these capabilities.

    gated: as docker has it since 23 and containerd since 1.7, where CAP_BPF and CAP_PERFMON are
    enough for the system calls that are theirs; what Debian 12 has is older, and wants more.
    """
    profile = json.loads(SECCOMP.read_text())
    machine = ARCHITECTURES[platform.machine()]
    (architecture,) = (
        one for one in profile["archMap"] if one["architecture"].endswith(_SECCOMP[machine])
    )
    granted = [call for capability, call in GATED.items() if gated and capability in capabilities]
    rules: list[dict[str, Any]] = [{"names": granted, "action": "SCMP_ACT_ALLOW"}]
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
        if (
            not {"minKernel"} & includes.keys()
            and set(includes.get("caps", ())) <= set(capabilities)
            and not set(excludes.get("caps", ())) & set(capabilities)
            and machine in includes.get("arches", [machine])
            and machine not in excludes.get("arches", ())
        ):
            kept = {"names", "action", "args", "errnoRet"} & rule.keys()
            found = {key: rule[key] for key in kept if rule[key] is not None}
            rules.append(found | {"names": [one for one in rule["names"] if one not in granted]})
    return {
        "defaultAction": profile["defaultAction"],
        **({"defaultErrnoRet": e} if (e := profile.get("defaultErrnoRet")) else {}),
        "architectures": [architecture["architecture"], *architecture["subArchitectures"]],
        "syscalls": [rule for rule in rules if rule["names"]],
    }


_SECCOMP: Final = {"amd64": "X86_64", "arm64": "AARCH64"}


@contextlib.contextmanager
def start(wanted: Mapping[str, Any], place: Path, namespace: Namespace) -> Iterator[Container]:
    """Start a container; it is gone at the end of the block."""
    name = f"netatop-pod-{os.getpid()}-{next(NAMES)}"
    bundle = place / name
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(wanted))
    container = Container(name, wanted, place, namespace)
    with container._log.open("wb") as said:
        container.process = subprocess.Popen(
            container._runc("run", "--bundle", str(bundle), name),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield container
    finally:
        container.remove()


@contextlib.contextmanager
def serve(wanted: Mapping[str, Any], place: Path, namespace: Namespace) -> Iterator[Container]:
    """Start one that serves metrics, wait until it is ready, and expect it to end well."""
    with start(wanted, place, namespace) as container:
        wait_until(container.is_ready, "the container is ready")
        yield container
        assert container.end() == 0, container.log
        assert "Traceback" not in container.log
