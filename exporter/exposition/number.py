# SPDX-License-Identifier: Apache-2.0
"""The text of a value, as Go writes it and prometheus_client does: 23.0, 1.048576e+06, +Inf."""

from __future__ import annotations

import math
from typing import Final

PLAIN: Final = 10**6
"""From here on there is an exponent."""
EXACT: Final = 2**53
"""Up to here the digits of an integer are those of the float."""
SPECIAL: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
EXPONENTS: Final = tuple(f"e+{digits - 1:02d}" for digits in range(len(str(EXACT)) + 1))
"""By the number of digits."""


def text(value: float) -> str:
    """Return it. Most are integers: their text is made without a float."""
    if value.__class__ is int:
        if -PLAIN < value < PLAIN:
            return f"{value}.0"
        if 0 < value <= EXACT:
            return _exponential(str(value))
    value = float(value)
    found = repr(value)
    if not math.isfinite(value):
        return SPECIAL[found]
    whole, _, fraction = found.partition(".")
    # Above 1e16 Python has an exponent, too; below 0 prometheus_client leaves it at that.
    if value < PLAIN or "e" in found:
        return found
    return _exponential(whole, fraction)


def _exponential(whole: str, fraction: str = "") -> str:
    mantissa = f"{whole[0]}.{whole[1:]}{fraction}"
    return mantissa.rstrip("0").rstrip(".") + EXPONENTS[len(whole)]
