# SPDX-License-Identifier: Apache-2.0
"""Boots every kernel of the list, or some by label, and writes docs/kernels.md.

Results of the whole suite replace those of the same kernels in results.json. NETATOP_KERNELS names
a directory of kernels that were fetched already.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kernels import archive, machine, page, results
from tests.kernels.kernel import CHECKOUT, Kernel, every, named
from tests.kernels.suites import ALL, BY_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kernels.results import Row

OUT: Final = CHECKOUT / ".output" / "kernels"
SECONDS: Final = 1200.0
LOADERS: Final = {"core": (), "bcc": ("env", "NETATOP_LOADER=bcc", "NETATOP_PLACES=headers")}
"""What a guest is told, by loader."""


def examine(kernel: Kernel, out: Path, tests: Sequence[str] = ALL, seconds: float = SECONDS) -> Row:
    """Boot one and run these tests there."""
    archive.ensure(kernel)
    for stale in ("facts.json", "junit.xml", "doctor"):
        (out / stale).unlink(missing_ok=True)
    command = (*LOADERS[kernel.loader], *machine.python("tests.kernels.guest", *tests))
    return results.read(kernel, out, machine.run(kernel, out, *command, seconds=seconds))


def _tell(kernel: Kernel, row: Row) -> None:
    verdict = "as it should be" if row.works(kernel) else "NOT as it should be"
    lines = [f"{kernel.label}: {row.release}, {row.seconds} s: {verdict}"]
    lines += [f"    {said}" for said in (row.refused, row.broken) if said]
    lines += [f"    {name}: {ended}" for name, ended in row.suites.items()]
    lines += [f"    failed: {test}: {why}" for test, why in row.failures.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Do it; the status is 1 if a kernel is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__)
    parser.add_argument("labels", nargs="*", metavar="LABEL")
    parser.add_argument("--out", type=Path, default=OUT, help="where results go (%(default)s)")
    parser.add_argument(
        "--test", action="append", default=[], help="run only this one; the results are not kept"
    )
    parsed = parser.parse_args()
    if lacking := machine.missing():
        parser.exit(1, f"{parser.prog}: {lacking}\n")
    try:
        kernels = named(parsed.labels)
    except ValueError as error:
        parser.error(str(error))
    kept, works = results.load(), True
    for kernel in kernels:
        tests = parsed.test or (BY_TYPE if kernel.lockdown else ALL)
        row = examine(kernel, parsed.out.resolve() / kernel.label, tests)
        _tell(kernel, row)
        works &= row.works(kernel)
        kept[kernel.label] = row
        if not parsed.test:
            results.save(kept[known.label] for known in every() if known.label in kept)
            page.write()
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main())
