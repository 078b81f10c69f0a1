# SPDX-License-Identifier: Apache-2.0
"""The documentation as its readers take it: blocks, commands, links, and what the program says."""

from __future__ import annotations

import ast
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

CHECKOUT: Final = Path(__file__).parents[1]
PAGES: Final = (
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((CHECKOUT / "docs").glob("*.md")),
    CHECKOUT / "deploy/helm/netatop-exporter/README.md",
)
PROGRAM: Final = "netatop-exporter"
WORDS: Final = (
    *(PROGRAM, "sudo", "make", "apt", "apt-get", "pip", "python", "python3", "curl", "kubectl"),
    *("docker", "helm", "systemctl", "systemd-analyze", "journalctl", "promtool", "bpftool"),
    *("sysctl", "mount", "modprobe", "man", "rm", "sed", "pre-commit", "atop", "tc", "echo"),
    *("./quickstart.sh", ".venv/bin/python", "htpasswd", "bench/packets.py", "bench/top.py"),
)
"""How a command begins."""


class Block(NamedTuple):
    """Lines that are set apart."""

    page: Path
    line: int
    kind: str
    """The word after the fence; `indented` if there is none."""
    text: str

    @property
    def name(self) -> str:
        """Return where it is, for people."""
        return f"{self.page.name}:{self.line}"


class Command(NamedTuple):
    """What a reader may copy."""

    block: Block
    text: str
    """Without the prompt and the comment."""
    output: tuple[str, ...] = ()
    """What the page shows of it."""


def text(page: Path) -> str:
    """Return a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> Iterator[Block]:
    """Yield all blocks of a page: between fences, or indented by four after an empty line."""
    lines = text(page).splitlines()
    number = 0
    while number < len(lines):
        start = number
        if fence := re.fullmatch(r"(`{3,})(\w*)", lines[number]):
            number += 1
            while lines[number] != fence[1]:
                number += 1
            yield Block(page, start + 1, fence[2], "\n".join(lines[start + 1 : number]))
        elif lines[number].startswith("    ") and not lines[number - 1].strip():
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            said = "\n".join(line[4:] for line in lines[start:number]).rstrip()
            yield Block(page, start + 1, "indented", said)
            continue
        number += 1


def commands(page: Path) -> Iterator[Command]:
    """Yield every command of a page: of consoles with what they show, of blocks, of sentences."""
    for block in blocks(page):
        if block.kind == "console":
            for said in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, *output = said.splitlines()
                yield Command(block, _bare(command), tuple(output))
        elif block.kind in {"indented", "sh"}:
            whole = re.sub(r" *\\\n\s*", " ", block.text)
            yield from (Command(block, _bare(line)) for line in whole.splitlines() if line.strip())
    for number, line in enumerate(_prose(page), start=1):
        for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", line):
            first, *rest = found.split()[:1] and found.split()
            if first in WORDS and rest:
                yield Command(Block(page, number, "inline", line), found)


def _bare(line: str) -> str:
    """Return a command without a comment behind it."""
    return re.sub(r"\s{2,}#.*$", "", line).strip()


def _prose(page: Path) -> list[str]:
    """Return the lines of a page, those of its blocks empty."""
    lines = text(page).splitlines()
    for block in blocks(page):
        fences = 0 if block.kind == "indented" else 1
        for number in range(
            block.line - 1, block.line - 1 + len(block.text.splitlines()) + 2 * fences
        ):
            lines[number] = ""
    return lines


def links(page: Path) -> Iterator[str]:
    """Yield where a page leads to."""
    prose = re.sub(r"`[^`\n]*`", "", "\n".join(_prose(page)))
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)
    yield from re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", prose)


def anchors(page: Path) -> list[str]:
    """Return the names of its sections, as GitHub makes them of their titles."""
    found: list[str] = []
    for line in _prose(page):
        if title := re.fullmatch(r"#{1,6} +(.*)", line):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title[1]).strip().lower()
            plain = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            found.append(f"{plain}-{found.count(plain)}" if plain in found else plain)
    return found


GAP: Final = "\0"
"""Stands for what varies."""
LEAST: Final = 11
"""Letters that a piece of a message must have to be told from any other."""


def messages() -> Iterator[str]:
    """Yield every text of the program: a gap where something is put in."""
    for file in sorted((CHECKOUT / "exporter").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        known = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign)
            and isinstance(target := node.target, ast.Name)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        }
        inside = set(_not_messages(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(_part(part, known) for part in node.values)
            elif isinstance(node, ast.Constant) and node not in inside:
                value = (
                    node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
                )
                if isinstance(value, str):
                    yield re.sub(r"%[sdr]|%\.\df", GAP, value)
    for file in sorted((CHECKOUT / "exporter/page").glob("*.js")):
        for found in re.findall(r"`([^`]*)`", file.read_text(encoding="utf-8")):
            yield re.sub(r"\$\{[^}]*\}", GAP, found)


def _not_messages(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what is no text by itself: docstrings, and pieces of texts with gaps."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield from node.values


def _part(part: ast.expr, known: dict[str, str]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        return known.get(part.value.id, GAP)
    return GAP


PYTHONS: Final = ("errno", "module", "named", "true")
"""Words of Python's own messages, and of YAML."""


def of_others(quote: str, said: Collection[str]) -> str:
    """Return the words of a quotation that are not the program's, and no example of what varies.

    Examples are what the kernel says of an error, paths, addresses, numbers, what is in quotes, and
    names that are a text of the program by themselves.
    """
    covered = [False] * len(quote)
    for message in said:
        pieces = message.strip("\n").split(GAP)
        if sum(map(len, pieces)) < LEAST or any(piece not in quote for piece in pieces):
            continue
        pattern = "(.+?)".join(re.escape(piece) for piece in pieces)
        for found in re.finditer(f"{pattern}(?=(.*))", quote):
            edges = [found.start()]
            for group in range(1, len(pieces)):
                edges += found.span(group)
            edges.append(found.start(len(pieces)))
            for first, last in zip(edges[::2], edges[1::2], strict=True):
                covered[first:last] = [True] * (last - first)
    rest = "".join(GAP if known else c for c, known in zip(quote, covered, strict=True))
    for error in map(os.strerror, errno.errorcode):
        rest = rest.replace(error, GAP)
    rest = re.sub(r"'[^']*'|\([^)]*\)|[^\s\0]*[/\d:][^\s\0]*", GAP, rest)
    names = {message.lower() for message in said if re.fullmatch(r"\w+", message)}
    names |= {name.lower() for name in (*errno.errorcode.values(), *PYTHONS)}
    words = re.findall(r"(?<![.\w])\w{3,}", rest)
    return " ".join(
        word for word in words if not word.startswith("CAP_") and word.lower() not in names
    )
