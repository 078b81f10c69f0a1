#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write exporter/kernel/layouts.py and bpf/fingerprint.h from the types of the contract.

    gen_layouts.py OBJECT LAYOUTS_PY FINGERPRINT_H

OBJECT is layouts.c compiled for the BPF target. bpftool prints its BTF as JSON, so nothing here
knows the binary format. A development tool: the exporter never imports it.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

STRUCTS = (
    "task",
    "socket_record",
    "socket_summary",
    "counters",
    "settings",
    "remote_prefix",
    "host_key",
    "host",
    "flow_key",
    "flow",
    "flow_walk",
    "forward_settings",
    "life",
    "life_filter",
    "life_key",
    "life_counts",
    "socket_meter",
    "listening",
    "listener_of",
    "call",
    "portable_settings",
)
ENUMS = ("protocol", "direction", "reason", "loss", "life_event")
RAW = {("task", "remotes")}
"""Members of many numbers that few want: left as bytes, with a struct of their own."""
CODES = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"}

Btf = dict[int, dict[str, Any]]


def read_btf(path: str) -> Btf:
    """Return the types of an object by their id."""
    text = subprocess.run(
        ["bpftool", "btf", "dump", "file", path, "-j"], check=True, capture_output=True
    ).stdout
    return {kind["id"]: kind for kind in json.loads(text)["types"]}


def resolve(types: Btf, type_id: int) -> dict[str, Any]:
    """Follow typedefs and qualifiers."""
    kind = types[type_id]
    while kind["kind"] in {"TYPEDEF", "CONST", "VOLATILE"}:
        kind = types[kind["type_id"]]
    return kind


def scalars(types: Btf, type_id: int) -> str:
    """Return the struct codes of a type, all its members in order."""
    kind = resolve(types, type_id)
    match kind["kind"]:
        case "INT":
            if kind["name"] == "char":
                return "c"
            return CODES[kind["size"], kind["encoding"] == "SIGNED"]
        case "ARRAY":
            codes = scalars(types, kind["type_id"]) * kind["nr_elems"]
            return f"{len(codes)}s" if set(codes) <= {"c", "B"} else codes
        case "STRUCT":
            return "".join(scalars(types, member["type_id"]) for member in kind["members"])
        case other:
            sys.exit(f"gen_layouts: {kind['name']}: a {other} has no place in the contract")


def fold(codes: str) -> str:
    """Shorten a run of equal codes: QQQQ -> 4Q."""
    if codes.endswith("s") or len(codes) == 1:
        return codes
    if len(set(codes)) != 1:
        sys.exit(f"gen_layouts: {codes}: a member must be of one type")
    return f"{len(codes)}{codes[0]}"


def annotation(codes: str) -> str:
    """Name the Python type of a member with these codes."""
    if codes.endswith("s"):
        return "bytes"
    return "int" if len(codes) == 1 else "tuple[int, ...]"


def width(codes: str) -> int:
    """Count the values that struct.unpack returns for a member."""
    return 1 if codes.endswith("s") else len(codes)


def is_raw(kind: dict[str, Any], member: dict[str, Any]) -> bool:
    """Tell whether a member is one of RAW."""
    return (kind["name"], member["name"]) in RAW


def member_codes(types: Btf, kind: dict[str, Any], member: dict[str, Any]) -> str:
    """Return the struct codes by which a member is unpacked."""
    codes = scalars(types, member["type_id"])
    return f"{struct.calcsize('<' + codes)}s" if is_raw(kind, member) else codes


def emit_raw(types: Btf, kind: dict[str, Any]) -> str:
    """Return what decodes the members that were left as bytes."""
    return "".join(
        f"{kind['name'].upper()}_{m['name'].upper()} = "
        f'struct.Struct("<{fold(scalars(types, m["type_id"]))}")\n'
        for m in kind["members"]
        if is_raw(kind, m)
    )


def emit_struct(types: Btf, kind: dict[str, Any]) -> str:
    """Return the class of one struct."""
    name = "".join(word.capitalize() for word in kind["name"].split("_"))
    members = [(m["name"], member_codes(types, kind, m)) for m in kind["members"]]
    form = " ".join(fold(codes) for _, codes in members)
    fields = "\n".join(f"    {field}: {annotation(codes)}" for field, codes in members)
    values, at = [], 0
    for _, codes in members:
        n = width(codes)
        values.append(f"v[{at}]" if n == 1 else f"v[{at}:{at + n}]")
        at += n
    constant = kind["name"].upper()
    if len(members) == 1:
        unpacked = f"{name}({values[0]})"
    else:
        unpacked = (
            f"{name}(\n                " + ",\n                ".join(values) + ",\n            )"
        )
    return f'''
{constant} = struct.Struct("<{form}")
{emit_raw(types, kind)}

class {name}(NamedTuple):
    """struct {kind["name"]}, {kind["size"]} bytes."""

{fields}

    @staticmethod
    def unpack_all(buffer: Buffer) -> Iterator[{name}]:
        """Decode consecutive structs."""
        return (
            {unpacked}
            for v in {constant}.iter_unpack(buffer)
        )
'''


def describe(types: Btf, kind: dict[str, Any]) -> str:
    """Return one line per member: what the fingerprint is taken of."""
    if kind["kind"] == "ENUM":
        return "".join(f"{kind['name']} {v['name']} {v['val']}\n" for v in kind["values"])
    return f"{kind['name']} {kind['size']}\n" + "".join(
        f" {m['name']} {m['bits_offset']} {scalars(types, m['type_id'])}\n" for m in kind["members"]
    )


def emit_enum(kind: dict[str, Any]) -> str:
    """Return the names of an enumeration in the order of their values, its count left off."""
    prefix = kind["name"].upper() + "_"
    values = sorted(
        (v for v in kind["values"] if v["name"].startswith(prefix)), key=lambda v: v["val"]
    )
    if [v["val"] for v in values] != list(range(len(values))):
        sys.exit(f"gen_layouts: enum {kind['name']}: the values must count up from 0")
    names = ", ".join(f'"{v["name"].removeprefix(prefix).lower()}"' for v in values)
    plural = {"loss": "LOSSES"}.get(kind["name"], kind["name"].upper() + "S")
    return f"{plural} = ({names})\n"


def main() -> None:
    """Generate both files."""
    source, layouts, header = sys.argv[1:]
    types = read_btf(source)
    named = {(t["kind"], t["name"]): t for t in types.values() if "name" in t}
    structs = [named["STRUCT", name] for name in STRUCTS]
    enums = [named["ENUM", name] for name in ENUMS]
    text = "".join(describe(types, kind) for kind in (*structs, *enums))
    fingerprint = zlib.crc32(text.encode())
    Path(layouts).write_text(
        '''# SPDX-License-Identifier: Apache-2.0
"""The structs that the kernel programs share with us. Generated by `make layouts`: do not edit."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Buffer: TypeAlias = bytes | bytearray | memoryview

'''
        f"FINGERPRINT = 0x{fingerprint:08X}\n\n"
        + "".join(emit_enum(kind) for kind in enums)
        + "\n".join(emit_struct(types, kind) for kind in structs)
    )
    Path(header).write_text(
        "/* SPDX-License-Identifier: MIT OR GPL-2.0-only */\n"
        "/* Of the contract's layouts. Generated by `make layouts`: do not edit. */\n"
        f"#define NETATOP_FINGERPRINT 0x{fingerprint:08X}\n"
    )


if __name__ == "__main__":
    main()
