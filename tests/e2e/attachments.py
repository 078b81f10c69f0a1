# SPDX-License-Identifier: Apache-2.0
"""What bpftool says is loaded and attached, and who holds it."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.network import run, run_json

ATTEMPTS: Final = 23
TEMPORARY: Final = f"{tempfile.gettempdir()}/"
HOLDS = re.compile(r"^(link_id|prog_id):\s*(\d+)$", re.MULTILINE)


class Attachments(NamedTuple):
    """Ids of the kernel's links and programs; the kernel does not use one again."""

    links: frozenset[int]
    programs: frozenset[int]

    def __and__(self, other: Attachments) -> Attachments:
        return Attachments(self.links & other.links, self.programs & other.programs)

    def __sub__(self, other: Attachments) -> Attachments:
        return Attachments(self.links - other.links, self.programs - other.programs)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.links or self.programs)


def all_there() -> Attachments:
    """Return everything: links, programs, and what is attached to cgroups without a link."""
    attached = {
        program["id"] for cgroup in _listed("cgroup", "tree") for program in cgroup["programs"]
    }
    return Attachments(
        frozenset(link["id"] for link in _listed("link", "list")),
        frozenset(program["id"] for program in _listed("prog", "list")) | attached,
    )


def _listed(*what: str) -> list[dict[str, Any]]:
    """Return a list of bpftool's, which gives up if something goes while it looks."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(RuntimeError):
            found: list[dict[str, Any]] = run_json("bpftool", "--json", *what)
            return found
    message = f"bpftool {' '.join(what)}: no list in {ATTEMPTS} attempts"
    raise AssertionError(message)


def held_by(pid: int) -> Attachments:
    """Return what a process holds open (proc_pid_fdinfo(5))."""
    found: dict[str, set[int]] = {"link_id": set(), "prog_id": set()}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            for kind, number in HOLDS.findall(file.read_text()):
                found[kind].add(int(number))
    return Attachments(frozenset(found["link_id"]), frozenset(found["prog_id"]))


def pinned_by_tests() -> Attachments:
    """Return what is pinned in file systems of tests, with the programs of those links."""
    links, programs = set(), set()
    for link in _listed("link", "list", "--bpffs"):
        if _is_pinned_by_test(link):
            links.add(link["id"])
            programs.add(link["prog_id"])
    for program in _listed("prog", "list", "--bpffs"):
        if _is_pinned_by_test(program):
            programs.add(program["id"])
    return Attachments(frozenset(links), frozenset(programs))


def _is_pinned_by_test(listed: dict[str, Any]) -> bool:
    return any(path.startswith(TEMPORARY) for path in listed.get("pinned", ()))


def left_since(before: Attachments) -> Attachments:
    """Return what has come since and is held by no process: others may come and go meanwhile.

    Another run of the tests may have pinned something; who asks has unmounted what was his.
    """
    left = all_there() - before
    if left:
        left -= pinned_by_tests()
    for process in Path("/proc").iterdir() if left else ():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                left -= held_by(int(process.name))
    return left & all_there()


def sever(pid: int, program: str) -> None:
    """Detach a program of a process from its cgroup, as an administrator can (bpftool-link(8))."""
    held = held_by(pid)
    named = {one["id"] for one in _listed("prog", "list") if one.get("name") == program}
    (link,) = (
        link["id"]
        for link in _listed("link", "list")
        if link["id"] in held.links and link["prog_id"] in named & held.programs
    )
    run("bpftool", "link", "detach", "id", str(link))
