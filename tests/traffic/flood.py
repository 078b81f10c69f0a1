# SPDX-License-Identifier: Apache-2.0
"""SYNs by the hundred thousand, from addresses where nobody is."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import TYPE_CHECKING, Final

from tests.network import LIBC, checked
from tests.traffic.tcp import family_of
from tests.traffic.udp import BATCH, Message, Vector
from tests.workload import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

STRANGERS: Final = {4: "203.0.113.0/24", 6: "2001:db8:40::/64"}
SYN: Final = 0x02
SOURCE_PORTS: Final = 500


def _folded(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def _checksum(total: int) -> int:
    """Return the Internet checksum of a sum (RFC 1071)."""
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _packets(target: str, count: int) -> Iterator[bytes]:
    """Yield so many, IP header included, no two with the same source."""
    family = family_of(target)
    four = family == socket.AF_INET
    network = socket.inet_pton(family, STRANGERS[4 if four else 6].split("/")[0])
    to = socket.inet_pton(family, target)
    for number in range(count):
        source = network[:-2] + struct.pack(
            "!H", struct.unpack("!H", network[-2:])[0] + 1 + number // SOURCE_PORTS
        )
        ports = 1024 + number % SOURCE_PORTS, PORT
        tcp = struct.pack("!HHIIBBHHH", *ports, number, 0, 5 << 4, SYN, 65535, 0, 0)
        pseudo = _folded(source) + _folded(to) + socket.IPPROTO_TCP + len(tcp)
        checksum = struct.pack("!H", _checksum(pseudo + _folded(tcp)))
        tcp = tcp[:16] + checksum + tcp[18:]
        if four:
            yield struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + source + to + tcp
        else:
            yield struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + source + to + tcp


def syns(talk: Connection, target: str, count: int) -> None:
    """Send so many, when told."""
    family = family_of(target)
    address = ctypes.create_string_buffer(
        struct.pack("=HH", family, 0)
        + (b"" if family == socket.AF_INET else bytes(4))
        + socket.inet_pton(family, target)
        + bytes(8)
    )
    packets = list(_packets(target, count))
    length = len(packets[0])
    talk.send("ready")
    talk.recv()
    messages = (Message * BATCH)()
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        for at in range(0, count, BATCH):
            part = packets[at : at + BATCH]
            buffer = ctypes.create_string_buffer(b"".join(part))
            vectors = (Vector * len(part))()
            for index, (message, vector) in enumerate(zip(messages, vectors, strict=False)):
                vector.base, vector.length = ctypes.addressof(buffer) + index * length, length
                header = message.header
                header.vectors, header.vector_count = ctypes.pointer(vector), 1
                header.name = ctypes.addressof(address)
                header.name_length = 16 if family == socket.AF_INET else 28
            sent = 0
            while sent < len(part):
                call = LIBC.sendmmsg(
                    sender.fileno(), ctypes.byref(messages, sent * ctypes.sizeof(Message)),
                    len(part) - sent, 0,
                )  # fmt: skip
                sent += checked(call)
