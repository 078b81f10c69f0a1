# SPDX-License-Identifier: Apache-2.0
"""Objects for another machine differ from this one's in the registers of a system call alone."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from exporter.errors import UnsupportedKernelError
from exporter.kernel import layouts, libbpf, machine
from exporter.kernel.libbpf import describe, open_library
from tests.network import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

BPF = Path(__file__).parents[2] / "bpf"
MACHINES = ("arm64", "x86")
OBJECTS = ("netatop", "portable", "forward", "watch")
REGISTERS = {"netatop": {"cgroup/getsockopt"}, "portable": {"kprobe", "kretprobe"}}
"""The sections that look into registers."""
EM_BPF = 247
EXECUTABLE = 4
"""SHF_EXECINSTR (elf(5))."""


class Objects(NamedTuple):
    """What was compiled for each machine."""

    folder: Path

    def path(self, name: str, wanted: str) -> Path:
        return self.folder / wanted / f"{name}.bpf.o"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Compile all objects for all machines, with this one's headers."""
    folder = tmp_path_factory.mktemp("machines")
    for wanted in MACHINES:
        (folder / wanted).mkdir()
        run(
            "make",
            "--no-print-directory",
            "-C",
            str(BPF),
            f"ARCH={wanted}",
            f"OUT={folder / wanted}",
        )
    return Objects(folder)


class Opened(NamedTuple):
    """What libbpf finds in an object."""

    maps: dict[str, tuple[int, ...]]
    programs: dict[str, str]
    fingerprint: bytes


def _opened(path: Path) -> Opened:
    bpf = open_library()

    def failed(code: int) -> AssertionError:
        return AssertionError(f"{path}: {describe(code)}")

    with bpf.capture():
        handle = bpf.pointer("bpf_object__open_file", bytes(path), None, error=failed)
    try:
        sizes = (bpf.bpf_map__key_size, bpf.bpf_map__value_size, bpf.bpf_map__max_entries)
        maps = {
            bpf.bpf_map__name(found).decode(): tuple(size(found) for size in sizes)
            for found in _each(bpf.bpf_object__next_map, handle)
        }
        programs = {
            bpf.bpf_program__name(found).decode(): bpf.bpf_program__section_name(found).decode()
            for found in _each(bpf.bpf_object__next_program, handle)
        }
        data = bpf.pointer("bpf_object__find_map_by_name", handle, b".rodata", error=failed)
        size = ctypes.c_size_t()
        start = bpf.bpf_map__initial_value(data, ctypes.byref(size))
        return Opened(maps, programs, ctypes.string_at(start, 4))
    finally:
        bpf.bpf_object__close(handle)


def _each(following: Any, handle: int) -> Iterator[int]:
    found = following(handle, None)
    while found:
        yield found
        found = following(handle, found)


def _code(path: Path) -> dict[str, bytes]:
    """Return the instructions of an object, by section (elf(5))."""
    elf = path.read_bytes()
    # An object of 64 bits, little-endian, for BPF.
    assert elf[:6] == b"\x7fELF\2\1"
    assert struct.unpack_from("<H", elf, 18) == (EM_BPF,)
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    strings = headers[names][4]
    return {
        elf[strings + name : elf.index(0, strings + name)].decode(): elf[start : start + length]
        for name, _, flags, _, start, length in headers
        if flags & EXECUTABLE and length
    }


@pytest.mark.parametrize("name", OBJECTS)
def test_same_object(objects: Objects, name: str) -> None:
    """Either opens in libbpf, with the same tables, programs, hooks and layouts."""
    found = {wanted: _opened(objects.path(name, wanted)) for wanted in MACHINES}
    assert found["arm64"] == found["x86"]
    assert found["arm64"].maps
    assert found["arm64"].programs
    assert found["arm64"].fingerprint == struct.pack("<I", layouts.FINGERPRINT)


@pytest.mark.parametrize("name", OBJECTS)
def test_same_code(objects: Objects, name: str) -> None:
    """Every program is the same, byte by byte, but those that read registers."""
    arm64, x86 = (_code(objects.path(name, wanted)) for wanted in MACHINES)
    assert arm64.keys() == x86.keys()
    different = {section for section, code in arm64.items() if code != x86[section]}
    assert different == REGISTERS.get(name, set())


def test_registers(objects: Objects) -> None:
    """The registers are those of the machine, and no others are in the object's types."""
    for wanted, members in (
        ("arm64", {"regs", "syscallno"}),
        ("x86", {"ax", "cx", "di", "dx", "orig_ax", "r10", "si"}),
    ):
        text = run("bpftool", "btf", "dump", "file", str(objects.path("netatop", wanted)))
        (block,) = re.findall(r"STRUCT 'pt_regs'.*\n((?:\t.*\n)*)", text)
        assert set(re.findall(r"'(\w+)' type_id", block)) == members


def test_installed(objects: Objects) -> None:
    """The object that is installed is this machine's."""
    mine = {"x86_64": "x86", "aarch64": "arm64"}[os.uname().machine]
    installed = Path(layouts.__file__).with_name("netatop.bpf.o")
    assert _code(installed) == _code(objects.path("netatop", mine))


# Where it runs


def test_this_machine() -> None:
    """Where the tests run it is accepted."""
    machine.check()


@pytest.mark.parametrize(
    ("name", "order", "found"),
    [
        ("s390x", "big", "machine s390x: found big-endian, 64 bits; "),
        ("aarch64_be", "big", "machine aarch64_be: found big-endian, 64 bits; "),
        ("aarch64", "big", "machine aarch64: found big-endian, 64 bits; "),
        ("riscv64", "little", "machine riscv64: found little-endian, 64 bits; "),
    ],
)
def test_other_machines(monkeypatch: pytest.MonkeyPatch, name: str, order: str, found: str) -> None:
    """They are refused by name, before libbpf is looked for."""
    host = os.uname()
    monkeypatch.setattr(sys, "byteorder", order)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*host[:4], name)))
    with pytest.raises(UnsupportedKernelError) as caught:
        libbpf.Libbpf()
    assert str(caught.value).startswith(found)
    assert "accepted are aarch64 and x86_64, little-endian" in str(caught.value)
