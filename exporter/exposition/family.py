# SPDX-License-Identifier: Apache-2.0
"""What a metric is, and what every format says of it before its samples."""

from __future__ import annotations

from typing import Final, NamedTuple

UNITS: Final = ("packets", "bytes", "seconds")


class Family(NamedTuple):
    """A metric."""

    name: str
    """Without the suffix that counters have."""
    type: str
    """counter, gauge or histogram."""
    help: str

    @property
    def unit(self) -> str:
        """Return it, or nothing: the last word of the name."""
        word = self.name.rpartition("_")[2]
        return word if word in UNITS else ""

    @property
    def sample(self) -> str:
        """Return the name of its samples; a histogram's have suffixes of their own."""
        return f"{self.name}_total" if self.type == "counter" else self.name

    def head(self, *, openmetrics: bool) -> str:
        """Return the lines before its samples."""
        escaped = self.help.replace("\\", r"\\").replace("\n", r"\n")
        if not openmetrics:
            return f"# HELP {self.sample} {escaped}\n# TYPE {self.sample} {self.type}\n"
        escaped = escaped.replace('"', r"\"")
        head = f"# HELP {self.name} {escaped}\n# TYPE {self.name} {self.type}\n"
        return head + (f"# UNIT {self.name} {self.unit}\n" if self.unit else "")
