# SPDX-License-Identifier: Apache-2.0
"""Names of pods, from directories as the kubelet makes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter import pods
from exporter.pods import Names, Pods

if TYPE_CHECKING:
    from pathlib import Path

ID = "0123456789abcdef" * 4
UID = "6eb5044d-ef2e-49d1-a9cc-28f4e3fe88a3"
STATIC = "0123456789abcdef" * 2


class Kubelet:
    """Makes what the kubelet makes."""

    def __init__(self, root: Path) -> None:
        self.links, self.directories = root / "containers", root / "pods"
        self.links.mkdir()
        self.directories.mkdir()
        self.pods = Pods(str(self.links), str(self.directories))

    def link(self, name: str) -> None:
        """Make the link to a log."""
        (self.links / name).symlink_to("/nowhere")

    def directory(self, name: str) -> None:
        """Make the directory of a pod."""
        (self.directories / name).mkdir()


@pytest.fixture
def kubelet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubelet:
    """Return an empty one, whose directories may be listed all the time."""
    monkeypatch.setattr(pods, "REST_SECONDS", 0.0)
    return Kubelet(tmp_path)


@pytest.mark.parametrize(
    ("link", "names"),
    [
        (f"web-7d9f_shop_app-{ID}.log", Names("app", "web-7d9f", "shop")),
        (f"a.b_c-d_e-f-{ID}.log", Names("e-f", "a.b", "c-d")),
        (f"web_shop_app-{ID[:40]}.log", None),
        (f"web_shop_app-{ID}", None),
        (f"web_shop-{ID}.log", None),
        ("README", None),
    ],
)
def test_links(kubelet: Kubelet, link: str, names: Names | None) -> None:
    """POD_NAMESPACE_CONTAINER-ID.log; one that was cut is no name."""
    kubelet.link(link)
    assert kubelet.pods.find(ID, "") == names


@pytest.mark.parametrize("uid", [UID, STATIC])
def test_directories(kubelet: Kubelet, uid: str) -> None:
    """NAMESPACE_POD_UID, where there is no link: the container has no name then."""
    kubelet.directory(f"shop_web-7d9f_{uid}")
    kubelet.directory("lost+found")
    assert kubelet.pods.find(ID, uid) == Names("", "web-7d9f", "shop")
    kubelet.link(f"web-7d9f_shop_app-{ID}.log")
    assert kubelet.pods.find(ID, uid) == Names("app", "web-7d9f", "shop")


def test_generations(kubelet: Kubelet) -> None:
    """They count up when there may be something to learn, and only then."""
    kubelet.pods.find(ID, UID)
    long_ago = 1_000_000_000
    for path in (kubelet.links, kubelet.directories):
        os.utime(path, (long_ago, long_ago))
    kubelet.pods.refresh()
    before = kubelet.pods.generation
    kubelet.pods.refresh()
    assert kubelet.pods.generation == before
    kubelet.link(f"web_shop_app-{ID}.log")
    kubelet.pods.refresh()
    assert kubelet.pods.generation == before + 1


def test_two_changes_within_one_tick(kubelet: Kubelet) -> None:
    """The directory's time is the same after the second one, and the name is found all the same."""
    kubelet.link("README")
    kubelet.pods.refresh()
    changed = kubelet.links.stat().st_mtime_ns
    kubelet.link(f"web_shop_app-{ID}.log")
    os.utime(kubelet.links, ns=(changed, changed))
    assert kubelet.pods.find(ID, "")


def test_a_known_name_costs_nothing(kubelet: Kubelet) -> None:
    """And stays known when the directories can't be read any more."""
    kubelet.link(f"web_shop_app-{ID}.log")
    names = kubelet.pods.find(ID, "")
    kubelet.links.rename(kubelet.links.with_name("gone"))
    kubelet.pods.refresh()
    assert kubelet.pods.find(ID, "") == names == Names("app", "web", "shop")


def test_no_kubelet(tmp_path: Path) -> None:
    """Most hosts have none."""
    found = Pods(str(tmp_path / "a"), str(tmp_path / "b"))
    assert found.find(ID, UID) is None


def test_not_too_often(tmp_path: Path) -> None:
    """A thousand unknown containers list the directories once a second."""
    kubelet = Kubelet(tmp_path)
    assert kubelet.pods.find(ID, "") is None
    kubelet.link(f"web_shop_app-{ID}.log")
    assert kubelet.pods.find(ID, "") is None
