# SPDX-License-Identifier: Apache-2.0
"""The far end of a TUN device: packets without a link header, and buffers of several segments."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Final

from tests.network import run
from tests.workload import wait_until

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TUNSETIFF, IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0001, 0x1000, 0x4000
"""include/uapi/linux/if_tun.h."""
NEEDS_CHECKSUM, GSO_TCPV4 = 1, 1
"""VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4 (include/uapi/linux/virtio_net.h)."""
NO_OFFLOAD: Final = bytes(10)
"""A struct virtio_net_hdr that asks for nothing."""
IPV4, TCP, UDP = 20, 20, 8


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _address(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


def _ipv4(source: str, target: str, protocol: int, length: int) -> bytes:
    fields = (0x45, 0, IPV4 + length, 0, 0, 64, protocol)
    ends = _address(source) + _address(target)
    head = struct.pack("!BBHHHBBH", *fields, 0) + ends
    return struct.pack("!BBHHHBBH", *fields, _checksum(head)) + ends


def udp(source: str, target: str, port: int, size: int) -> bytes:
    """Return a datagram without a checksum (RFC 768), after its struct virtio_net_hdr."""
    head = struct.pack("!HHHH", port, port, UDP + size, 0)
    return NO_OFFLOAD + _ipv4(source, target, 17, UDP + size) + head + bytes(size)


def segments(source: str, target: str, port: int, size: int, each: int) -> bytes:
    """Return TCP's data as a virtual machine hands it over: to be cut, `each` bytes a segment."""
    pseudo = _address(source) + _address(target) + struct.pack("!HH", 6, TCP + size)
    partial = ~_checksum(pseudo) & 0xFFFF  # the device does the rest
    head = struct.pack("!HHIIBBHHH", port, port, 1, 1, 5 << 4, 0x10, 1024, partial, 0)
    offload = struct.pack("<BBHHHH", NEEDS_CHECKSUM, GSO_TCPV4, IPV4 + TCP, each, IPV4, 16)
    return offload + _ipv4(source, target, 6, TCP + size) + head + bytes(size)


def far_end(talk: Connection, device: str, address: str) -> None:
    """Make the device, with this address of the host; send the packets that it is told."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), flags))
    run("ip", "address", "add", f"{address}/24", "dev", device)
    run("ip", "link", "set", device, "up")
    talk.send("up")
    while packets := talk.recv():
        for packet in packets:
            os.write(fd, packet)
        talk.send("sent")
    received = 0

    def read_all() -> bool:
        nonlocal received
        with contextlib.suppress(BlockingIOError):
            while True:
                received += len(os.read(fd, 1 << 16)) - len(NO_OFFLOAD)
        return received > 0

    wait_until(read_all, "packets for the far end")
    talk.send(received)
    os.close(fd)
