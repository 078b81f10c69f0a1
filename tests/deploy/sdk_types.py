# SPDX-License-Identifier: Apache-2.0
"""Whether values are what Grafana's SDK, which is made from Grafana's schema, says they are."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any, Final

UNIONS: Final = (typing.Union, types.UnionType)


def mismatches(value: Any, hint: Any, where: str) -> list[str]:
    """Return what is not of its type, and where."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in (object, Any):
        return []
    if origin in UNIONS:
        tried = [mismatches(value, part, where) for part in parts if part is not type(None)]
        return [] if value is None and type(None) in parts else min(tried, key=len)
    if origin in (list, dict) and isinstance(value, origin):
        items = value.items() if origin is dict else enumerate(value)
        return [one for key, item in items for one in mismatches(item, parts[-1], f"{where}.{key}")]
    if hasattr(hint, "from_json"):
        return _of_class(value, hint, where)
    right = value in parts if origin is typing.Literal else origin is None and _is_a(value, hint)
    return [] if right else [f"{where}: {value!r} is no {hint}"]


def _of_class(value: Any, hint: Any, where: str) -> list[str]:
    """Return what is wrong with an object; the SDK leaves some as they were read."""
    if isinstance(value, dict):
        unknown = value.keys() - hint.from_json(value).to_json().keys()
        if unknown:
            return [f"{where}: {unknown} are not in {hint.__name__}"]
        value = hint.from_json(value)
    if not isinstance(value, hint):
        return [f"{where}: {value!r} is no {hint.__name__}"]
    return [
        one
        for name, part in typing.get_type_hints(type(value)).items()
        for one in mismatches(getattr(value, name), part, f"{where}.{name}")
    ]


def _is_a(value: Any, hint: type) -> bool:
    """Tell; JSON has one kind of number, and enumerations as text."""
    if isinstance(value, bool):
        return hint is bool
    if issubclass(hint, enum.Enum):
        return value in [member.value for member in hint]
    return isinstance(value, (int, float) if hint is float else hint)
