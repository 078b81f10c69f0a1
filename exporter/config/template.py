# SPDX-License-Identifier: Apache-2.0
"""Templates of group names, as process-exporter has them: `{{.Comm}}:{{.Matches.port}}`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

VARIABLES: Final = (
    "Comm",
    "ExeBase",
    "ExeFull",
    "Username",
    "PID",
    "Cgroup",
    "Unit",
    "Container",
    "Pod",
    "Namespace",
)
"""And Matches.NAME for the named groups of expressions."""
PART: Final = re.compile(r"\{\{\s*\.(?P<name>\w+)(?:\.(?P<match>\w+))?\s*\}\}", re.ASCII)
ACCEPTED: Final = ", ".join(f"{{{{.{name}}}}}" for name in (*VARIABLES, "Matches.NAME"))


@dataclass(frozen=True, slots=True)
class Template:
    """Text with variables in it."""

    text: str
    parts: tuple[tuple[str, str], ...]
    """Of each variable the text before it and its name, `Comm` or `Matches.port`."""
    rest: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a template apart. Raises ValueError with the reason."""
        parts, end = [], 0
        for match in PART.finditer(text):
            name, group = match["name"], match["match"]
            if (name == "Matches") != bool(group) or (not group and name not in VARIABLES):
                raise ValueError(match[0])
            parts.append((text[end : match.start()], f"Matches.{group}" if group else name))
            end = match.end()
        outside = "".join(before for before, _ in parts) + text[end:]
        if "{{" in outside or "}}" in outside:
            message = "braces that hold no variable"
            raise ValueError(message)
        if not text.strip():
            message = "no name"
            raise ValueError(message)
        return cls(text, tuple(parts), text[end:])

    @property
    def variables(self) -> frozenset[str]:
        """Return what it needs to know."""
        return frozenset(name for _, name in self.parts)

    def can_be(self, name: str) -> bool:
        """Tell whether it can become this name; of one without any text of its own nobody knows."""
        if not any((*(before for before, _ in self.parts), self.rest)):
            return False
        pattern = "".join(f"{re.escape(before)}.*" for before, _ in self.parts)
        return re.fullmatch(pattern + re.escape(self.rest), name.strip()) is not None

    def render(self, values: Mapping[str, str]) -> str:
        """Fill it in; what has no value is empty."""
        filled = "".join(before + values.get(name, "") for before, name in self.parts)
        return filled + self.rest
