# SPDX-License-Identifier: Apache-2.0
"""What a run on one kernel has shown: read from the guest's files, kept in results.json."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.needs import LOSS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.kernels.kernel import Kernel
    from tests.kernels.machine import Ended

RESULTS: Final = Path(__file__).with_name("results.json")
PASSED, FAILED, LOST, SKIPPED = "passed", "failed", "lost", "skipped"
KNOWN: Final = ("UnsupportedKernelError", "LockdownError")
"""Errors that say why the kernel can't be served, and not what went wrong."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One kernel."""

    label: str
    release: str
    refused: str = ""
    """What the loader said where it can't work; then there is nothing else."""
    broken: str = ""
    """Why there is no result, or not all of one: the guest died, doctor or the self-test failed."""
    loader: str = ""
    owners: str = ""
    walk: str = ""
    attached: tuple[str, ...] = ()
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    """By program: what is lost without it."""
    suites: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    """How many tests of each ended in which way."""
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    """By test: why."""
    losses: dict[str, str] = dataclasses.field(default_factory=dict)
    """By test: what the kernel lacks."""
    seconds: int = 0

    def works(self, expected: Kernel) -> bool:
        """Tell whether it is as it should be: all passed, or refused for the known reason."""
        if expected.refused:
            return not self.broken and expected.refused in self.refused
        return not (self.refused or self.broken or self.failures) and bool(self.suites)


def read(kernel: Kernel, out: Path, ended: Ended) -> Row:
    """Put together what the guest has left."""
    row = Row(kernel.label, kernel.version, seconds=round(ended.seconds))
    facts = out / "facts.json"
    if not facts.exists():
        last = (ended.log or ended.console).strip().splitlines()[-1:]
        return dataclasses.replace(row, broken=f"no result: {' '.join(last)}")
    found = json.loads(facts.read_text())
    row = dataclasses.replace(row, release=_release(kernel, found))
    if error := found.get("error"):
        said = _sentence(error["said"])
        is_known = error["kind"] in KNOWN
        return dataclasses.replace(row, **{"refused" if is_known else "broken": said})
    same = ("loader", "owners", "walk", "missing")
    row = dataclasses.replace(
        row, **{name: found[name] for name in same}, attached=tuple(found["attached"])
    )
    junit = out / "junit.xml"
    if junit.exists():
        row = _add_tests(row, ET.parse(junit).iter("testcase"))  # noqa: S314 our own pytest's
    return dataclasses.replace(row, broken=_broken(found, ended, junit))


def _release(kernel: Kernel, found: dict[str, Any]) -> str:
    """Return what the guest has said, and what it was booted with."""
    release: str = found["release"]
    return release + (f", lockdown={kernel.lockdown}" if kernel.lockdown else "")


def _broken(found: dict[str, Any], ended: Ended, junit: Path) -> str:
    """Say what went wrong beside the tests, or nothing."""
    if not found["self_test"]["passed"]:
        return f"self-test: {found['self_test']['said']}"
    if found["doctor"]:
        return f"doctor: exit status {found['doctor']}"
    if ended.status is None or not junit.exists():
        return "the suite did not come to its end"
    return "" if ended.status in {0, 1} else f"pytest: exit status {ended.status}"


def _add_tests(row: Row, cases: Iterable[ET.Element]) -> Row:
    """Sort tests into suites, by their module."""
    suites: dict[str, Counter[str]] = {}
    reasons: dict[str, dict[str, str]] = {FAILED: {}, LOST: {}, SKIPPED: {}, PASSED: {}}
    for case in cases:
        suite = case.get("classname", "").rpartition(".test_")[2]
        outcome, why = judge(case)
        suites.setdefault(suite, Counter())[outcome] += 1
        reasons[outcome][f"{suite}: {case.get('name')}"] = why
    # A skip that is no loss hides something: it counts as a failure.
    failures = {**reasons[FAILED], **reasons[SKIPPED]}
    counted = {name: dict(sorted(suites[name].items())) for name in sorted(suites)}
    return dataclasses.replace(row, suites=counted, failures=failures, losses=reasons[LOST])


def judge(case: ET.Element) -> tuple[str, str]:
    """Return how a test ended, and why if it did not pass."""
    for kind in ("failure", "error", "skipped"):
        if (found := case.find(kind)) is not None:
            why = found.get("message", "")
            if kind != "skipped":
                return FAILED, _sentence(why)
            if LOSS in why:
                return LOST, why.partition(LOSS)[2]
            return SKIPPED, f"skipped: {_sentence(why)}"
    return PASSED, ""


def _sentence(text: str) -> str:
    """Return the first line, without what differs from run to run and with no mark-up in it."""
    line = text.strip().splitlines()[0] if text.strip() else "no reason given"
    line = line.replace("_pytest.outcomes.", "").replace("|", "/")
    return re.sub(r" at 0x[0-9a-f]+|netatop-\d+-\d+", "", line)[:200]


def load(file: Path = RESULTS) -> dict[str, Row]:
    """Return what is kept, by label."""
    if not file.exists():
        return {}
    rows = (
        Row(**{**row, "attached": tuple(row["attached"])}) for row in json.loads(file.read_text())
    )
    return {row.label: row for row in rows}


def save(rows: Iterable[Row], file: Path = RESULTS) -> None:
    """Keep them."""
    file.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
