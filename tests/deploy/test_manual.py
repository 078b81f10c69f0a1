# SPDX-License-Identifier: Apache-2.0
"""The manual: what every reader of manuals takes without complaint, and complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter import arguments
from exporter.config import document

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
PAGES = ("netatop-exporter.1", "netatop-exporter.5")


@pytest.fixture(scope="session")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the pages."""
    place = tmp_path_factory.mktemp("manual")
    script = CHECKOUT / "deploy/man/pages.py"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "SOURCE_DATE_EPOCH": "4099"}
    subprocess.run((sys.executable, script, place), env=environment, check=True)
    return place


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "reader",
    [
        ("mandoc", "-T", "lint", "-W", "warning"),
        ("groff", "-man", "-T", "utf8", "-w", "w", "-z"),
        ("man", "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l"),
    ],
    ids=["mandoc", "groff", "man"],
)
def test_readers(manual: Path, page: str, reader: tuple[str, ...]) -> None:
    """None of them has anything to say."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    done = subprocess.run(
        (*reader, manual / page), env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if reader[0] == "mandoc":
        assert done.stdout == ""


def read(manual: Path, page: str) -> str:
    """Return a page as a reader sees it, on one line."""
    words = ("mandoc", "-T", "utf8", "-O", "width=1000", manual / page)
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    plain = re.sub(".\b", "", said)
    return " ".join(plain.split())


def test_every_flag(manual: Path) -> None:
    """Every command and every flag of it, with what --help says of it."""
    text = read(manual, PAGES[0])
    _, commands = arguments.parser()
    for name, parser in commands.items():
        assert f" {name} " in text
        for action in parser._actions:
            if "--help" not in action.option_strings:
                said = parser._get_formatter()._expand_help(action)
                assert said[1:] in text, (name, action.dest)
                assert all(flag in text for flag in action.option_strings)


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every key of a schema and of those below it, with what it says of them."""
    for name, inner in schema.get("properties", {}).items():
        yield name, inner["description"]
        yield from keys(inner)
        yield from keys(inner.get("items", {}))


def test_every_key(manual: Path) -> None:
    """Every key of the configuration file, in the words of its schema."""
    text = read(manual, PAGES[1])
    known = dict(keys(json.loads(document.schema())))
    assert len(known) > 23
    for name, said in known.items():
        assert f" {name} " in text, name
        assert " ".join(said.split()) in text, name


def test_example(manual: Path, tmp_path: Path) -> None:
    """The example of the page is a good file."""
    source = (manual / PAGES[1]).read_text()
    [example] = re.findall(r"^\.nf\n(.*?)^\.fi$", source, re.MULTILINE | re.DOTALL)
    file = tmp_path / "example.yml"
    file.write_text(example.replace("\\-", "-"))
    assert len(document.load(str(file)).groups) == 2
