# SPDX-License-Identifier: Apache-2.0
"""Netfilter links (Linux 6.4) by bpf(2) itself: libbpf can make them since 1.3 only."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final

from exporter.kernel.bpf_call import LINK_CREATE, bpf

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM_TYPE, ATTACH_TYPE = 32, 45
"""BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER (include/uapi/linux/bpf.h)."""
FAMILIES: Final = (2, 10)
"""NFPROTO_IPV4, NFPROTO_IPV6."""
LOCAL_IN, LOCAL_OUT = 1, 3
PRIORITIES: Final = range(1000, 1064)
"""Later than any chain of a firewall, before connections are confirmed (INT_MAX). The first that is
free: no two programs at a hook may have the same (net/netfilter/core.c)."""

PLACES: Final = {"kernel_receive": LOCAL_IN, "kernel_transmit": LOCAL_OUT}
"""The hook of each program."""


class LinkCreate(ctypes.Structure):
    """union bpf_attr of BPF_LINK_CREATE, with its member netfilter."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("family", ctypes.c_uint32),
        ("hook", ctypes.c_uint32),
        ("priority", ctypes.c_int32),
        ("netfilter_flags", ctypes.c_uint32),
    )


def attach(programs: Mapping[str, int]) -> list[int]:
    """Attach in the calling thread's network namespace; return the descriptors of the links.

    Takes descriptors of programs by name. Raises OSError, with nothing left attached.
    """
    with contextlib.ExitStack() as undo:
        links = []
        for name, hook in PLACES.items():
            for family in FAMILIES:
                links.append(_first_free(programs[name], family, hook))
                undo.callback(os.close, links[-1])
        undo.pop_all()
    return links


def _first_free(program: int, family: int, hook: int) -> int:
    for priority in PRIORITIES:
        try:
            return _link(program, family, hook, priority)
        except OSError as error:
            if error.errno != errno.EBUSY or priority == PRIORITIES[-1]:
                raise
    raise AssertionError


def _link(program: int, family: int, hook: int, priority: int) -> int:
    request = LinkCreate(
        prog_fd=program,
        attach_type=ATTACH_TYPE,
        family=family,
        hook=hook,
        priority=priority,
    )
    return bpf(LINK_CREATE, request)
