# SPDX-License-Identifier: Apache-2.0
"""What every test may need."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Their assertions speak, too.
pytest.register_assert_rewrite("tests.kernel.lab", "tests.workload")

from tests import needs  # noqa: E402
from tests.e2e import attachments  # noqa: E402
from tests.workload import wait_until  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

BTF = Path("/sys/kernel/btf/vmlinux")
OBJECT = Path(__file__).parents[1] / "exporter/kernel/netatop.bpf.o"


def _missing() -> str:
    """Say what stands in the way of a kernel test, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not BTF.exists():
        return f"needs a kernel with type information: {BTF} does not exist"
    if not OBJECT.exists():
        return f"{OBJECT.name} is not built: make -C bpf"
    return ""


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """Mount a bpf file system, and see that nothing that was pinned there outlives it."""
    before = attachments.all_there()
    place = tmp_path / "bpf"
    place.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
    wait_until(lambda: not attachments.left_since(before), "everything is gone")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Pass over what this kernel can't show, and say what is lost."""
    parameters = (
        item.callspec.params
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else {}
    )
    if lost := needs.loss(list(item.iter_markers("needs")), parameters):
        pytest.skip(lost)


@pytest.fixture(autouse=True)
def _kernel(request: pytest.FixtureRequest) -> None:
    """Skip tests that need a kernel where there is none, unless that is to be a failure."""
    if request.node.get_closest_marker("kernel") is None:
        return
    if reason := _missing():
        if os.environ.get("NETATOP_REQUIRE_KERNEL") == "1":
            pytest.fail(f"{reason} (NETATOP_REQUIRE_KERNEL=1)")
        pytest.skip(f"{reason}; NETATOP_REQUIRE_KERNEL=1 makes this a failure")
