# SPDX-License-Identifier: Apache-2.0
"""The documentation: nothing leads nowhere, tables are in step, quotations are the program's words.

What it gives to copy is run by tests/e2e/test_docs.py.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from exporter.config import document
from exporter.config.flags import Flags
from exporter.web import connection, server
from tests import pages, tables
from tests.e2e import copied
from tests.unit.test_metrics import everything

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import Metric

TESTS: Final = pages.CHECKOUT / "tests"
TROUBLE: Final = pages.CHECKOUT / "docs" / "troubleshooting.md"
SAID: Final = list(pages.messages())
QUOTES: Final = [
    quote
    for page in pages.PAGES
    for block in pages.blocks(page)
    if block.kind == "text"
    for quote in block.text.splitlines()
]
FORMATS: Final = ("*.yml", "*.yaml", "*.json", "Dockerfile", "Makefile", "*.toml")
LINES: Final = range(40, 91)
"""What is one screen, for a README."""
SYMPTOMS: Final = (
    *("privileges", "BTF", "lockdown", "cgroup2", "port", "unreadable", "readyz", "400", "401"),
    *("403", "500", "503", "sample limit", "other", "unidentified", "lost", "executables"),
    *("containers", "page", "short-lived", "begin at 0", "upgrade", "watchdog", "kill -9", "disk"),
)


def each(page: Path) -> str:
    """Return a page's name."""
    return str(page.relative_to(pages.CHECKOUT))


@pytest.mark.parametrize("page", pages.PAGES, ids=each)
def test_links(page: Path) -> None:
    """Each leads to a file that is there, and to a section that it has."""
    for link in pages.links(page):
        place, _, anchor = link.partition("#")
        if re.match(r"https?:", place):
            continue
        target = page.parent / place if place else page
        assert target.exists(), link
        if anchor:
            assert anchor in pages.anchors(target), link


def test_every_page_is_listed() -> None:
    """README.md leads to each page of docs/, once in its list."""
    listed = [link for link in pages.links(pages.PAGES[0]) if link.startswith("docs/")]
    for page in (pages.CHECKOUT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in listed, page.name


def test_readme_is_one_screen() -> None:
    """Newcomers read that much."""
    assert len(pages.text(pages.PAGES[0]).splitlines()) in LINES


@pytest.mark.parametrize("name", tables.TABLES)
def test_tables(name: str) -> None:
    """As the code has them: `make tables` writes them anew."""
    page, rows = tables.TABLES[name]
    said = pages.text(page)
    assert tables.place(said, name, rows()) == said


def test_defaults_that_say_nothing() -> None:
    """Neither --help nor the manual nor the table tells that a switch is off by default."""
    flags = list(tables.flag_rows())
    assert any("(default: " in row for row in flags)
    assert not any(re.search(r"\(default: (False|None|)\)", row) for row in flags)


def test_tables_can_be_stale() -> None:
    """A row that is gone is found."""
    page, rows = tables.TABLES["metrics"]
    said = pages.text(page)
    assert tables.place(said, "metrics", list(rows())[:-1]) != said


@pytest.mark.parametrize("quote", QUOTES)
def test_quotations(quote: str) -> None:
    """What the program is said to say, it says."""
    assert pages.of_others(quote, SAID) == ""


def test_quotations_can_be_wrong() -> None:
    """Another word in a message is found."""
    quote = "cannot listen on 127.0.0.1:10048: Address already in use; choose another address with"
    assert pages.of_others(f"{quote} --web.listen-address", SAID) == ""
    wrong = quote.replace("choose another", "take another")
    assert pages.of_others(f"{wrong} --web.listen-address", SAID)


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_symptoms(symptom: str) -> None:
    """Each has a section."""
    titles = [line for line in pages.text(TROUBLE).splitlines() if line.startswith("#")]
    assert any(symptom.lower() in title.lower() for title in titles)


@pytest.mark.parametrize("page", pages.PAGES, ids=each)
def test_tests_that_are_named(page: Path) -> None:
    """Each file is there, and each test is in it."""
    for file, name in re.findall(r"`(?:tests/)?([\w/]+\.py)(?:::(\w+))?`", pages.text(page)):
        is_ours = (pages.CHECKOUT / "exporter" / file).exists()
        if is_ours or not re.match(r"(unit|kernel|kernels|e2e|deploy)/", file):
            continue
        assert exists(f"{file}::{name}" if name else file), (file, name)


def exists(node: str) -> bool:
    """Tell whether there is a test of this id, or a file of tests."""
    file, _, name = node.removeprefix("tests/").partition("::")
    path = TESTS / file
    if not path.exists() or not name:
        return path.exists()
    found = ast.parse(path.read_text(encoding="utf-8")).body
    return name in {one.name for one in found if isinstance(one, ast.FunctionDef)}


@pytest.mark.parametrize("page", pages.PAGES, ids=each)
def test_every_command_is_run(page: Path) -> None:
    """Here or elsewhere: a command that no test runs is one that may not work."""
    for command in pages.commands(page):
        assert copied.is_run(command) or command.text in copied.ELSEWHERE, (
            f"{command.block.name}: {command.text}: what runs it? tests/e2e/copied.py"
        )


@pytest.mark.parametrize(("command", "node"), copied.ELSEWHERE.items())
def test_what_is_run_elsewhere(command: str, node: str) -> None:
    """The test that runs the same is there, and the command still on a page."""
    assert exists(node), node
    assert command in {c.text for page in pages.PAGES for c in pages.commands(page)}, command


@pytest.mark.parametrize("page", pages.PAGES, ids=each)
def test_blocks(page: Path) -> None:
    """Each block is of a kind that some test knows how to hold."""
    for block in pages.blocks(page):
        assert block.kind in copied.KINDS, block.name


@pytest.mark.parametrize("page", pages.PAGES, ids=each)
def test_metrics_that_are_named(page: Path) -> None:
    """Each is one, or begins so."""
    known = {name for family in everything() for name in (family.name, *_samples(family))}
    for name in re.findall(r"(?<![\w:/.])netatop_[a-z_]+", pages.text(page)):
        begins = name.endswith("_") and any(one.startswith(name) for one in known)
        assert name in known or begins or name == "netatop_bpf", name  # the last is a setting


def _samples(family: Metric) -> set[str]:
    return {sample.name for sample in family.samples}


LIMITS: Final = (
    f"{server.MOST_CONNECTIONS} at most",
    f"{connection.HEAD_SECONDS} seconds for a request",
    f"{server.HANDSHAKE_SECONDS} for a handshake",
    f"{connection.IDLE_SECONDS} between two requests",
    f"within {connection.SEND_SECONDS} seconds",
    f"{server.MOST_SENDING >> 20} MiB of different answers",
    f"may have {connection.HEAD_BYTES >> 10} KiB",
    f"`--web.max-requests` ({Flags().max_requests})",
)


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_the_web_server(limit: str) -> None:
    """docs/web.md has the numbers of the code."""
    assert limit in " ".join(pages.text(pages.CHECKOUT / "docs/web.md").split())


def test_keys() -> None:
    """Every key of the configuration that a page names is one."""
    known = set(re.findall(r'"(\w+)": \{', document.schema()))
    for page in pages.PAGES:
        for section, key in re.findall(
            r"`(limits|exit_log|hosts|kubernetes)\.(\w+)`", page.read_text()
        ):
            assert {section, key} <= known, (page.name, section, key)


MEASURED: Final = sorted(
    {
        command.text
        for page in pages.PAGES
        for command in pages.commands(page)
        if copied.program_that_measures(command.text)
    }
)
BENCH: Final = pages.CHECKOUT / "bench"


@pytest.mark.parametrize("command", MEASURED)
def test_programs_that_measure(command: str) -> None:
    """Minutes each: what is held is that they are there, with the flags that are named."""
    [program] = re.findall(r"bench/\w+\.py", command)
    code = (pages.CHECKOUT / program).read_text(encoding="utf-8")
    code += (BENCH / "common.py").read_text(encoding="utf-8")
    for flag in re.findall(r"--\w+", command):
        assert f'"{flag}"' in code, flag
    loads = re.search(r"--loads((?: \w+)+)", command)
    for load in loads[1].split() if loads else ():
        assert re.search(rf"\b{load}\b", code), load


def test_parts_of_the_suites() -> None:
    """What CONTRIBUTING.md runs a part of is there."""
    parts = [c.text for p in pages.PAGES for c in pages.commands(p) if copied.a_part(c.text)]
    assert len(parts) > 2
    for part in parts:
        [file] = re.findall(r"tests/\S+", part)
        names = re.findall(r"test_\w+(?!\w*\.py)", part.partition(" -k ")[2])
        assert all(exists(f"{file}/{one}") or _is_anywhere(file, one) for one in names), part
        assert exists(file.removeprefix("tests/"))


def _is_anywhere(folder: str, name: str) -> bool:
    return any(f"def {name}(" in f.read_text() for f in (pages.CHECKOUT / folder).glob("*.py"))


def test_targets() -> None:
    """Every target that a page names is in the Makefile."""
    makefile = (pages.CHECKOUT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for page in pages.PAGES:
        for command in pages.commands(page):
            words = command.text.removeprefix("sudo ").split()
            if words[0] == "make":
                assert {word for word in words[1:] if "=" not in word} <= known, command.text


def test_hooks() -> None:
    """What `pre-commit install` installs are tools that .venv has."""
    hooks = yaml.safe_load((pages.CHECKOUT / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"].split()[0] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert entries
    assert all((pages.CHECKOUT / entry).exists() for entry in entries)
