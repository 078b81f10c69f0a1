# SPDX-License-Identifier: Apache-2.0
"""docs/kernels.md: the table of results.json, and what is lost on which kernel.

`python -m tests.kernels.page` writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.kernels.kernel import CHECKOUT, every
from tests.kernels.results import LOST, PASSED, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.kernels.results import Row

PAGE: Final = CHECKOUT / "docs" / "kernels.md"
HEAD: Final = """\
# Kernels

<!-- Written by `sudo make kernels` from tests/kernels/results.json; not to be edited. -->

`sudo make kernels` boots each of these kernels, as Debian builds them, in a virtual machine with
an emulated processor, and runs there: `doctor`, the self-test, the suite of accuracy in a reduced
size (every number equal to nftables', to the packet and the byte), and a restart on pinned
tables. `tests/kernels/kernels.toml` is the list, `tests/kernels/suites.py` what is run.

*Users of sockets* is what tells who uses a socket (`owners` in `netatop_loader_info`): a
tracepoint, or where the kernel lacks one, `fentry` and `fexit` of the functions around it, or
kprobes.
*Sockets* is how all are settled at a scrape: by the kernel's iterator over them, by way of all
open files where that iterator is not safe, or one by one by their cookies, where the portable
kernel object is taken (docs/architecture.md).

*bcc* compiles the portable programs when the exporter starts ([loaders.md](loaders.md)). Its rows
are made without the kernel's type information: where what is read is kept, its headers say.

A test that needs what a kernel does not have is *lost*, with the reason below; it is never passed
over in silence.
"""
COLUMNS: Final = ("kernel", "loader", "users of sockets", "sockets", "programs", "tests", "result")
WALKS: Final = {
    "walk_sockets": "iterator",
    "walk_socket_files": "files",
    "settle_meters": "cookies",
    "": "-",
}


def page(rows: Iterable[Row]) -> str:
    """Return the page."""
    rows = list(rows)
    lines = [HEAD, _line(COLUMNS), _line("---" for _ in COLUMNS)]
    lines += [_line(_cells(row)) for row in rows]
    for row in rows:
        of = "" if row.loader in {"", "core"} else f", {row.loader}"
        lines += ["", f"## {row.release}{of}", "", *_details(row)]
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> tuple[str, ...]:
    if row.refused or not row.loader:
        return row.release, *["-"] * 5, "refused" if row.refused else "**broken**"
    passed, lost = (
        sum(suite.get(how, 0) for suite in row.suites.values()) for how in (PASSED, LOST)
    )
    number = sum(sum(suite.values()) for suite in row.suites.values())
    tests = f"{passed} of {number}" + (f", {lost} lost" if lost else "")
    bad = row.broken or row.failures
    result = "**fails**" if bad else "passes, with losses" if lost or row.missing else "passes"
    programs = str(len(row.attached))
    return row.release, row.loader, row.owners, WALKS[row.walk], programs, tests, result


def _details(row: Row) -> Iterator[str]:
    if row.refused or row.broken:
        yield f"{'Refused' if row.refused else 'Broken'}: {row.refused or row.broken}"
    if row.suites:
        yield (
            "Suites: " + "; ".join(_suite(name, ended) for name, ended in row.suites.items()) + "."
        )
    if row.missing or row.losses:
        yield ""
    for lost, programs in _by_reason(row.missing).items():
        yield f"- Not attached: {', '.join(f'`{name}`' for name in programs)}. Lost: {lost}."
    for lost, tests in _by_reason(row.losses).items():
        yield f"- Lost in {len(tests)} tests: {lost}."
    for why, tests in _by_reason(row.failures).items():
        yield f"- **Fails**: {', '.join(tests)}: `{why.replace('`', '')}`"


def _suite(name: str, ended: dict[str, int]) -> str:
    return f"{name} {ended.get(PASSED, 0)} of {sum(ended.values())}"


def _by_reason(reasons: dict[str, str]) -> dict[str, list[str]]:
    """Return the names that share a reason, by reason."""
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        found.setdefault(reason, []).append(name)
    return found


def write() -> None:
    """Write the page anew, in the order of the list."""
    kept = load()
    PAGE.write_text(page(kept[kernel.label] for kernel in every() if kernel.label in kept))


if __name__ == "__main__":
    write()
