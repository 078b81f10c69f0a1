# SPDX-License-Identifier: Apache-2.0
"""The shapes of the answers, as JSON schemas. A test holds all answers against them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.api.history import POINTS
from exporter.api.top import MAX_ROWS, ORDERS
from exporter.api.views import VIEWS
from exporter.model import OUTCOMES, PROTOCOLS, TRAFFIC

if TYPE_CHECKING:
    from exporter.api.views import View

Schema: TypeAlias = "dict[str, Any]"


def reference(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def example(schema: Schema) -> Any:  # noqa: ANN401 (JSON)
    """Return a value of this shape, made of the examples of its parts."""
    if "$ref" in schema:
        return example(COMPONENTS[schema["$ref"].rpartition("/")[2]])
    if "examples" in schema:
        return schema["examples"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    if schema["type"] == "array":
        return [example(schema["items"])]
    return {name: example(part) for name, part in schema["properties"].items()}


def _object(fields: dict[str, Schema], description: str = "") -> Schema:
    """Return an object that has all of these, and nothing else."""
    return {
        "type": "object",
        **({"description": description} if description else {}),
        "required": [*fields],
        "additionalProperties": False,
        "properties": fields,
    }


def _list(items: Schema, description: str = "", **more: int) -> Schema:
    told = {"description": description} if description else {}
    return {"type": "array", **told, "items": items, **more}


def _text(description: str, *examples: str) -> Schema:
    return {"type": "string", "description": description, "examples": [*examples]}


def _whole(description: str, *examples: int) -> Schema:
    return {"type": "integer", "minimum": 0, "description": description, "examples": [*examples]}


def _number(description: str, *examples: float) -> Schema:
    return {"type": "number", "description": description, "examples": [*examples]}


def _or_null(schema: Schema, description: str = "") -> Schema:
    """Return the same, or null."""
    if "$ref" in schema:
        told = {"description": description} if description else {}
        return {"anyOf": [schema, {"type": "null"}], **told}
    is_so = isinstance(schema["type"], list)
    return schema if is_so else {**schema, "type": [schema["type"], "null"]}


def _one_of(words: tuple[str, ...], description: str) -> Schema:
    found = _text(description, words[0])
    return {**found, "enum": [*words]}


COUNTED: Final = {
    "receive_packets": 491,
    "receive_bytes": 44_100_023,
    "transmit_packets": 338,
    "transmit_bytes": 9_103,
}
TRAFFIC_FIELDS: Final = {
    name: _whole(name.replace("_", " ").replace("receive", "received"), COUNTED[name])
    for name in TRAFFIC
}
BY_PROTOCOL: Final = {protocol: reference("Traffic") for protocol in PROTOCOLS}
INSTANT: Final = {
    "time_seconds": _number("When, since the host was started", 68666.180314),
    "boot_time_seconds": _number(
        "When the host was started, since 1970, as the exporter took it when it was started itself",
        1795215193.338839,
    ),
}
OUTCOME: Final = _one_of(OUTCOMES, "How it has ended: status 0, another one, or by a signal")
PLACE: Final = {
    "container": _or_null(_text("Name or id; null outside of containers", "3f4e8c1d2b5a")),
    "pod": _or_null(_text("Name; null outside of pods", "web-5d9c7")),
    "namespace": _or_null(_text("Of the pod", "shop")),
}
NAMES: Final = {
    "pid": _whole("Process id", 4099),
    "start_time_seconds": _number("When it was started, since 1970", 1795283859.517),
    "process": _text("Command name: the program chooses it", "nginx"),
    "group": _text("By the rules of the configuration", "nginx"),
    **PLACE,
    "uid": _whole("User id", 33),
    "user": _text("User name, or the id if there is none", "www-data"),
    "unit": _or_null(_text("Service of systemd", "nginx.service")),
}
PROCESS: Final = {
    **NAMES,
    "outcome": {
        **OUTCOME,
        "type": ["string", "null"],
        "enum": [*OUTCOMES, None],
        "examples": [None],
    },
    **BY_PROTOCOL,
}
THREAD: Final = {
    **{name: schema for name, schema in PROCESS.items() if name not in BY_PROTOCOL},
    "tid": _whole("Thread id", 4111),
    "thread": _text("Its name: the program chooses it", "worker"),
    **BY_PROTOCOL,
}
SOCKET: Final = {
    "cookie": _whole("Of the kernel: used once in a network namespace", 8191),
    **{name: _or_null(schema) for name, schema in NAMES.items()},
    "tid": _or_null(_whole("The thread, where threads are counted", 4111)),
    "protocol": _one_of(PROTOCOLS, "Of its packets"),
    "local_address": _text("IP address", "10.0.0.7"),
    "local_port": _whole("Port; 0 where there is none", 443),
    "remote_address": _text("IP address", "10.0.0.23"),
    "remote_port": _whole("Port; 0 if it is not connected", 40961),
    "network_namespace": _whole("Its inode", 4026531840),
    **BY_PROTOCOL,
}
HOST: Final = {
    "address": _text("IP address", "10.0.0.23"),
    "device": _text("The one that leads to it; empty: the address is this host's own", ""),
    "connections": _object({p: _whole(f"Of {p}, now", 3) for p in PROTOCOLS}),
    "last_use_time_seconds": _or_null(_number("Since 1970; null: never", 1795283859.517)),
    **BY_PROTOCOL,
}
GROUP: Final = {
    "group": _text("By the rules of the configuration", "nginx"),
    **PLACE,
    "processes": _whole("How many live", 3),
    **BY_PROTOCOL,
}
EXIT: Final = {
    "number": _or_null(_whole("Never used again; null: it has left the list", 101)),
    **{name: NAMES[name] for name in ("pid", "process", "group")},
    **PLACE,
    "uid": NAMES["uid"],
    "user": NAMES["user"],
    "cgroup_id": _whole("Of the kernel", 7919),
    "cgroup": _or_null(_text("Path; null if it had gone", "/system.slice/nginx.service")),
    "runtime": _or_null(_text("What the path says: docker, containerd and others", "docker")),
    "container_id": _or_null(_text("What the path says", "3f4e8c1d2b5a")),
    "pod_uid": _or_null(_text("What the path says", "0b9bb1f2-7f4d-4f0c-9a7e-0f8f2b1d4c11")),
    "unit": NAMES["unit"],
    "start_time_seconds": NAMES["start_time_seconds"],
    "end_time_seconds": _number("When it ended, since 1970", 1795283862.101),
    "outcome": OUTCOME,
    "exit_status": _or_null(_whole("Null if a signal has ended it", 0)),
    "signal": {**_or_null(_text("Null if it has ended by itself")), "examples": [None, "SIGKILL"]},
    "threads": _whole("That have ended in it", 1),
    "sockets": _whole("That it has used", 2),
    **BY_PROTOCOL,
    "tcp_payload": _object(
        {
            "received_bytes": _whole("In order", 43_900_027),
            "acknowledged_bytes": _whole("That the other side has confirmed", 997),
            "retransmitted_packets": _whole("Sent again", 2),
        },
        "Another layer, never added to the others",
    ),
    "final": {
        "type": "boolean",
        "description": "Nothing can be added any more",
        "examples": [True],
    },
}
CONNECTION: Final = {
    "address": _text("IP address of this host, or behind it", "10.0.0.7"),
    "port": _whole("Of ICMP, the identifier of an echo", 443),
    "peer_address": _text("IP address of the other side", "10.0.0.23"),
    "peer_port": _whole("Likewise", 40961),
    "protocol": _one_of(PROTOCOLS, "Of its packets"),
    "device": _text("Behind which it is; empty: it is this host's own", ""),
    "network_namespace": _or_null(_whole("Of a socket: inode", 4026531840)),
    "pid": _or_null(_whole("Of a socket: who transmits on it", 4099)),
    "process": _or_null(_text("Its command name", "nginx")),
    "opened_by": {
        "type": ["string", "null"],
        "enum": ["address", "peer", None],
        "description": "Who sent the first packet that was seen; null of a socket",
        "examples": [None],
    },
    "is_open": {"type": "boolean", "description": "Not over yet", "examples": [True]},
    "first_time_seconds": _or_null(_number("Since 1970; null of a socket", 1795283859.517)),
    "last_use_time_seconds": _or_null(_number("Likewise", 1795283862.101)),
    **TRAFFIC_FIELDS,
}
PAST: Final = _list(
    _or_null(_whole("Bytes in each second; null: nobody knows any more", 44_100_023)),
    maxItems=POINTS,
)
COMPONENTS: Final[dict[str, Schema]] = {
    "Traffic": _object(TRAFFIC_FIELDS, "IP layer, headers included, since the counter began"),
    "Rates": _object(
        {name: _number(f"{name.replace('_', ' ')} a second", n) for name, n in COUNTED.items()},
        "In each second of the last interval, all protocols together",
    ),
    "History": _object(
        {"receive_bytes": PAST, "transmit_bytes": PAST},
        "Bytes in each second of past intervals, which `age_seconds` ends; the last is the newest",
    ),
    "Process": _object(PROCESS),
    "Thread": _object(THREAD),
    "Socket": _object(SOCKET, "All names are null if nobody is known to use it"),
    "Host": _object(HOST),
    "Group": _object(GROUP),
    "Exit": _object(EXIT),
    "Connection": _object(CONNECTION),
}
EXITS: Final = _object(
    {
        "exits": _list(reference("Exit"), "In the order in which they were found"),
        "next": _whole("What to give as `since` to go on from here", 102),
        "evicted": _whole("Those that have made room for others", 0),
    }
)
CONNECTIONS: Final = _object({"connections": _list(reference("Connection"))})
ROWS: Final = {
    "groups": GROUP,
    "processes": PROCESS,
    "threads": THREAD,
    "sockets": SOCKET,
    "hosts": HOST,
    "exits": EXIT,
}
LIVE: Final = {
    "totals": reference("Traffic"),
    "rates": _or_null(reference("Rates"), "Null: it takes two samples to know"),
    "history": _or_null(reference("History"), "Null: there was no traffic, or none is asked for"),
}
COMPONENTS["Sum"] = _object({**BY_PROTOCOL, **LIVE}, "Of the whole host")
OF_EXITS: Final = {
    **LIVE,
    **{name: {"type": "null", "examples": [None]} for name in ("rates", "history")},
}


def listing(noun: str, entry: Schema) -> Schema:
    """Return the shape of a list of all there are."""
    return _object(
        {
            "counted": {
                "type": "boolean",
                "description": "False: the exporter does not count these",
                "examples": [True],
            },
            **INSTANT,
            noun: _list(entry),
        }
    )


def top(view: View) -> Schema:
    """Return the shape of a bounded list with rates."""
    return _object(
        {
            "view": {"type": "string", "const": view.noun, "examples": [view.noun]},
            "sort": _one_of(view.sorts, "By what rows are in order"),
            "order": {**_one_of(ORDERS, "In which direction"), "examples": [ORDERS[1]]},
            "search": _text("As it was asked for", ""),
            "counted": {
                "type": "boolean",
                "description": "False: the exporter does not count these, and `hint` says how to",
                "examples": [True],
            },
            "hint": {**_or_null(_text("How to have them counted")), "examples": [None]},
            **INSTANT,
            "interval_seconds": _or_null(
                _number("Of the rates; null: there is one sample, ask again", 2.003117)
            ),
            "age_seconds": _list(
                _number("0 is the newest", 0),
                "How long ago the intervals of `history` ended",
                maxItems=POINTS,
            ),
            "views": _object(
                {
                    noun: _or_null(_whole(f"How many {noun} there are; null: not counted", 23))
                    for noun in VIEWS
                }
            ),
            "count": _whole("How many there are", 23),
            "matching": _whole("How many of them `search` has found", 23),
            "total": reference("Sum"),
            "unidentified": reference("Sum"),
            "rows": _list(
                _object({**ROWS[view.noun], **(LIVE if view.has_rates else OF_EXITS)}),
                maxItems=MAX_ROWS,
            ),
        }
    )
