# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: asks what the kernel offers, loads the programs, runs the suites.

`python -m tests.kernels.guest TEST...` writes facts.json, doctor and junit.xml to /out; without a
test, the first two. For bcc these come from a kernel that hides its type information.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter import self_test
from exporter.commands import doctor
from exporter.errors import KernelError
from exporter.kernel.choice import open_tracer
from exporter.kernel.core_loader import CoreTracer, Options
from exporter.kernel.hooks import NETFILTER, UNSEEN_KERNEL
from exporter.kernel.portable_tracer import PortableTracer
from exporter.kernel.types import BTF
from tests import needs
from tests.headers import WITHOUT_TYPES

if TYPE_CHECKING:
    from exporter.kernel.tracer import Tracer

OUT: Final = Path("/out")
PYTEST: Final = (
    *(
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "--durations=0",
        "--durations-min=3",
        "--tb=short",
        "-p",
        "no:randomly",
    ),
    *(
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "--color=no",
        "-o",
        "junit_family=xunit2",
    ),
)


def facts(loader: str) -> dict[str, Any]:
    """Return how a loader works here, or why it does not."""
    release = os.uname().release
    try:
        with open_tracer(needs.chosen(Options()), loader) as tracer:
            is_main = isinstance(tracer, CoreTracer)
            verdict = self_test.run(tracer)
            attached = {program.name for program in tracer.programs() if program.attached}
            return {
                "release": release,
                "loader": tracer.loader,
                "owners": tracer.owners,
                "walk": tracer._held.plan.walk if is_main else "settle_meters",
                "attached": sorted(attached),
                "missing": _missing(tracer)
                | dict.fromkeys(set(NETFILTER) - attached, UNSEEN_KERNEL),
                "self_test": {"passed": verdict.passed, "said": verdict.said},
            }
    except KernelError as error:
        found = {"kind": type(error).__name__, "said": str(error)}
        return {"release": release, "error": found}


def _missing(tracer: Tracer) -> dict[str, str]:
    """Return what is lost by each program that the kernel does not take."""
    if isinstance(tracer, CoreTracer):
        return {hook.program: hook.without for hook in tracer.missing}
    assert isinstance(tracer, PortableTracer)
    return {program.name: program.without for program in tracer.missing}


def examine() -> None:
    """Write facts.json and doctor. Without type information it is for bcc, which `auto` takes."""
    loader = "core" if BTF.exists() else "auto"
    found = facts(loader)
    examination = doctor.examine(Options(), loader=loader)
    (OUT / "doctor").write_text("\n".join((*examination.lines, "")))
    found["doctor"] = int(not examination.works)
    (OUT / "facts.json").write_text(json.dumps(found, indent=2))


def main(*tests: str) -> int:
    """Run everything; return the exit status of pytest, or 1 if nothing can be loaded."""
    hidden = WITHOUT_TYPES if needs.LOADER == "bcc" else ()
    subprocess.run((*hidden, sys.executable, "-m", "tests.kernels.guest"), check=True)
    if "error" in json.loads((OUT / "facts.json").read_text()):
        return 1
    return subprocess.run((*PYTEST, f"--junitxml={OUT}/junit.xml", *tests), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else examine())
