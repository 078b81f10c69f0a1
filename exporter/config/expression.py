# SPDX-License-Identifier: Apache-2.0
"""Regular expressions in RE2's syntax, the one that process-exporter's rules are written in.

They are held against what any local program may choose, its command line above all, so they must
need time in proportion to its length: Python's own can be made to run for ever.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

MEMORY_BYTES: Final = 1 << 20
"""Of one expression."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    names: tuple[str, ...]
    """Of its named groups."""
    _compiled: Any = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Compile. Raises ValueError with the reason."""
        import re2  # noqa: PLC0415 (3.7 MB that only those who use expressions pay for)

        try:
            compiled = re2.compile(text, _options())
        except re2.error as error:
            reason = error.args[0] if error.args else ""
            message = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise ValueError(message) from error
        return cls(text, tuple(compiled.groupindex), compiled)

    def search(self, text: str) -> Mapping[str, str] | None:
        """Look for it anywhere; return its named groups, or None."""
        return _groups(self._compiled.search(text))

    def fullmatch(self, text: str) -> Mapping[str, str] | None:
        """Hold it against the whole text; return its named groups, or None."""
        return _groups(self._compiled.fullmatch(text))


def _groups(match: Any) -> Mapping[str, str] | None:  # noqa: ANN401
    return None if match is None else {k: v or "" for k, v in match.groupdict().items()}


@functools.cache
def _options() -> Any:  # noqa: ANN401
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY_BYTES
    return options
