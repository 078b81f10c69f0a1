# SPDX-License-Identifier: Apache-2.0
"""Gives every TCP and UDP socket of this host its cookie, by having them listed (sock_diag(7)).

A cookie is made when somebody first asks for it: a program that finds none knows no socket.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import struct
import threading
from typing import Final

from exporter.kernel import namespaces

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
REQUEST_DUMP: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP (include/uapi/linux/netlink.h), as the next two."""
ERROR, DONE = 2, 3
HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr."""
REQUEST: Final = struct.Struct("=BBBxI48x")
"""struct inet_diag_req_v2: family, protocol, extensions, states."""
ALL_STATES: Final = 0xFFFFFFFF
FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
PROTOCOLS: Final = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
RECEIVE: Final = 1 << 16
SECONDS: Final = 5.0

log = logging.getLogger(__name__)


def give_cookies() -> None:
    """List all of them, in every network namespace that can be entered."""
    # A thread of its own: entering a namespace is for ever if the way back should fail.
    worker = threading.Thread(target=_everywhere, name="sock_diag")
    worker.start()
    worker.join()


def _everywhere() -> None:
    own = namespaces.own()
    _here()
    for inode, path in dict(namespaces.namespaces()).items():
        if inode == own:
            continue
        try:
            if namespaces.enter(path, inode):
                _here()
        except OSError as error:
            log.debug("network namespace %d: %s; its open sockets are not known", inode, error)


def _here() -> None:
    for family, protocol in itertools.product(FAMILIES, PROTOCOLS):
        # A kernel without the module says so; then its sockets get theirs with the next packet.
        with contextlib.suppress(OSError):
            _list(family, protocol)


def _list(family: int, protocol: int) -> None:
    request = REQUEST.pack(family, protocol, 0, ALL_STATES)
    size = HEADER.size + len(request)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as talk:
        talk.settimeout(SECONDS)
        talk.send(HEADER.pack(size, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0) + request)
        while not _has_end(talk.recv(RECEIVE)):
            pass


def _has_end(answer: bytes) -> bool:
    """Tell whether the list ends in this datagram, or never began."""
    place = 0
    while place + HEADER.size <= len(answer):
        length, kind, *_ = HEADER.unpack_from(answer, place)
        if kind in {ERROR, DONE}:
            return True
        place += -(-length // 4) * 4
    return not answer
