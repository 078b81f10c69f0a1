# SPDX-License-Identifier: Apache-2.0
"""The bcc loader: where members are, what it loads, and what it does not hide.

That it counts exactly is shown by the others, with NETATOP_LOADER=bcc: here are few of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter import self_test
from exporter.errors import CompilerError, LoadError, UnsupportedKernelError
from exporter.kernel import bcc_compiler, bcc_loader, choice, layouts, members, portable
from exporter.kernel.core_object import Options
from exporter.kernel.kernel_headers import CHOSEN
from exporter.kernel.kinds import ProgramType
from exporter.kernel.members import NOT_THERE, UNDECLARED
from exporter.kernel.portable import Hook, Program
from exporter.kernel.portable_tracer import PortableTracer
from tests import headers
from tests.kernel.lab import open_lab, readable, total
from tests.kernel.scenarios import SCENARIOS

pytestmark = pytest.mark.kernel

NOTHING = bytes((0x95, 0, 0, 0, 0, 0, 0, 0))
"""exit, without a result: the verifier refuses it (RFC 9669)."""


EXACT = (
    "TCP,-full-duplex",
    "TCP,-31-pairs-of-processes-at-once",
    "UDP,-100,000-small-datagrams",
    "UDP-connected,-each-datagram-answered",
    "raw-sockets,-protocol-253",
)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str, family: int) -> None:
    """Each process has what nftables has counted in its namespace, to the packet and the byte."""
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    with open_lab(traced=False) as lab, choice.open_tracer(Options(), choice.BCC) as lab.tracer:
        start = lab.read()
        cast = scenario.play(lab, family)
        passed = lab.since(start)
    for pids, end in ((cast.left, lab.left), (cast.right, lab.right)):
        carried = total(passed.processes[pid] for pid in pids)
        seen = passed.seen[end.namespace]
        assert any(seen)
        assert readable(carried, scenario.protocol) == readable(seen, scenario.protocol)
    assert passed.lost == {}


@pytest.mark.parametrize("owners", portable.OWNERS)
def test_every_program(owners: str) -> None:
    """The kernel takes all of each set of hooks, but for the iterator, which needs its types."""
    wanted = portable.programs(owners)
    settings = layouts.PortableSettings(*[0] * len(layouts.PortableSettings._fields))
    held = bcc_loader.load(portable.Blueprint(owners, settings, portable.maps(1009, 0), wanted))
    loaded = set(held.programs)
    held.close()
    assert loaded == {program.name for program in wanted if program.hook is not Hook.ITERATOR}


@pytest.fixture
def by_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have headers of this kernel."""
    monkeypatch.setenv(CHOSEN, str(headers.make(tmp_path)))
    members.from_headers.cache_clear()


@pytest.mark.usefixtures("by_headers")
def test_places() -> None:
    """Headers and type information say the same of every member that is read."""
    by_types, by_headers = members.from_types(), dict(members.from_headers())
    for member in members.listed():
        if member.struct in UNDECLARED:
            macro = f"OFFSET_{member.name}"
            assert (by_headers.pop(macro) == NOT_THERE) == (by_types.pop(macro) == NOT_THERE)
    assert by_headers == by_types
    assert len(by_types) > 40


@pytest.mark.usefixtures("by_headers")
def test_member_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out, and the others are found."""
    listed = (members.Member("task_struct", "pod", "task_pod"), *members.listed())
    monkeypatch.setattr(members, "listed", lambda: listed)
    for found in (members.from_types(), members.from_headers()):
        assert found["OFFSET_task_pod"] == NOT_THERE
        assert found["OFFSET_task_tgid"] > 0


@pytest.mark.usefixtures("by_headers")
def test_by_headers() -> None:
    """What was compiled with these places counts exactly."""

    def load(blueprint: portable.Blueprint) -> bcc_loader.Descriptors:
        return bcc_loader.load(blueprint, use_types=False)

    with PortableTracer(Options(), load, "bcc") as tracer:
        verdict = self_test.run(tracer)
        assert verdict.passed, verdict


def test_without_later_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Linux 5.5 and 5.8 have brought has a substitute."""
    monkeypatch.setattr(bcc_loader, "_has_helper", lambda _: False)
    with choice.open_tracer(Options(), choice.BCC) as tracer:
        verdict = self_test.run(tracer)
        assert verdict.passed, verdict


def test_headers_of_another_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found out before anything is loaded."""
    monkeypatch.setenv(CHOSEN, str(headers.make(tmp_path, "6.1.0-53-amd64")))
    members.from_headers.cache_clear()
    before = {file.name for file in Path("/proc/self/fd").iterdir()}
    blueprint = portable.Blueprint(
        "cgroup",
        layouts.PortableSettings(*[0] * len(layouts.PortableSettings._fields)),
        portable.maps(1009, 0),
        portable.programs("cgroup"),
    )
    with pytest.raises(CompilerError) as caught:
        bcc_loader.load(blueprint, use_types=False)
    assert f"{tmp_path} holds those of 6.1.0-53-amd64" in str(caught.value)
    assert f"apt install linux-headers-{os.uname().release}" in str(caught.value)
    assert {file.name for file in Path("/proc/self/fd").iterdir()} == before


def test_refused() -> None:
    """The program, and the last that the verifier has said; one that can be spared is left out."""
    needed = Program("needed", ProgramType.RAW_TRACEPOINT, Hook.RAW_TRACEPOINT)
    with pytest.raises(LoadError) as caught:
        bcc_loader._load_program(needed, NOTHING)
    said = str(caught.value)
    assert "portable.bpf.c: program needed: the kernel refused it: EACCES" in said
    assert "R0 !read_ok" in said
    assert bcc_loader._load_program(needed._replace(without="a loss"), NOTHING) is None


def test_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What clang says of the source is quoted; nothing is loaded."""
    for file in bcc_compiler.SOURCES.glob("*.[ch]"):
        (tmp_path / file.name).write_text(file.read_text())
    shell = tmp_path / bcc_loader.SOURCE
    shell.write_text(shell.read_text().replace("return count(", "return counts("))
    monkeypatch.setattr(bcc_compiler, "SOURCES", tmp_path)
    with pytest.raises(CompilerError, match=r"portable\.bpf\.c: bcc .* can't compile it") as caught:
        choice.open_tracer(Options(), choice.BCC)
    assert "counts" in str(caught.value)


def test_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours ends it; bcc is not even tried."""
    monkeypatch.setattr(bcc_loader, "load", lambda _: pytest.fail("bcc was tried"))
    broken = tmp_path / "netatop.bpf.o"
    broken.write_bytes(b"no object")
    with pytest.raises(LoadError, match=str(broken)):
        choice.open_tracer(Options(object_path=broken))


def test_both_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no loader works, the message says why of each; with one that was chosen, of that."""

    def refuse(_: Options) -> None:
        message = "the kernel is too old"
        raise UnsupportedKernelError(message)

    monkeypatch.setattr(choice, "_open_core", refuse)
    monkeypatch.setattr(bcc_compiler, "SYSTEM_PYTHON", "/usr/bin/nothing")
    monkeypatch.setattr(bcc_compiler.sys, "executable", "/usr/bin/nothing")
    bcc_loader._compile.cache_clear()
    with pytest.raises(UnsupportedKernelError) as caught:
        choice.open_tracer(Options())
    said = str(caught.value)
    assert said.startswith("no loader works here; core: the kernel is too old; bcc: bcc is missing")
    assert "apt install python3-bpfcc" in said
    with pytest.raises(UnsupportedKernelError, match=r"^the kernel is too old$"):
        choice.open_tracer(Options(), choice.CORE)
