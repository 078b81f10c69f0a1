# SPDX-License-Identifier: Apache-2.0
"""Cgroup paths as runtimes and drivers write them, and others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribution.containers import NOWHERE, Place, place, unescape

ID = "4f" * 32
OTHER_ID = "a07b" * 16
UID = "6eb5044d-ef2e-49d1-a9cc-28f4e3fe88a3"
STATIC = "0b7c" * 8
SLICE = "kubepods-burstable-pod" + UID.replace("-", "_") + ".slice"
NESTED = Place("docker", ID, within=OTHER_ID)
PARENTS = f"/kubepods.slice/kubepods-burstable.slice/{SLICE}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # A kubelet with the systemd driver
        (f"{PARENTS}/cri-containerd-{ID}.scope", Place("containerd", ID, UID)),
        (f"{PARENTS}/docker-{ID}.scope", Place("docker", ID, UID)),
        (f"{PARENTS}/crio-{ID}.scope", Place("cri-o", ID, UID)),
        (f"{PARENTS}/crio-{ID}.scope/container", Place("cri-o", ID, UID)),
        (f"{PARENTS}/crio-{ID}", Place("cri-o", ID, UID)),
        (
            f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
            Place("containerd", ID, UID),
        ),
        (
            (
                f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{STATIC}.slice"
                f"/crio-{ID}.scope"
            ),
            Place("cri-o", ID, STATIC),
        ),
        # With the cgroupfs driver
        (f"/kubepods/burstable/pod{UID}/{ID}", Place("", ID, UID)),
        (f"/kubepods/pod{UID}/{ID}", Place("", ID, UID)),
        (f"/kubepods/besteffort/pod{STATIC}/{ID}", Place("", ID, STATIC)),
        # With one driver told the form of the other
        (
            f"/system.slice/containerd.service/{SLICE}:cri-containerd:{ID}",
            Place("containerd", ID, UID),
        ),
        # A cluster in containers: the deepest counts
        (
            (
                f"/docker/{OTHER_ID}/kubelet.slice/kubelet-kubepods.slice/kubelet-{SLICE}"
                f"/cri-containerd-{ID}.scope"
            ),
            Place("containerd", ID, UID, within=OTHER_ID),
        ),
        (f"/docker/{OTHER_ID}/user.slice/user-0.slice/docker-{ID}.scope/docker/{ID}", NESTED),
        (f"/lxc.payload.a/lxc.payload.b/docker/{ID}", Place("docker", ID, within="a")),
        (f"/docker/{ID}/system.slice/containerd.service", Place("docker", ID)),
        # Without a kubelet
        (f"/system.slice/docker-{ID}.scope", Place("docker", ID)),
        (f"/docker/{ID}", Place("docker", ID)),
        (f"/system.slice/nerdctl-{ID}.scope", Place("nerdctl", ID)),
        (f"/machine.slice/libpod-{ID}.scope", Place("podman", ID)),
        (f"/machine.slice/libpod-{ID}.scope/container", Place("podman", ID)),
        (f"/libpod_parent/libpod-{ID}", Place("podman", ID)),
        (
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_x.slice"
                f"/libpod-{ID}.scope"
            ),
            Place("podman", ID, within="user-1000"),
        ),
        ("/lxc.payload.web1", Place("lxc", "web1")),
        ("/lxc.payload.web1/system.slice/nginx.service", Place("lxc", "web1")),
        # The helpers of the runtimes are in no container.
        (f"{PARENTS}/crio-conmon-{ID}.scope", NOWHERE),
        (f"/machine.slice/libpod-conmon-{ID}.scope", NOWHERE),
        ("/lxc.monitor.web1", NOWHERE),
        # Units
        ("/system.slice/nginx.service", Place(unit="nginx.service")),
        ("/system.slice/nginx.service/worker", Place(unit="nginx.service")),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            Place(unit="getty@tty1.service"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service",
            Place(unit="sync.service", within="user-1000"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            Place(unit="user@1000.service"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/a.slice/user@1001.service",
            Place(unit="user@1001.service", within="user-1000"),
        ),
        # Below a unit, the unit makes them
        ("/system.slice/a.service/system.slice/nginx.service", Place(unit="a.service")),
        (
            f"/system.slice/a.service/{SLICE}/cri-containerd-{ID}.scope",
            Place("containerd", ID, UID, within="a.service"),
        ),
        ("/init.scope/nginx.service", NOWHERE),
        # Machines
        (
            "/machine.slice/systemd-nspawn@evil.service/payload/system.slice/nginx.service",
            Place("machine", "evil"),
        ),
        (
            r"/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt/emulator",
            Place("machine", "qemu-1-web"),
        ),
        (r"/system.slice/m\xc3\xbcsli\x2dbar.service", Place(unit="müsli-bar.service")),
        # Neither
        ("/", NOWHERE),
        ("", NOWHERE),
        ("/init.scope", NOWHERE),
        ("/user.slice/user-1000.slice/session-2.scope", NOWHERE),
        (PARENTS, NOWHERE),
        # Numbers where no runtime puts them
        (f"/{ID}", NOWHERE),
        (f"/user.slice/{ID}", NOWHERE),
        (f"/docker/{ID[:-1]}", NOWHERE),
        (f"/docker/{ID}0", NOWHERE),
        (f"/docker/{ID.upper()}", NOWHERE),
    ],
)
def test_place(path: str, expected: Place) -> None:
    """The forms that were seen on hosts, each with its driver and runtime."""
    assert place(path) == expected


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (r"a\x2db.service", "a-b.service"),
        (r"a\x2Db.service", r"a\x2Db.service"),
        (r"\xff.service", r"\xff.service"),
        ("é.service", "é.service"),
    ],
)
def test_unescape(unit: str, expected: str) -> None:
    """Bytes that make no text stay as they are."""
    assert unescape(unit) == expected


PARTS = st.sampled_from(
    [
        ID,
        f"docker-{ID}.scope",
        f"pod{UID}",
        SLICE,
        "docker",
        "x.service",
        "lxc.payload.",
        ":",
        "\\x",
    ]
)


@given(st.lists(st.one_of(PARTS, st.text()), max_size=8))
def test_any_path(segments: list[str]) -> None:
    """Whatever a cgroup is called: an answer, and never a unit of what is in a container."""
    found = place("/".join(segments))
    assert not (found.container_id and found.unit)
    assert not found.pod_uid or found.container_id
