# SPDX-License-Identifier: Apache-2.0
"""The matrix of kernels, as far as it needs none: the list, the images, the results, the page."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.kernels import archive, image, page, results
from tests.kernels.kernel import CHECKOUT, Kernel, every, named
from tests.kernels.machine import Ended
from tests.kernels.suites import ALL, FEW

if TYPE_CHECKING:
    from pathlib import Path

KERNEL = Kernel("6.1", "a suite")
OLD = Kernel("5.10", "a suite", refused="atomic operations")
ELF = image.ELF + bytes(range(256)) * 41
FACTS = {
    "release": "6.1.0-56",
    "loader": "core",
    "owners": "fentry",
    "walk": "walk_sockets",
    "attached": ["count_receive"],
    "missing": {"drop_stray": "strays"},
    "self_test": {"passed": True, "said": "well"},
    "doctor": 0,
}
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.kernel.test_gap" name="one"/>
<testcase classname="tests.kernel.test_gap" name="two"><skipped message="loss: RSTs"/></testcase>
<testcase classname="tests.kernel.test_gap" name="three"><skipped message="no reason"/></testcase>
<testcase classname="tests.e2e.test_exits" name="four"><failure message="1 == 2&#10;x"/></testcase>
</testsuite></testsuites>"""


def _ended(status: int | None = 0) -> Ended:
    return Ended(status, 7.4, "the console\n[1.0] Kernel panic\n", "")


def test_page() -> None:
    """The page is what the results say: `make kernels` writes both."""
    kept = results.load()
    assert page.PAGE.read_text() == page.page(kept[k.label] for k in every() if k.label in kept)


def test_every_kernel() -> None:
    """Each of the list has been booted, and was as it should be."""
    kept = results.load()
    assert list(kept) == [kernel.label for kernel in every()]
    assert {label for label, row in kept.items() if not row.works(named([label])[0])} == set()


@pytest.mark.parametrize("test", sorted({*ALL, *FEW}))
def test_suites(test: str) -> None:
    """What is chosen is there, by its file and function."""
    file, _, name = test.partition("::")
    assert f"\ndef {name.partition('[')[0]}(" in (CHECKOUT / file).read_text()


def test_unknown_label() -> None:
    """It is named, and so is what is accepted."""
    with pytest.raises(ValueError, match=r"kernel 4\.1: not in kernels\.toml; accepted are 5\.10"):
        named(["6.1", "4.1"])


def test_loaders() -> None:
    """A kernel with two loaders, and under lockdown, is three rows: one place, three names."""
    core, bcc, locked = (kernel for kernel in every() if kernel.series == "6.1")
    assert (core.label, bcc.label, locked.label) == ("6.1", "6.1-bcc", "6.1-confidentiality")
    assert core.place == bcc.place == locked.place
    assert bcc == core._replace(loader="bcc")
    assert named(["6.1-bcc"]) == (bcc,)


def test_newest() -> None:
    """By number, not by letter; of the same series and flavour only."""
    releases = ["6.1.0-9", "6.1.0-56", "6.12.117+deb12", "6.1.0-99-cloud-amd64-dbg"]
    names = [name if name.endswith("dbg") else f"{name}-cloud-amd64" for name in releases]
    assert (
        archive.newest("6.1", [*names, "6.1.0-57-rt-amd64", "6.1.0-98-amd64"])
        == "6.1.0-56-cloud-amd64"
    )
    assert archive.newest("5.4", names) == ""


def _image(payload: bytes) -> bytes:
    """Return a bzImage of two sectors of setup."""
    data = payload + struct.pack("<I", len(ELF))
    head = bytearray(2 * image.SECTOR + 7)
    head[image.SETUP_SECTORS] = 1
    head[image.MAGIC : image.MAGIC + 4] = b"HdrS"
    struct.pack_into("<II", head, image.PAYLOAD, 7, len(data))
    return bytes(head) + data + bytes(23)


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, bytes])
def test_unpack(pack: type) -> None:
    """However it is compressed, the ELF file comes out, whole."""
    assert image.unpack(_image(pack(ELF))) == ELF


def test_unpack_something_else() -> None:
    """What is no kernel is refused, with what was found."""
    with pytest.raises(ValueError, match="accepted is a bzImage"):
        image.unpack(bytes(4099))
    with pytest.raises(ValueError, match="accepted is ELF"):
        image.unpack(_image(bytes(len(ELF))))


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox, to read the archive with")
def test_archive(tmp_path: Path) -> None:
    """Another program reads it as it was meant."""
    files = {"bin/one": b"1", "two": bytes(4099), "three": b"123"}
    data = image.archive(("bin",), files)
    subprocess.run(
        ("busybox", "cpio", "-i"), input=data, cwd=tmp_path, check=True, capture_output=True
    )
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_read(tmp_path: Path) -> None:
    """Tests are counted by module; a skip that is no loss is a failure."""
    (tmp_path / "facts.json").write_text(json.dumps(FACTS))
    (tmp_path / "junit.xml").write_text(JUNIT)
    row = results.read(KERNEL, tmp_path, _ended(1))
    assert row.suites == {"exits": {"failed": 1}, "gap": {"lost": 1, "passed": 1, "skipped": 1}}
    assert row.losses == {"gap: two": "RSTs"}
    assert row.failures == {
        "exits: four": "1 == 2",
        "gap: three": "skipped: no reason",
    }
    assert (row.release, row.seconds, row.works(KERNEL)) == ("6.1.0-56", 7, False)
    file = tmp_path / "results.json"
    results.save([row], file)
    assert results.load(file) == {"6.1": row}


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({}, 0, ""),
        ({"doctor": 1}, 0, "doctor: exit status 1"),
        ({"self_test": {"passed": None, "said": "a firewall"}}, 0, "self-test: a firewall"),
        ({}, None, "the suite did not come to its end"),
        ({}, 4, "pytest: exit status 4"),
    ],
)
def test_broken(tmp_path: Path, change: dict[str, object], status: int | None, said: str) -> None:
    """Whatever goes wrong beside the tests is said, and the kernel does not pass."""
    (tmp_path / "facts.json").write_text(json.dumps(FACTS | change))
    case = ET.tostring(ET.Element("testcase", classname="tests.kernel.test_gap", name="one"))
    (tmp_path / "junit.xml").write_bytes(b"<testsuites>" + case + b"</testsuites>")
    row = results.read(KERNEL, tmp_path, _ended(status))
    assert (row.broken, row.works(KERNEL)) == (said, not said)


def test_no_result(tmp_path: Path) -> None:
    """A guest that dies has its last words in the table."""
    row = results.read(KERNEL, tmp_path, _ended(None))
    assert row.broken == "no result: [1.0] Kernel panic"
    assert not row.works(KERNEL)


@pytest.mark.parametrize(
    ("kind", "said", "works"),
    [
        ("UnsupportedKernelError", "atomic operations: too old", True),
        ("UnsupportedKernelError", "something else", False),
        ("LoadError", "atomic operations: refused", False),
    ],
)
def test_refused(tmp_path: Path, kind: str, said: str, works: bool) -> None:
    """Only the right error, for the right reason, is what should be; and only where it should."""
    error = {"release": "5.10", "error": {"kind": kind, "said": said}}
    (tmp_path / "facts.json").write_text(json.dumps(error))
    row = results.read(OLD, tmp_path, _ended(1))
    assert row.works(OLD) == works
    assert not row.works(KERNEL)
