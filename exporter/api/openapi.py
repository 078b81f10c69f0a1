# SPDX-License-Identifier: Apache-2.0
"""All of the API, described for programs: https://spec.openapis.org/oas/v3.1.1."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from exporter import __version__
from exporter.api import (
    connections,
    exits,
    groups,
    hosts,
    processes,
    schemas,
    sockets,
    terms,
    threads,
    top,
)
from exporter.api.history import POINTS
from exporter.api.schemas import Schema, reference

if TYPE_CHECKING:
    from exporter.api.views import View

PATH: Final = "/api/v1/openapi.json"
DESCRIPTION: Final = """\
Who is using the network on this host. Bytes and packets are those of the IP layer, headers
included. Counters only grow; rates are those of the time between two reports of the kernel. What is
asked for wrongly is refused with status 400 and a sentence that says what was found and what is
accepted. Users and certificates are those of the web server (--web.config.file).
"""
BYTE: Final = "(25[0-5]|(2[0-4]|1[0-9]|[1-9]|)[0-9])"
ADDRESS: Final[Schema] = {
    "type": "string",
    "anyOf": [
        {"format": "ipv4"},
        {"format": "ipv6"},
        {
            "pattern": rf"^{BYTE}(\.{BYTE}){{3}}/(3[0-2]|[12]?[0-9])$",
        },
        {"pattern": "^[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}/(12[0-8]|(1[01]|[1-9]|)[0-9])$"},
        {"pattern": "^([0-9a-f]{1,4}(:[0-9a-f]{1,4}){0,5})?::/(12[0-8]|(1[01]|[1-9]|)[0-9])$"},
    ],
    "examples": ["10.0.0.0/8"],
}


def answer(query: str) -> bytes:
    """Return the document. Raises ConfigError."""
    terms.parameters(PATH, query, {})
    return terms.dump(document())


@functools.cache
def document() -> Schema:
    """Return it."""
    limit = _whole("limit", terms.LIMIT["limit"], "At most so many entries, the first ones.")
    since = _whole("since", exits.SINCE["since"], "The first number that is wanted.")
    address = _parameter("address", "Only those in this network.", ADDRESS)
    lists = {
        groups.PATH: ("Group", "Groups of processes, with all that they have ever used", ()),
        processes.PATH: ("Process", "Processes that use the network", ()),
        threads.PATH: ("Thread", "Threads that use the network", ()),
        sockets.PATH: ("Socket", "Sockets that have carried packets", ()),
        hosts.PATH: ("Host", "IP addresses", (address,)),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "netatop-exporter",
            "version": __version__,
            "summary": "Packets and bytes of every process",
            "description": DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This exporter"}],
        "tags": [
            {"name": "top", "description": "The busiest, with rates: bounded"},
            {"name": "lists", "description": "All of them, with their counters"},
            {"name": "exporter", "description": "The exporter itself"},
        ],
        "paths": {
            **{path: _top(view) for path, view in top.PATHS.items()},
            **{
                path: _get(
                    "lists",
                    f"list{noun}s",
                    summary,
                    schemas.listing(path.rpartition("/")[2], reference(noun)),
                    (*more, limit),
                )
                for path, (noun, summary, more) in lists.items()
            },
            exits.PATH: _get(
                "lists",
                "listExits",
                "Finished processes that had used the network",
                schemas.EXITS,
                (since, limit),
            ),
            connections.PATH: _get(
                "lists",
                "listConnections",
                "Connections of this host, and of the addresses behind it",
                schemas.CONNECTIONS,
                (address, limit),
            ),
            PATH: _get(
                "exporter",
                "describe",
                "This document",
                {"type": "object", "required": ["openapi"], "examples": [{"openapi": "3.1.0"}]},
            ),
            "/healthz": _health("isAlive", "Tell whether it is alive", "alive"),
            "/readyz": _health("isReady", "Tell whether it counts", "ready"),
        },
        "components": {
            "schemas": schemas.COMPONENTS,
            "responses": {
                "Refused": _text(
                    "What was found, and what is accepted",
                    f"{processes.PATH}: found parameter 'form'; accepted is limit",
                ),
                "Unknown": _text("User and password are needed", "user and password are needed"),
                "Misdirected": _text(
                    "Asked on a loopback address under a name that is not this host's",
                    "Host: found 'hostile.example.org'; accepted on a loopback address are "
                    "addresses, localhost, the host's own names and those of --web.allowed-host",
                ),
                "Busy": {
                    **_text("Not ready yet, or too much to do", "not ready yet"),
                    "headers": {
                        "Retry-After": {
                            "description": "Seconds",
                            "schema": {"type": "integer", "examples": [1]},
                        }
                    },
                },
            },
        },
    }


def _top(view: View) -> Schema:
    parameters = (
        _parameter(
            "sort",
            "By what the rows are in order: a field, or one of `rates` or `totals`, of which "
            "`bytes` and `packets` are both directions together.",
            {"type": "string", "enum": [*view.sorts], "default": view.sorts[0]},
        ),
        _parameter(
            "order",
            "In which direction; numbers come the greatest first if it is left out, all else the "
            "least. What has no value is last in any case.",
            {"type": "string", "enum": [*top.ORDERS]},
        ),
        _parameter(
            "search",
            f"Only rows with this text in one of these fields: {', '.join(view.names)}. Upper and "
            "lower case are the same.",
            {"type": "string", "maxLength": top.MAX_SEARCH, "examples": ["nginx"]},
        ),
        _whole("limit", top.MAX_ROWS, "At most so many rows.", default=top.ROWS),
        _whole("history", POINTS, "The rates of so many past samples, at most.", default=0),
    )
    return _get(
        "top",
        f"top{view.noun.capitalize()}",
        f"The busiest {view.noun}" if view.has_rates else "The latest finished processes",
        schemas.top(view),
        parameters,
    )


def _get(
    tag: str, name: str, summary: str, schema: Schema, parameters: tuple[Schema, ...] = ()
) -> Schema:
    """Return a path that has this operation."""
    return {
        "get": {
            "tags": [tag],
            "operationId": name,
            "summary": summary,
            "parameters": [*parameters],
            "responses": {
                "200": {
                    "description": "As it is now",
                    "content": {
                        "application/json": {"schema": schema, "example": schemas.example(schema)}
                    },
                },
                "400": {"$ref": "#/components/responses/Refused"},
                "401": {"$ref": "#/components/responses/Unknown"},
                "421": {"$ref": "#/components/responses/Misdirected"},
                "503": {"$ref": "#/components/responses/Busy"},
            },
        }
    }


def _health(name: str, summary: str, text: str) -> Schema:
    return {
        "get": {
            "tags": ["exporter"],
            "operationId": name,
            "summary": summary,
            "responses": {
                "200": _text("It is", text),
                "401": {"$ref": "#/components/responses/Unknown"},
                "421": {"$ref": "#/components/responses/Misdirected"},
                "503": {"$ref": "#/components/responses/Busy"},
            },
        }
    }


def _text(description: str, example: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}, "example": f"{example}\n"}}
    return {"description": description, "content": content}


def _whole(name: str, most: int, description: str, **more: int) -> Schema:
    schema = {"type": "integer", "minimum": 0, "maximum": most, **more}
    return _parameter(name, description, schema)


def _parameter(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}
