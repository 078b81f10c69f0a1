# SPDX-License-Identifier: Apache-2.0
"""What the ends of UDP sockets can do."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from tests.network import LIBC, checked
from tests.traffic.tcp import family_of
from tests.workload import PATIENCE, PORT, SO_RCVBUFFORCE

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

QUEUE: Final = 1 << 28
"""A receive buffer that holds all that a test sends."""
BATCH: Final = 500
GROUPS: Final = {4: "239.0.40.99", 6: "ff0e::4099"}
"""Multicast groups; nobody else's (RFC 2365, section 6.2; RFC 4291, section 2.7)."""


def bound(address: str, port: int = PORT) -> socket.socket:
    """Return a socket that receives there, with room for all."""
    receiver = socket.socket(family_of(address), socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE // 2)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    receiver.settimeout(PATIENCE)
    receiver.bind((address, port))
    return receiver


def receive(talk: Connection, address: str, datagrams: int, size: int, port: int = PORT) -> None:
    """Receive so many, and never answer."""
    with bound(address, port) as receiver:
        talk.send("ready")
        for _ in range(datagrams):
            assert len(receiver.recv(1 << 16)) == size


def send(_talk: Connection, address: str, datagrams: int, size: int, port: int = PORT) -> None:
    """Send so many, to an address in each call."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(datagrams):
            sender.sendto(bytes(size), (address, port))


def ask(_talk: Connection, address: str, datagrams: int, size: int) -> None:
    """Connect, send one at a time and await its echo."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE)
        asker.connect((address, PORT))
        for _ in range(datagrams):
            asker.send(bytes(size))
            assert len(asker.recv(1 << 16)) == size


def echo(talk: Connection, address: str, datagrams: int) -> None:
    """Send each one back to where it came from."""
    with bound(address) as receiver:
        talk.send("ready")
        for _ in range(datagrams):
            receiver.sendto(*receiver.recvfrom(1 << 16))


def join(talk: Connection, device: str, six: bool, datagrams: int, size: int) -> None:
    """Join a multicast group and receive."""
    group = GROUPS[6 if six else 4]
    with bound(group) as receiver:
        index = socket.if_nametoindex(device)
        raw = socket.inet_pton(family_of(group), group)
        if six:
            joined = raw + struct.pack("=I", index)
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
        else:
            joined = raw + struct.pack("=4xI", index)
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        talk.send("ready")
        for _ in range(datagrams):
            assert len(receiver.recv(1 << 16)) == size


def send_to_group(_talk: Connection, device: str, six: bool, datagrams: int, size: int) -> None:
    """Send to a multicast group, but not to this host."""
    group = GROUPS[6 if six else 4]
    index = socket.if_nametoindex(device)
    with socket.socket(family_of(group), socket.SOCK_DGRAM) as sender:
        if six:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        else:
            out = struct.pack("=4x4xI", index)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        for _ in range(datagrams):
            sender.sendto(bytes(size), (group, PORT))


def insist(talk: Connection, address: str, datagrams: int, size: int) -> None:
    """Receive without waiting, again and again: most calls fail with EAGAIN."""
    with bound(address) as receiver:
        receiver.setblocking(False)
        talk.send("ready")
        refused = received = 0
        while received < datagrams:
            try:
                assert len(receiver.recv(1 << 16)) == size
                received += 1
            except BlockingIOError:
                refused += 1
        assert refused > datagrams


def drip(_talk: Connection, address: str, datagrams: int, size: int, seconds: float) -> None:
    """Send one at a time with pauses between them."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sender:
        for _ in range(datagrams):
            sender.sendto(bytes(size), (address, PORT))
            time.sleep(seconds)


# Many messages in one call


class Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", Header), ("length", ctypes.c_uint))


def _batch(size: int) -> tuple[Any, ...]:
    """Return messages, and what they point to, which must live as long."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    vector = Vector(ctypes.addressof(buffer), size)
    messages = (Message * BATCH)()
    for message in messages:
        message.header.vectors, message.header.vector_count = ctypes.pointer(vector), 1
    return messages, vector, buffer


def send_many(_talk: Connection, address: str, datagrams: int, size: int) -> None:
    """Send so many, hundreds in a call, through a connected socket."""
    messages, *_kept = _batch(size)
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sender:
        sender.connect((address, PORT))
        while datagrams:
            sent = LIBC.sendmmsg(sender.fileno(), messages, min(datagrams, BATCH), 0)
            datagrams -= checked(sent)


def receive_many(talk: Connection, address: str, datagrams: int, size: int) -> None:
    """Receive so many, hundreds in a call."""
    messages, *_kept = _batch(1 << 16)
    with bound(address) as receiver:
        talk.send("ready")
        while datagrams:
            assert select.select([receiver], [], [], PATIENCE)[0]
            wanted = min(datagrams, BATCH)
            found = checked(
                LIBC.recvmmsg(receiver.fileno(), messages, wanted, socket.MSG_DONTWAIT, None)
            )
            assert {message.length for message in messages[:found]} == {size}
            datagrams -= found
