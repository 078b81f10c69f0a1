# SPDX-License-Identifier: Apache-2.0
"""The document of the API: it is whole, its examples are right, and it knows all paths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from exporter import __version__, api
from exporter.api import connections, openapi, top
from exporter.config import flags
from exporter.errors import ConfigError
from exporter.web.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = openapi.document()
HTTP = {"/healthz", "/readyz"}


def answers() -> Iterator[Any]:
    """Yield what each operation may answer: path, status, content."""
    for path, item in DOCUMENT["paths"].items():
        for status, response in item["get"]["responses"].items():
            _, _, name = response.get("$ref", "").rpartition("/")
            found = DOCUMENT["components"]["responses"][name] if name else response
            yield pytest.param(found["content"], id=f"{path} {status}")


@pytest.mark.parametrize("content", [*answers()])
def test_examples(content: dict[str, Any]) -> None:
    """Every schema is one, and every example is of its shape."""
    (shape,) = content.values()
    Draft202012Validator.check_schema(shape["schema"])
    whole = {**shape["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(whole).validate(shape["example"])
    assert "$ref" not in json.dumps(shape["example"])


def test_paths() -> None:
    """All that are there, none else; and the metrics can't be put there."""
    known = {*api.ANSWERS, *top.PATHS, connections.PATH, openapi.PATH}
    assert {*DOCUMENT["paths"]} == known | HTTP
    assert known | HTTP <= {*Site("/metrics")._routes}
    assert all(map(flags.is_reserved, known))


def test_described() -> None:
    """Everything has a description, and every field an example."""
    assert DOCUMENT["info"]["version"] == __version__
    for item in DOCUMENT["paths"].values():
        assert item["get"]["summary"]
        assert all(parameter["description"] for parameter in item["get"].get("parameters", ()))
    for schema in DOCUMENT["components"]["schemas"].values():
        for field in schema["properties"].values():
            assert {"$ref", "examples", "anyOf", "items", "properties"} & {*field}, field


def test_operations_have_names() -> None:
    """One of their own: programs are made of them."""
    names = [item["get"]["operationId"] for item in DOCUMENT["paths"].values()]
    assert len({*names}) == len(names)


def test_parameters() -> None:
    """There are none of its own."""
    assert json.loads(openapi.answer(""))["openapi"] == "3.1.0"
    with pytest.raises(ConfigError, match="found parameter 'x'"):
        openapi.answer("x=1")
