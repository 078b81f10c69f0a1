# SPDX-License-Identifier: Apache-2.0
"""The configuration file: YAML in, Settings out, or every mistake that is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from exporter.config.kinds import Problem, Problems, Section, visible
from exporter.config.settings import Settings
from exporter.errors import ConfigError

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
    """Read a file. Raises ConfigError, with a line for each mistake."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        message = f"{path}: {error.strerror}; accepted is a configuration file that can be read"
        raise ConfigError(message) from error
    return parse(data, path)


def parse(data: bytes, name: str) -> Settings:
    """Read what a file holds; an empty one is all defaults. Raises ConfigError."""
    problems = Problems()
    settings: Settings | None = None
    root = _compose(data, problems)
    if root is not None and (root.value or not isinstance(root, yaml.ScalarNode)):
        settings = ROOT.read(root, (), problems)
    if problems:
        raise ConfigError(
            "\n".join(f"{name}:{problem}" for problem in sorted(problems, key=lambda p: p[:2]))
        )
    return settings or Settings()


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
