# SPDX-License-Identifier: Apache-2.0
"""Names and numbers as they are put into a table: harmless, and of a width that is known."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

ELLIPSIS: Final = "…"
REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E")
RIGHT_TO_LEFT: Final = frozenset(("R", "AL", "AN"))
"""Bidirectional classes. Some terminals put a line in another order where there is one of them, and
digits that belong to a column would stand in another."""
WITHOUT_WIDTH: Final = frozenset(("Mn", "Mc", "Me", "Cf"))
"""Categories of what is drawn with its neighbour, or not at all."""
DISPUTED: Final = re.compile(
    "[\u1160-\u11ff\u3164\uffa0\ud7b0-\ud7ff"  # parts of Korean syllables
    "\u2630-\u2637\u268a-\u268f\u4dc0-\u4dff\U0001d300-\U0001d37f"  # wide since Unicode 16
    "\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff]"  # one with their neighbour: flags, shades of skin
)
"""Of which terminals do not agree how wide they are."""


def clean(text: str) -> str:
    """Return it without what could do anything but be read from left to right."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else REPLACED for c in unicodedata.normalize("NFC", text))


def _is_harmless(character: str) -> bool:
    return (
        character.isprintable()
        and unicodedata.category(character) not in WITHOUT_WIDTH
        and unicodedata.bidirectional(character) not in RIGHT_TO_LEFT
        and not DISPUTED.match(character)
    )


def width(text: str) -> int:
    """Return the cells that a clean text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, cells: int, *, right: bool = False) -> str:
    """Return a clean text in exactly so many cells; what is too long says so by its end."""
    missing = cells - width(text)
    if missing < 0:
        text = _cut(text, cells - 1) + ELLIPSIS if cells else ""
        missing = cells - width(text)
    return " " * missing + text if right else text + " " * missing


def _cut(text: str, cells: int) -> str:
    for place, character in enumerate(text):
        cells -= _cells(character)
        if cells < 0:
            return text[:place]
    return text


def quantity(number: float) -> str:
    """Return a number of at most five characters: 0, 0.3, 997, 12.3k, 997M."""
    for prefix in PREFIXES:
        # What would be rounded to four digits has the next prefix.
        if number < 999.5 or prefix == PREFIXES[-1]:
            break
        number /= 1000
    short = f"{number:.1f}" if 0 < number < 99.95 and (prefix or number < 9.95) else f"{number:.0f}"
    return f"{short.removesuffix('.0')}{prefix}"
