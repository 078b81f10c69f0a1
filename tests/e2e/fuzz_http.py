# SPDX-License-Identifier: Apache-2.0
"""Requests that nobody would make: mutations of good ones, and noise.

    python -m tests.e2e.fuzz_http ADDRESS COUNT [SEED]

asks a running exporter, and ends with an error at the first answer that is not what it should be.
"""

from __future__ import annotations

import collections
import random
import socket
import sys
from typing import Final

SCRAPE: Final = (
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    b"\r\nAccept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
)
GOOD: Final = (
    SCRAPE,
    b"GET /api/v1/exits?since=0&limit=7 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/v1/connections?address=10.0.0.0%2F8 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nAuthorization: Basic YTpi\r\nConnection: keep-alive\r\n\r\n",
    b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)
PIECES: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"%",
        b"%00",
        b"%zz",
        b"../",
        b"//",
        b"\xff",
    ),
    *(b"HTTP/1.1", b"HTTP/0.9", b"HTTP/9.9", b"GET", b"CONNECT", b"PRI * HTTP/2.0", b"?", b"#"),
    *(b"Content-Length: 99999999999999999999", b"Content-Length: -1", b"Host: a", b"Expect: x"),
    *(b"Transfer-Encoding: chunked, identity", b"Upgrade: h2c", b"A: " + b"a" * 5003),
    *(b"collect[]=", b"since=1e9", b"q=0.000", b"q=nan", b"version=", b'"', b";" * 997, b"," * 997),
    *(b"\x16\x03\x01\x02\x00", b"\xc3\x28", "é".encode(), b"x" * 17_011),
)
REFUSALS: Final = frozenset({400, 401, 403, 404, 405, 421, 429, 431, 503})
SECONDS: Final = 10


def mutated(randomness: random.Random) -> bytes:
    """Return a request that is wrong in up to five places."""
    if randomness.random() < 0.1:
        return randomness.randbytes(randomness.randrange(300))
    text = bytearray(randomness.choice(GOOD))
    for _ in range(randomness.randrange(1, 6)):
        at = randomness.randrange(len(text) + 1)
        match randomness.randrange(5):
            case 0:
                text[at:at] = randomness.choice(PIECES)
            case 1:
                del text[at : at + randomness.randrange(30)]
            case 2 if at < len(text):
                text[at] = randomness.randrange(256)
            case 3:
                text[at:at] = text[: randomness.randrange(len(text) + 1)]
            case _:
                text[at : at + 3] = randomness.choice(PIECES)
    return bytes(text)


def status(address: tuple[str, int], said: bytes) -> int:
    """Return the status that a request gets; 0 if it is hung up on."""
    with socket.create_connection(address, timeout=SECONDS) as client:
        try:
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            head = client.recv(4099)
        except (ConnectionResetError, BrokenPipeError):
            return 0
    if not head:
        return 0
    assert head.startswith(b"HTTP/1.1 "), head
    return int(head[9:12])


def fuzz(address: tuple[str, int], count: int, seed: int) -> collections.Counter[int]:
    """Make so many requests; return how often each status came."""
    randomness = random.Random(seed)
    found: collections.Counter[int] = collections.Counter()
    for _ in range(count):
        said = mutated(randomness)
        code = status(address, said)
        assert code in {0, 200} | REFUSALS, (code, said)
        found[code] += 1
    return found


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    print(fuzz((host, int(port)), int(sys.argv[2]), seed))  # noqa: T201
