# SPDX-License-Identifier: Apache-2.0
"""Raw IP sockets, and packets that no socket of this host made."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from tests.traffic.tcp import family_of
from tests.workload import PATIENCE

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

EXPERIMENT: Final = 253
"""For experimentation and testing (RFC 3692)."""


def receive(talk: Connection, address: str, packets: int, size: int) -> None:
    """Receive packets of a protocol that nobody else speaks."""
    with socket.socket(family_of(address), socket.SOCK_RAW, EXPERIMENT) as receiver:
        receiver.settimeout(PATIENCE)
        receiver.bind((address, 0))
        talk.send("ready")
        header = 0 if ":" in address else 20  # IPv4 raw sockets get it too: raw(7)
        for _ in range(packets):
            assert len(receiver.recv(1 << 16)) == header + size


def send(_talk: Connection, address: str, packets: int, size: int) -> None:
    """Send such packets."""
    with socket.socket(family_of(address), socket.SOCK_RAW, EXPERIMENT) as sender:
        for _ in range(packets):
            sender.sendto(bytes(size), (address, 0))
