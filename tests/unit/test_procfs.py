# SPDX-License-Identifier: Apache-2.0
"""What /proc says: real processes, and a made-up /proc for what can't be provoked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import procfs
from exporter.procfs import TICK_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = ["-c", "import sys; print(flush=True); sys.stdin.read()", "word with spaces", "a\nb"]


def start_ns(pid: int) -> int:
    """Return when a process was started, as the kernel side tells it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[19]) * TICK_NS + 7


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with hostile words on its command line."""
    with subprocess.Popen(
        [sys.executable, *WORDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        if process.stdin:
            process.stdin.close()


NOTHING = ("", "", ())


def read(pid: int, start: int, root: Path = procfs.PROC) -> tuple[str, str, tuple[str, ...]]:
    """Return all that is read of a process."""
    return (
        procfs.executable(pid, start, root),
        procfs.command_line(pid, start, root),
        procfs.legacy_cgroups(pid, start, root),
    )


def test_a_process(child: subprocess.Popen[bytes]) -> None:
    """Executable and command line, whatever it looks like."""
    executable, words, cgroups = read(child.pid, start_ns(child.pid))
    assert executable == str(Path(sys.executable).resolve())
    assert words == " ".join([sys.executable, *WORDS]).replace("\n", "\ufffd")
    legacy = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    assert len(cgroups) == sum(not line.startswith("0:") for line in legacy)


def test_another_process_with_that_pid(child: subprocess.Popen[bytes]) -> None:
    """It has another start: nothing is said of it."""
    start = start_ns(child.pid)
    for other in (start - 2 * TICK_NS, start + TICK_NS):
        assert read(child.pid, other) == NOTHING


def test_a_process_that_has_ended(child: subprocess.Popen[bytes]) -> None:
    """While it is a zombie, and when it is gone."""
    start = start_ns(child.pid)
    assert child.stdin
    child.stdin.close()
    while "Z" not in Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8"):
        time.sleep(0.01)
    assert read(child.pid, start)[:2] == ("", "")
    child.wait()
    assert read(child.pid, start) == NOTHING


def test_what_can_not_be_provoked(tmp_path: Path) -> None:
    """A file that is gone, or empty, in the middle of it."""
    own = tmp_path / "7"
    own.mkdir()
    assert read(7, 0, tmp_path) == NOTHING
    (own / "stat").write_text("7 (a) b) S " + "1 " * 30, encoding="utf-8")
    assert read(7, TICK_NS, tmp_path) == NOTHING
    (own / "cmdline").write_bytes(b"x\0" * 5000)
    (own / "exe").symlink_to(b"/bin/\xff\n (deleted)")
    (own / "cgroup").write_text("3:cpu:/b\n1:name=systemd:/a:c\n0::/d\n", encoding="utf-8")
    executable, words, cgroups = read(7, TICK_NS, tmp_path)
    assert executable == "/bin/\ufffd\ufffd"
    assert len(words) == procfs.COMMAND_LINE_BYTES - 1
    assert cgroups == ("/a:c", "/b")


def test_many_hierarchies(tmp_path: Path) -> None:
    """A dozen paths of 4 kB are read whole; a line that is none is passed over."""
    own = tmp_path / "7"
    own.mkdir()
    (own / "stat").write_text("7 (a) S " + "1 " * 30, encoding="utf-8")
    paths = [f"/{'x' * 4000}{number}" for number in range(12)]
    lines = "".join(f"{n}:c{n}:{path}\n" for n, path in enumerate(paths, 1))
    (own / "cgroup").write_text(f"{lines}7:", encoding="utf-8")
    assert read(7, TICK_NS, tmp_path)[2] == tuple(paths)


def test_hierarchies(tmp_path: Path) -> None:
    """A host with version 2 only has one line."""
    for text, legacy in (("0::/\n", False), ("0::/\n1:name=systemd:/\n", True), ("", False)):
        (tmp_path / "cgroup").write_text(text, encoding="utf-8")
        assert procfs.has_legacy_cgroups(tmp_path / "cgroup") == legacy


def test_users() -> None:
    """By name; those without one by number."""
    assert procfs.user(os.getuid()) == "root" or os.getuid()
    assert procfs.user(3_999_999_999) == "3999999999"


def test_own(tmp_path: Path) -> None:
    """By the pid; in a PID namespace, where the kernel side has another one, by name and start."""
    own, start = os.getpid(), start_ns(os.getpid())
    name = Path("/proc/self/comm").read_text(encoding="utf-8").removesuffix("\n")
    assert procfs.is_own(own, start, name)
    inside = tmp_path / "self"
    (inside / "ns").mkdir(parents=True)
    (inside / "ns" / "pid").touch()
    for file in ("stat", "comm"):
        (inside / file).write_bytes(Path("/proc/self", file).read_bytes())
    assert procfs.is_own(own + 1, start, name, tmp_path)
    for other in ((own + 1, start + TICK_NS, name), (own + 1, start, f"{name}x")):
        assert not procfs.is_own(*other, tmp_path)
