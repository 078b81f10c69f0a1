# SPDX-License-Identifier: Apache-2.0
"""Capabilities and lockdown as the kernel prints them."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import pytest

from exporter.errors import MissingCapabilityError
from exporter.kernel import host

if TYPE_CHECKING:
    from pathlib import Path

NET_ADMIN, SYS_ADMIN, PERFMON, BPF = 1 << 12, 1 << 21, 1 << 38, 1 << 39


@pytest.mark.parametrize(
    ("mask", "missing"),
    [
        (0, ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
        (NET_ADMIN | PERFMON | BPF, []),
        (NET_ADMIN | SYS_ADMIN, []),
        (SYS_ADMIN, ["CAP_NET_ADMIN"]),
        (NET_ADMIN | BPF, ["CAP_PERFMON"]),
    ],
)
def test_missing_capabilities(mask: int, missing: list[str]) -> None:
    """CAP_SYS_ADMIN stands for the two that were split off it."""
    assert host.missing_capabilities(mask) == missing


def test_effective_capabilities(tmp_path: Path) -> None:
    """The line of the status file, as hexadecimal."""
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapPrm:\tffff\nCapEff:\t000001c000001000\nCapBnd:\t0\n")
    assert host.effective_capabilities(status) == 0x1C000001000


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EPERM, "EPERM"),
        (errno.ENOSYS, "ENOSYS"),
        (errno.EINVAL, None),  # the kernel itself: it knows no such command
    ],
)
def test_a_filter_of_system_calls(
    code: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has all capabilities and may not call bpf(2) is told so, not that one is missing."""

    def refuse(*_: object) -> int:
        raise OSError(code, "")

    monkeypatch.setattr(host, "bpf", refuse)
    monkeypatch.setattr(host, "missing_capabilities", lambda **_: [])
    with (
        pytest.raises(MissingCapabilityError, match=rf"bpf\(2\) is refused \({said}\)")
        if said
        else contextlib.nullcontext()
    ):
        host.require_capabilities("a test")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("rubbish", None),
        (None, None),
    ],
)
def test_lockdown(tmp_path: Path, text: str | None, mode: str | None) -> None:
    """The mode in brackets; without the file it can't be told."""
    path = tmp_path / "lockdown"
    if text is not None:
        path.write_text(text)
    assert host.lockdown(path) == mode
