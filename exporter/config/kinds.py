# SPDX-License-Identifier: Apache-2.0
"""Kinds of values in the configuration file: what each accepts, how it is read, its JSON schema.

A value that is not acceptable is noted as a Problem and reading goes on, so that all are told at
once. YAML's own types are strict here: `yes`, `0x10` and `1:30` are no surprises, but refused.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Path = tuple[str | int, ...]
"""Keys and, in lists, numbers from the document's root on."""

SHOWN: Final = 60
"""Characters of a value that are repeated in a message."""
TAG: Final = "tag:yaml.org,2002:"


class Problem(NamedTuple):
    """What is wrong at one place; line and column count from 1."""

    line: int
    column: int
    path: Path
    found: str
    accepted: str

    def __str__(self) -> str:
        """Return it as it follows the name of the file."""
        place = f"{self.line}:{self.column}: "
        where = f"{dotted(self.path)}: " if self.path else ""
        return f"{place}{where}found {self.found}; accepted is {self.accepted}"


class Conflict(NamedTuple):
    """Values that are acceptable, but not together; told by `conflicts` of a section."""

    path: Path
    """From the section on."""
    found: str
    accepted: str


class Problems(list[Problem]):
    """Those of one file."""

    def note(self, node: yaml.Node, path: Path, found: str, accepted: str) -> None:
        """Add one."""
        mark = node.start_mark
        self.append(Problem(mark.line + 1, mark.column + 1, path, found, accepted))


def dotted(path: Path) -> str:
    """Return groups[2].cmdline[0]."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{quoted(key)}" for key in path)
    return text.removeprefix(".")


def quoted(key: str) -> str:
    """Return a key as it is if it is a plain word, else so that it can do no harm in a message."""
    return key if re.fullmatch(r"\w{1,60}", key, re.ASCII) else shown(key)


def shown(text: str) -> str:
    """Return a value in quotes, not more than is needed to recognise it."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def is_text(text: str) -> bool:
    """Tell whether there is nothing in it that no file, label or expression should have."""
    return not any(unicodedata.category(c) in {"Cc", "Cs"} for c in text)


def visible(text: str) -> str:
    """Return the beginning of a text, on one line."""
    return "".join(c if c.isprintable() else " " for c in text[: 2 * SHOWN])


def found(node: yaml.Node) -> str:
    """Say what is there."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    kind = node.tag.removeprefix(TAG)
    if kind == "null":
        return "nothing"
    return shown(node.value) if kind == "str" else f"{shown(node.value)} ({quoted(kind)})"


class Kind(ABC, Generic[T]):
    """What a key may hold."""

    accepted: str
    """A phrase that follows "accepted is"."""

    @abstractmethod
    def read(self, node: yaml.Node, path: Path, problems: Problems) -> T | None:
        """Return the value; None if it is not acceptable, and why is in `problems`."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return what JSON Schema (2020-12) can say of it."""


class Switch(Kind[bool]):
    """On or off."""

    accepted = "true or false"

    def read(self, node: yaml.Node, path: Path, problems: Problems) -> bool | None:
        """Read one of the two words."""
        if node.tag == f"{TAG}bool" and node.value in {"true", "false"}:
            return bool(node.value == "true")
        problems.note(node, path, found(node), self.accepted)
        return None

    def schema(self) -> dict[str, Any]:
        """Return a boolean."""
        return {"type": "boolean"}


class Whole(Kind[int]):
    """A whole number in a range."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high
        self.accepted = f"a whole number from {low} to {high}"

    def read(self, node: yaml.Node, path: Path, problems: Problems) -> int | None:
        """Read decimal digits."""
        if (
            node.tag == f"{TAG}int"
            and re.fullmatch(r"0|[1-9][0-9]{0,11}", node.value)
            and self._low <= int(node.value) <= self._high
        ):
            return int(node.value)
        problems.note(node, path, found(node), self.accepted)
        return None

    def schema(self) -> dict[str, Any]:
        """Return an integer with its bounds."""
        return {"type": "integer", "minimum": self._low, "maximum": self._high}


class Text(Kind[T]):
    """Text that means something: `parse` returns what, or raises ValueError with the reason."""

    separators = ""
    """Control characters that may be in it."""
    is_secret = False
    """Messages must not repeat it."""

    def __init__(self, accepted: str, parse: Callable[[str], T], **schema: object) -> None:
        self.accepted = accepted
        self._parse = parse
        self._schema = schema

    def read(self, node: yaml.Node, path: Path, problems: Problems) -> T | None:
        """Read text that is not something else to YAML."""
        if node.tag != f"{TAG}str" or not isinstance(node, yaml.ScalarNode):
            plain = isinstance(node, yaml.ScalarNode) and node.value
            hint = " (in quotes, if it is meant as text)" if plain else ""
            what = "no text" if self.is_secret else found(node)
            problems.note(node, path, what, f"{self.accepted}{hint}")
            return None
        if not is_text(node.value.translate(dict.fromkeys(map(ord, self.separators)))):
            what = "another text" if self.is_secret else shown(node.value)
            problems.note(node, path, what, f"{self.accepted}, without control characters")
            return None
        try:
            return self._parse(node.value)
        except ValueError as error:
            reason = f" ({visible(str(error))})" if str(error) else ""
            what = "another text" if self.is_secret else f"{shown(node.value)}{reason}"
            problems.note(node, path, what, self.accepted)
            return None

    def schema(self) -> dict[str, Any]:
        """Return a string."""
        return {"type": "string", **self._schema}


def word(text: str) -> str:
    """Take any text but none."""
    if not text:
        raise ValueError
    return text


def one_of(*words: str) -> Text[str]:
    """Return the kind that takes one of some words, two at least."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return Text(f"{', '.join(words[:-1])} or {words[-1]}", parse, enum=list(words))


class Lines(Text[T]):
    """Text of any number of lines."""

    separators = "\r\n"


class Secret(Text[T]):
    """Text that nobody should see."""

    is_secret = True


FILE: Final = Text("the name of a file", word, minLength=1)


class Several(Kind[tuple[T, ...]]):
    """A list, not empty."""

    def __init__(self, kind: Kind[T]) -> None:
        self._kind = kind
        self.accepted = f"a list, each item {kind.accepted}"

    def read(self, node: yaml.Node, path: Path, problems: Problems) -> tuple[T, ...] | None:
        """Read every item, also after one that is wrong."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            what = "an empty list" if isinstance(node, yaml.SequenceNode) else found(node)
            problems.note(node, path, what, self.accepted)
            return None
        items = [
            self._kind.read(item, (*path, number), problems)
            for number, item in enumerate(node.value)
        ]
        return tuple(item for item in items if item is not None)

    def schema(self) -> dict[str, Any]:
        """Return an array."""
        return {"type": "array", "items": self._kind.schema(), "minItems": 1}


class Names(Kind[tuple[tuple[str, T], ...]]):
    """A mapping whose keys are free, each with a value of the same kind; may be empty."""

    def __init__(self, key: Text[str], kind: Kind[T]) -> None:
        self._key, self._kind = key, kind
        self.accepted = f"a mapping, from {key.accepted} to {kind.accepted}"

    def read(
        self, node: yaml.Node, path: Path, problems: Problems
    ) -> tuple[tuple[str, T], ...] | None:
        """Read every pair, also after one that is wrong."""
        if not isinstance(node, yaml.MappingNode):
            problems.note(node, path, found(node), self.accepted)
            return None
        pairs: dict[str, T | None] = {}
        for key, value in node.value:
            name = self._key.read(key, path, problems)
            if name is None:
                continue
            if name in pairs:
                problems.note(key, (*path, name), "the key again", "it once")
            pairs[name] = self._kind.read(value, (*path, name), problems)
        return tuple((name, value) for name, value in pairs.items() if value is not None)

    def schema(self) -> dict[str, Any]:
        """Return an object with any keys."""
        return {"type": "object", "additionalProperties": self._kind.schema()}


class Section(Kind[T]):
    """A mapping, read into a frozen dataclass whose fields are made by `option`.

    The dataclass may have a method `conflicts` that yields a Conflict for each combination of
    values that is impossible.
    """

    accepted = "a mapping"

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls
        self._fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        self._keys = ", ".join(self._fields)
        self.make = cls
        """Returns one with all defaults."""

    def read(self, node: yaml.Node, path: Path, problems: Problems) -> T | None:
        """Read every key, also after one that is wrong."""
        if not isinstance(node, yaml.MappingNode):
            problems.note(node, path, found(node), f"{self.accepted} with the keys {self._keys}")
            return None
        before = len(problems)
        values: dict[str, object] = {}
        nodes: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in nodes:
                first = nodes[name].start_mark.line + 1
                problems.note(key, (*path, name), f"the key again, as in line {first}", "it once")
            elif name in self._fields:
                kind = self._fields[name].metadata["kind"]
                nodes[name] = key
                values[name] = kind.read(value, (*path, name), problems)
            else:
                what = f"the key {shown(name)}" if name is not None else f"{found(key)} as a key"
                problems.note(key, path, what, self._keys)
        for name, field in self._fields.items():
            if field.default is dataclasses.MISSING and name not in nodes:
                problems.note(node, path, f"no key {name}", field.metadata["kind"].accepted)
        if len(problems) > before:
            return None
        section = self._cls(**values)
        for conflict in getattr(section, "conflicts", tuple)():
            problems.note(_at(node, conflict.path), (*path, *conflict.path), *conflict[1:])
        return section

    def schema(self) -> dict[str, Any]:
        """Return an object that has these keys and no others."""
        properties = {}
        for name, field in self._fields.items():
            properties[name] = {
                "description": field.metadata["help"],
                **field.metadata["kind"].schema(),
            }
            if isinstance(field.default, bool | int | str):
                properties[name]["default"] = field.default
        required = [n for n, f in self._fields.items() if f.default is dataclasses.MISSING]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
            **({"required": required} if required else {}),
        }


def _at(node: yaml.Node, path: Path) -> yaml.Node:
    """Return the node at a path below another one; the innermost there is."""
    for key in path:
        if isinstance(node, yaml.MappingNode):
            found_ = [value for name, value in node.value if name.value == key]
            if not found_:
                break
            node = found_[0]
        else:
            node = node.value[key]
    return node


def option(kind: Kind[Any], text: str, default: Any = dataclasses.MISSING) -> Any:  # noqa: ANN401
    """Return a dataclass field that is a key of the file; without a default it must be there."""
    return dataclasses.field(default=default, metadata={"kind": kind, "help": text})
