# SPDX-License-Identifier: Apache-2.0
"""Random configuration files: each is accepted, or refused with a ConfigError.

    python -m tests.unit.fuzz_document 1000000

Files are made of words of the example and of YAML itself, or by changing one that was accepted.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Final

from exporter.config import document
from exporter.errors import ConfigError

EXAMPLE: Final = (Path(__file__).parents[2] / "deploy" / "netatop-exporter.yml").read_bytes()
WORDS: Final = [
    *sorted(set(re.findall(rb"[\w.{}()?*\\^$+\[\]-]+|\s+|[^\w\s]", EXAMPLE))),
    *(
        b"&a ",
        b"*a",
        b"<<: ",
        b"? ",
        b"!!int ",
        b"!x ",
        b"!!python/name:os.system ",
        b"%YAML 1.1\n",
    ),
    *(
        b"---\n",
        b"...\n",
        b"|\n ",
        b">-\n ",
        b"\t",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
    ),
    *(b'"\\UFFFFFFFF"', b'"\\U00110000"', b'"\\x00"', b"%YAML " + b"9" * 5000 + b".1\n---\n"),
    *(b"null", b"~", b"yes", b"0x1f", b"1e999", b".nan", b"2026-99-99", b"1:30", b"1_0", b"9" * 40),
    *(b"(?P<a>x)", b"(" * 50, b"a{999}", b"{{.Matches.a}}", b"{{", b"[" * 50, b"{a: " * 50),
]
SMALL: Final = 400
"""Bytes of a file that is worth changing."""
POOL: Final = 100
KEYS: Final = [word for word in WORDS if re.fullmatch(rb"[a-z_]+", word)]


def run(files: int, chance: random.Random) -> tuple[int, int]:
    """Read so many files; return how many were accepted and refused. Anything else is raised."""
    accepted, refused = 0, 0
    good = [b"threads: true\n", EXAMPLE[: EXAMPLE.index(b"limits:")], EXAMPLE]
    """To be changed further."""
    for _ in range(files):
        data = _make(chance, good)
        try:
            document.parse(data, "f.yml")
        except ConfigError as error:
            refused += 1
            for line in str(error).splitlines():
                assert re.match(r"f\.yml:\d+:\d+: .*found .*; accepted is .", line), data
        except BaseException as error:
            error.add_note(f"the file was {data!r}")
            raise
        else:
            accepted += 1
            if len(data) < 400:
                good[chance.randrange(3, 40) if len(good) > 40 else len(good) :] = [
                    data,
                    *good[40:],
                ]
    return accepted, refused


def _make(chance: random.Random, good: list[bytes]) -> bytes:
    """Return a file."""
    kind = chance.random()
    if kind < 0.3:
        return b"".join(chance.choices(WORDS, k=chance.randrange(1, 30)))
    if kind < 0.6:
        return _node(chance, 0)
    data = bytearray(chance.choice(good))
    start = chance.randrange(max(1, len(data) - 300))
    data = data[start:] if chance.random() < 0.1 else data[: start + 300]
    for _ in range(chance.randrange(1, 5)):
        begin = chance.randrange(len(data) + 1)
        end = begin + chance.choice((0, 0, 1, 5))
        data[begin:end] = chance.choice((*chance.choices(WORDS, k=3), chance.randbytes(1), b""))
    return bytes(data)


def _node(chance: random.Random, depth: int) -> bytes:
    """Return a value in flow style, most of the time with keys that there are."""
    kind = chance.random()
    if depth > 4 or kind < 0.4:
        return b"".join((b" ", *chance.choices(WORDS, k=chance.choice((1, 1, 1, 2)))))
    items = [_node(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind < 0.6:
        return b"[" + b", ".join(items) + b"]"
    return b"{" + b", ".join(chance.choice(KEYS) + b": " + item for item in items) + b"}"


if __name__ == "__main__":
    number = int(sys.argv[1])
    sys.stdout.write("accepted {}, refused {}\n".format(*run(number, random.Random(number))))
