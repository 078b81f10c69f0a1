# SPDX-License-Identifier: Apache-2.0
"""Which format a client gets, by its Accept headers (RFC 9110, section 12.5)."""

from __future__ import annotations

from typing import Final, NamedTuple

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Choice(NamedTuple):
    """One element of such a header."""

    value: str
    parameters: dict[str, str]
    quality: float


def choices(header: str) -> list[Choice]:
    """Parse a header; an element that makes no sense is passed over."""
    found = []
    for element in header.split(","):
        value, *rest = (part.strip() for part in element.split(";"))
        parameters = {}
        for part in rest:
            name, _, text = part.partition("=")
            parameters[name.strip().lower()] = text.strip().strip('"')
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if value and 0 <= quality <= 1:
            found.append(Choice(value.lower(), parameters, quality))
    return found


def wants_openmetrics(accept: str) -> bool:
    """Tell whether OpenMetrics 1.0 is preferred to the text format, which is the last resort."""
    openmetrics = text = 0.0
    for choice in choices(accept):
        if choice.value == "application/openmetrics-text":
            if choice.parameters.get("version", "1.0.0") in {"1.0.0", "0.0.1"}:
                openmetrics = max(openmetrics, choice.quality)
        elif choice.value in {"text/plain", "text/*", "*/*"}:
            text = max(text, choice.quality)
    return openmetrics > 0 and openmetrics >= text


def wants_gzip(accept_encoding: str) -> bool:
    """Tell whether the answer may be compressed."""
    qualities = {choice.value: choice.quality for choice in choices(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0
