# SPDX-License-Identifier: Apache-2.0
"""Labels and their text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Labels: TypeAlias = tuple[str, ...]
"""Names, or the values of one series, in the same order."""

SPECIAL: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
NOT_UNICODE: Final = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are not UTF-8, and can't be encoded."""


def escape(value: str) -> str:
    """Return a value as it stands between quotes."""
    if not value.isascii():
        value = NOT_UNICODE.sub("\N{REPLACEMENT CHARACTER}", value)
    return value.translate(SPECIAL)


def text(names: Labels, values: Labels, more: Iterable[tuple[str, str]] = ()) -> str:
    """Return a series' labels, by name as prometheus_client orders them; a missing one raises."""
    if len(names) != len(values):
        message = f"{len(values)} label values for the labels {names}: {values}"
        raise ValueError(message)
    pairs = sorted((*zip(names, values, strict=True), *more))
    found = ",".join([f'{name}="{escape(value)}"' for name, value in pairs])
    return f"{{{found}}}" if found else ""
