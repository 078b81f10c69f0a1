# SPDX-License-Identifier: Apache-2.0
"""The real compiler of bcc, in a child; and what is said when there is none, or it refuses."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from exporter.errors import CompilerError
from exporter.kernel import bcc_compiler
from exporter.kernel.bcc_compiler import NO_HEADERS, compile_programs

if TYPE_CHECKING:
    from pathlib import Path

RETURN_23 = bytes((0xB7, 0, 0, 0, 23, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))
MAP_FD = 0x18, 0x11
"""A load of 64 bits into r1, whose source is BPF_PSEUDO_MAP_FD (include/uapi/linux/bpf.h)."""


def test_program() -> None:
    """Source in, instructions out; without kernel headers, and without the caller's environment."""
    made = compile_programs(
        "test",
        "int number(void *ctx) { return NUMBER; }",
        ["-DNUMBER=23"],
        kernel_source=NO_HEADERS,
    )
    assert made.programs == {"number": RETURN_23}
    assert made.version


def test_map_of_ours() -> None:
    """A descriptor of ours reaches the kernel as it is."""
    text = """
    __u64 pseudo(__u64, __u64) asm("llvm.bpf.pseudo");
    static void *(*lookup)(void *, void *) = (void *)BPF_FUNC_map_lookup_elem;
    int look(void *ctx) { int key = 0; return !lookup((void *)pseudo(1, 4099), &key); }
    """
    code = compile_programs("test", text, [], kernel_source=NO_HEADERS).programs["look"]
    (load,) = [at for at in range(0, len(code), 8) if tuple(code[at : at + 2]) == MAP_FD]
    assert int.from_bytes(code[load + 4 : load + 8], "little") == 4099


def test_mistake() -> None:
    """The name, what clang says of it, and where."""
    text = "int first(void *ctx) { return 0; }\nint second(void *ctx) { return nothing; }\n"
    with pytest.raises(CompilerError) as caught:
        compile_programs("test.c", text, [], kernel_source=NO_HEADERS)
    assert "test.c: bcc " in str(caught.value)
    assert "main.c:2:" in str(caught.value)
    assert "error: use of undeclared identifier 'nothing'" in str(caught.value)


def test_many_mistakes() -> None:
    """A message has an end."""
    text = "".join(f"int f{n}(void *ctx) {{ return nothing{n}; }}\n" for n in range(17))
    with pytest.raises(CompilerError) as caught:
        compile_programs("test.c", text, [], kernel_source=NO_HEADERS)
    assert len(str(caught.value).splitlines()) == bcc_compiler.LINES + 1
    assert "lines omitted" in str(caught.value)


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install, and who has looked for it."""
    monkeypatch.setattr(bcc_compiler, "SYSTEM_PYTHON", "/usr/bin/nothing")
    if sys.prefix == sys.base_prefix:
        pytest.skip("this Python may see the system's bcc")
    with pytest.raises(CompilerError) as caught:
        compile_programs("test.c", "", [], kernel_source=NO_HEADERS)
    said = str(caught.value)
    assert said.startswith("bcc is missing: apt install python3-bpfcc (")
    assert f"{sys.executable}: No module named 'bcc'" in said
    assert "/usr/bin/nothing: No such file or directory" in said


def test_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that does not end is ended."""
    monkeypatch.setattr(bcc_compiler, "SECONDS", 0.01)
    begun = time.monotonic()
    with pytest.raises(CompilerError, match="took longer than"):
        compile_programs("test.c", "", [], kernel_source=NO_HEADERS)
    assert time.monotonic() - begun < 5


def test_no_privileges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiles has no capabilities any more when it turns to bcc, and can't get any."""
    (tmp_path / "bcc.py").write_text(
        "wanted = ('CapEff', 'CapPrm', 'NoNewPrivs')\n"
        "found = [line for line in open('/proc/self/status') if line.startswith(wanted)]\n"
        "raise ImportError(' '.join(' '.join(found).split()))\n"
    )
    child = bcc_compiler.CHILD.read_text()
    first, _, rest = child.partition("import sys\n")
    spying = tmp_path / "child.py"
    spying.write_text(f"{first}import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{rest}")
    monkeypatch.setattr(bcc_compiler, "CHILD", spying)
    with pytest.raises(CompilerError) as caught:
        compile_programs("test.c", "", [], kernel_source=NO_HEADERS)
    nothing = "0" * 16
    assert f"CapPrm: {nothing} CapEff: {nothing} NoNewPrivs: 1" in str(caught.value)
