# SPDX-License-Identifier: Apache-2.0
"""A configuration file: YAML in, typed settings out, or every mistake that is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from exporter.config.kinds import Problem, Problems, Section, visible
from exporter.config.settings import Settings
from exporter.errors import ConfigError

T = TypeVar("T")

LIMIT_BYTES: Final = 1 << 18
ROOT: Final = Section(Settings)


class _Loader(yaml.SafeLoader):
    """Composes nodes with their positions; no aliases, which can make a small file a large one."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        """Refuse an alias where it stands."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            what = f"the alias *{event.anchor}"
            raise yaml.composer.ComposerError(None, None, what, event.start_mark)
        return super().compose_node(parent, index)


def load(path: str) -> Settings:
    """Read the exporter's own file. Raises ConfigError, with a line for each mistake."""
    return read(path, ROOT)


def read(path: str, root: Section[T]) -> T:
    """Read a file of any kind. Raises ConfigError, with a line for each mistake."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        message = f"{path}: {error.strerror}; accepted is a configuration file that can be read"
        raise ConfigError(message) from error
    return interpret(data, path, root)


def parse(data: bytes, name: str) -> Settings:
    """Read what the exporter's own file holds. Raises ConfigError."""
    return interpret(data, name, ROOT)


def interpret(data: bytes, name: str, root: Section[T]) -> T:
    """Read what a file holds; an empty one is all defaults. Raises ConfigError."""
    problems = Problems()
    settings: T | None = None
    node = _compose(data, problems)
    if node is not None and (node.value or not isinstance(node, yaml.ScalarNode)):
        settings = root.read(node, (), problems)
    if problems:
        raise ConfigError(
            "\n".join(f"{name}:{problem}" for problem in sorted(problems, key=lambda p: p[:2]))
        )
    return root.make() if settings is None else settings


def schema() -> str:
    """Return the JSON schema of the file, for editors."""
    return json.dumps(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "netatop-exporter's configuration file",
            **ROOT.schema(),
        },
        indent=2,
    )


def _compose(data: bytes, problems: Problems) -> yaml.Node | None:
    """Return the root; None if there is none, or none can be found."""
    if len(data) > LIMIT_BYTES:
        problems.append(Problem(1, 1, (), "a larger file", f"one of up to {LIMIT_BYTES} bytes"))
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problems.append(Problem(line, column, (), f"the byte {data[error.start]:#04x}", "UTF-8"))
        return None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or yaml.Mark("", 0, 0, 0, None, 0)
        what = visible(" ".join(filter(None, (error.context, error.problem))))
        problems.append(Problem(mark.line + 1, mark.column + 1, (), what, "YAML without aliases"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        found = f"the character {text[error.position]!r}"
        problems.append(Problem(line, column, (), found, "text"))
    except (ValueError, OverflowError) as error:  # an escape, or a version, that is no number
        mark = loader.get_mark()
        what = f"what YAML does not permit ({visible(str(error))})"
        problems.append(Problem(mark.line + 1, mark.column + 1, (), what, "YAML"))
    except RecursionError:
        problems.append(Problem(1, 1, (), "lists or mappings too deep in each other", "fewer"))
    return None
