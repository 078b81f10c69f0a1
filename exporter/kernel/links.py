# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a link: it may outlive what it was attached to."""

from __future__ import annotations

import ctypes
import logging
from typing import TYPE_CHECKING, Final

from exporter.kernel.libbpf import open_library

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

CGROUP: Final = 3
"""BPF_LINK_TYPE_CGROUP (include/uapi/linux/bpf.h)."""


class _Cgroup(ctypes.Structure):
    _fields_ = (("cgroup_id", ctypes.c_uint64), ("attach_type", ctypes.c_uint32))


class _Tcx(ctypes.Structure):
    _fields_ = (("ifindex", ctypes.c_uint32), ("attach_type", ctypes.c_uint32))


class _Place(ctypes.Union):
    _fields_ = (("cgroup", _Cgroup), ("tcx", _Tcx))


class LinkInfo(ctypes.Structure):
    """struct bpf_link_info, with two of its members."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("place", _Place),
    )


def info(fd: int) -> LinkInfo | None:
    """Return it; None if the kernel does not say."""
    found = LinkInfo()
    size = ctypes.c_uint32(ctypes.sizeof(found))
    code = open_library().bpf_obj_get_info_by_fd(fd, ctypes.byref(found), ctypes.byref(size))
    return None if code else found


def severed(links: Mapping[str, int]) -> dict[str, int]:
    """Return those that somebody has detached from their cgroup: the attach type of each.

    Such a link is of no cgroup (bpf_cgroup_link_fill_link_info in kernel/bpf/cgroup.c, Linux 6.18);
    those of tracepoints can't be detached.
    """
    found = ((name, info(fd)) for name, fd in links.items())
    return {
        name: said.place.cgroup.attach_type
        for name, said in found
        if said and said.type == CGROUP and not said.place.cgroup.cgroup_id
    }


class Watch:
    """Says once of each link that somebody has detached it (BPF_LINK_DETACH)."""

    def __init__(self, links: Mapping[str, int]) -> None:
        """Take descriptors by the names of their programs; there may be others later."""
        self._links = links
        self._said: set[str] = set()

    def severed(self) -> set[str]:
        """Return the names of those that are not attached any more."""
        found = set(severed(self._links))
        for name in sorted(found - self._said):
            log.error("program %s: detached by somebody; attached again by a restart", name)
        self._said |= found
        return found
