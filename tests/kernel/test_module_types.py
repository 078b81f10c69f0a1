# SPDX-License-Identifier: Apache-2.0
"""What a kernel may lack may be lacking, also for those who may not know which modules it has."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.kernel import capabilities, layouts
from exporter.kernel.capabilities import Capability
from exporter.kernel.own_object import OwnObject
from tests.network import run
from tests.workload import wait_until

if TYPE_CHECKING:
    from collections.abc import Collection

pytestmark = pytest.mark.kernel

SOURCE = Path(__file__).with_name("missing.bpf.c")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile a program that would call a function if the kernel had it."""
    target = tmp_path_factory.mktemp("missing") / "missing.bpf.o"
    machine = os.uname().machine
    run(
        *("clang", "-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"),
        *("-D__TARGET_ARCH_" + {"x86_64": "x86", "aarch64": "arm64"}[machine],),
        *("-idirafter", f"/usr/include/{machine}-linux-gnu", "-c", str(SOURCE), "-o", str(target)),
    )
    return target


def _filters() -> set[str]:
    """Return how our threads are filtered (proc_pid_status(5), Seccomp_filters)."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            text = (task / "status").read_text()
            found.add(text.partition("Seccomp_filters:")[2].split()[0])
    return found


@pytest.mark.parametrize("lacking", [(), (Capability.CAP_SYS_ADMIN,)], ids=["root", "less"])
def test_missing_function(compiled: Path, lacking: Collection[Capability]) -> None:
    """It loads, and no thread that goes on has another filter than before."""
    before = _filters()

    def load() -> list[str]:
        with OwnObject(compiled, struct.pack("<I", layouts.FINGERPRINT), {}) as loaded:
            assert all(loaded.bpf.bpf_program__fd(program) >= 0 for _, program in loaded.programs())
            return [name for name, _ in loaded.programs()]

    assert capabilities.try_without(lacking, load) == ["count"]
    wait_until(lambda: _filters() == before, "the thread that has loaded is gone")
