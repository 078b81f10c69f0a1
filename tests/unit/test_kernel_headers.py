# SPDX-License-Identifier: Apache-2.0
"""The kernel's headers are found, and those of another kernel are found out."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest

from exporter.errors import CompilerError
from exporter.kernel import kernel_headers
from exporter.kernel.kernel_headers import CHOSEN, RELEASE, prepared

if TYPE_CHECKING:
    from pathlib import Path

OURS = "6.1.0-53-amd64"
OTHER = "6.1.0-52-amd64"
MEND = f"apt install linux-headers-{OURS}"


def headers(place: Path, release: str) -> Path:
    """Make as much of a directory of headers as tells whose they are."""
    file = place / RELEASE
    file.parent.mkdir(parents=True)
    file.write_text(f'#define UTS_RELEASE "{release}"\n')
    return place


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have none at first; return where those of the release belong."""
    monkeypatch.delenv(CHOSEN, raising=False)
    monkeypatch.setattr(kernel_headers, "MODULES", tmp_path / "modules")
    monkeypatch.setattr(kernel_headers, "ARCHIVE", tmp_path / "kheaders.tar.xz")
    return tmp_path / "modules" / OURS / "build"


def test_installed(nowhere: Path) -> None:
    """Where the distribution puts them, bcc finds them itself."""
    headers(nowhere, OURS)
    with prepared(OURS) as place:
        assert place is None


def test_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable comes first."""
    chosen = headers(tmp_path / "mine", OURS)
    monkeypatch.setenv(CHOSEN, str(chosen))
    with prepared(OURS) as place:
        assert place == chosen


def test_archive(tmp_path: Path) -> None:
    """What the kernel itself has packed is unpacked, and gone in the end."""
    with tarfile.open(tmp_path / "kheaders.tar.xz", "w:xz") as archive:
        archive.add(headers(tmp_path / "packed", OURS), ".")
    with prepared(OURS) as place:
        assert place
        assert OURS in (place / RELEASE).read_text()
    assert not place.exists()


def test_none() -> None:
    """What is missing, why it is needed, and both ways to mend it."""
    with pytest.raises(CompilerError) as caught, prepared(OURS):
        pass
    said = str(caught.value)
    assert f"no {kernel_headers.MODULES / OURS / 'build'}" in said
    assert MEND in said
    assert "modprobe kheaders" in said


def test_of_another_version(nowhere: Path) -> None:
    """Both versions, the one that was found and the one that is needed."""
    headers(nowhere, OTHER)
    with pytest.raises(CompilerError) as caught, prepared(OURS):
        pass
    assert str(caught.value) == (
        f"kernel headers: {nowhere} holds those of {OTHER}, and {OURS} is running; {MEND}"
    )


def test_chosen_is_no_directory_of_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source tree that was never configured says nothing of itself."""
    monkeypatch.setenv(CHOSEN, str(tmp_path))
    with pytest.raises(CompilerError) as caught, prepared(OURS):
        pass
    assert f"{tmp_path / RELEASE}: No such file or directory" in str(caught.value)
    assert MEND in str(caught.value)
