# SPDX-License-Identifier: Apache-2.0
"""A program at a network device: by a TCX link where the kernel has it (6.6), else by a filter."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final, Protocol

from exporter.kernel import links
from exporter.kernel.bpf_call import LINK_CREATE, bpf
from exporter.kernel.libbpf import TcHook, TcOptions, describe

if TYPE_CHECKING:
    from exporter.kernel.libbpf import Libbpf

INGRESS, EGRESS = 1, 2
"""enum bpf_tc_attach_point (libbpf.h)."""
TCX_ATTACH: Final = {INGRESS: 46, EGRESS: 47}
"""BPF_TCX_INGRESS, BPF_TCX_EGRESS (include/uapi/linux/bpf.h)."""
BEFORE: Final = 1 << 3
"""BPF_F_BEFORE: of all that are there, before what they drop or redirect is gone."""
REPLACE: Final = 1
"""BPF_TC_F_REPLACE: our own, which one that was killed has left."""
HANDLE, PRIORITY = 0x4E41, 48
"""Of our filter."""


class LinkCreate(ctypes.Structure):
    """union bpf_attr of BPF_LINK_CREATE, with its member tcx."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("target_ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("relative_fd", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("expected_revision", ctypes.c_uint64),
    )


class Attached(Protocol):
    """What attach() returns."""

    def is_there(self) -> bool:
        """Tell whether packets of the device still find the program."""
        ...

    def close(self) -> None:
        """Detach."""
        ...


def attach(library: Libbpf, program: int, index: int, point: int) -> Attached:
    """Attach a program to the device with this index. Raises OSError."""
    request = LinkCreate(
        prog_fd=program,
        target_ifindex=index,
        attach_type=TCX_ATTACH[point],
        flags=BEFORE,
    )
    try:
        return _Link(bpf(LINK_CREATE, request))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _Filter(library, program, index, point)


class _Link:
    """Goes with the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def is_there(self) -> bool:
        """Ask whose it is: without a device it is nobody's (kernel/bpf/tcx.c)."""
        info = links.info(self._fd)
        return info is not None and bool(info.place.tcx.ifindex)

    def close(self) -> None:
        os.close(self._fd)


class _Filter:
    """Of the qdisc clsact; after a SIGKILL it stays, and is taken over at the next start."""

    def __init__(self, library: Libbpf, program: int, index: int, point: int) -> None:
        self._library = library
        self._place = TcHook(sz=ctypes.sizeof(TcHook), ifindex=index, attach_point=point)
        ours = self._ours(prog_fd=program, flags=REPLACE)
        with library.capture():
            code = -library.bpf_tc_hook_create(ctypes.byref(self._place))
            if code in {0, errno.EEXIST}:
                code = -library.bpf_tc_attach(ctypes.byref(self._place), ctypes.byref(ours))
        if code:
            raise OSError(code, describe(code))

    @staticmethod
    def _ours(**more: int) -> TcOptions:
        return TcOptions(sz=ctypes.sizeof(TcOptions), handle=HANDLE, priority=PRIORITY, **more)

    def is_there(self) -> bool:
        """Ask for it: it goes with the device, or with a qdisc that somebody removes."""
        with self._library.capture():
            place, ours = ctypes.byref(self._place), ctypes.byref(self._ours())
            return not self._library.bpf_tc_query(place, ours)

    def close(self) -> None:
        with self._library.capture():  # the device may have gone, and the filter with it
            place, ours = ctypes.byref(self._place), ctypes.byref(self._ours())
            self._library.bpf_tc_detach(place, ours)
