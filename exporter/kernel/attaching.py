# SPDX-License-Identifier: Apache-2.0
"""Programs attached by descriptor, with system calls alone, whoever has loaded them.

What is attached by a link or a perf event ends with its descriptor. Before Linux 5.7 programs at a
cgroup have no links: they are detached in the end, and what a killed exporter has left there is
found by the next one, by its name; so there only one can run at a time.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

from exporter.errors import MapReadError
from exporter.kernel.bpf_call import LINK_CREATE, bpf
from exporter.kernel.features import KPROBE_PMU, RETURN
from exporter.kernel.holding import program_info
from exporter.kernel.kinds import ProgramType
from exporter.kernel.libbpf import LoadOptions, open_library
from exporter.kernel.machine import SYS_PERF_EVENT_OPEN

if TYPE_CHECKING:
    from collections.abc import Iterator

PROG_ATTACH, PROG_DETACH, PROG_GET_FD_BY_ID, PROG_QUERY = 8, 9, 13, 16
"""enum bpf_cmd (include/uapi/linux/bpf.h), as the next two."""
ALLOW_MULTI: Final = 2
TRACE_ITER: Final = 28
MOST_QUERIED: Final = 64
"""The kernel's own limit of programs at one hook of a cgroup (BPF_CGROUP_MAX_PROGS)."""
IOC_SET_BPF, IOC_ENABLE = 0x40042408, 0x2400
"""PERF_EVENT_IOC_* (include/uapi/linux/perf_event.h)."""
FD_CLOEXEC: Final = 8


class PerfAttributes(ctypes.Structure):
    """struct perf_event_attr, its second version (PERF_ATTR_SIZE_VER1)."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("_period_to_flags", ctypes.c_uint64 * 4),
        ("_wakeup", ctypes.c_uint32 * 2),
        ("config1", ctypes.c_uint64),
        ("config2", ctypes.c_uint64),
    )


class LinkCreate(ctypes.Structure):
    """union bpf_attr of BPF_LINK_CREATE."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class Attach(ctypes.Structure):
    """union bpf_attr of BPF_PROG_ATTACH and BPF_PROG_DETACH."""

    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    )


class Query(ctypes.Structure):
    """union bpf_attr of BPF_PROG_QUERY."""

    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("prog_cnt", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
    )


class GetFd(ctypes.Structure):
    """union bpf_attr of BPF_PROG_GET_FD_BY_ID."""

    _fields_ = (
        ("prog_id", ctypes.c_uint32),
        ("next_id", ctypes.c_uint32),
        ("open_flags", ctypes.c_uint32),
    )


def raw_tracepoint(program: int, name: str) -> int:
    """Attach; return a descriptor. Raises OSError."""
    return _checked(open_library().bpf_raw_tracepoint_open(name.encode(), program))


def iterator(program: int) -> int:
    """Return the link of an iterator. Raises OSError."""
    return _checked(open_library().bpf_link_create(program, 0, TRACE_ITER, None))


def _checked(code: int) -> int:
    if code < 0:
        raise OSError(-code, os.strerror(-code))
    return code


def kprobe(program: int, function: str, *, at_return: bool) -> int:
    """Attach at entry or return of a kernel function; return a descriptor. Raises OSError."""
    try:
        kind = int((KPROBE_PMU / "type").read_text(encoding="ascii"))
    except FileNotFoundError as error:
        raise OSError(errno.ENODEV, f"no {KPROBE_PMU}") from error
    name = ctypes.create_string_buffer(function.encode())
    attributes = PerfAttributes(
        type=kind,
        size=ctypes.sizeof(PerfAttributes),
        config=int(at_return),  # format/retprobe: config:0
        config1=ctypes.addressof(name),
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    # Whatever task, on any processor: the event itself counts nothing.
    arguments = (SYS_PERF_EVENT_OPEN[os.uname().machine], 0, -1, 0, -1, FD_CLOEXEC)
    number, _, *rest = (ctypes.c_long(argument) for argument in arguments)
    fd: int = libc.syscall(number, ctypes.byref(attributes), *rest)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        fcntl.ioctl(fd, IOC_SET_BPF, program)
        fcntl.ioctl(fd, IOC_ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


class CgroupPrograms:
    """Those attached to a cgroup without links."""

    def __init__(self, cgroup_fd: int) -> None:
        """Take the descriptor of the cgroup, which must stay open as long as this is."""
        self._cgroup = cgroup_fd
        self._attached: list[Attach] = []

    def attach(self, program: int, attach_type: int) -> int | None:
        """Attach; return the descriptor of the link, None if there are no links. Raises OSError."""
        try:
            return bpf(LINK_CREATE, LinkCreate(program, self._cgroup, attach_type))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        self.attach_without_link(program, attach_type)
        return None

    def attach_without_link(self, program: int, attach_type: int) -> None:
        """Attach as kernels before 5.7 do, in the place of what was left there. Raises OSError."""
        self._sweep(attach_type, program_name(program))
        request = Attach(self._cgroup, program, attach_type, ALLOW_MULTI)
        bpf(PROG_ATTACH, request)
        self._attached.append(request)

    def _sweep(self, attach_type: int, name: str) -> None:
        """Detach programs with this name: their exporter was killed."""
        for number in self.ids(attach_type):
            fd = bpf(PROG_GET_FD_BY_ID, GetFd(number))
            try:
                if program_name(fd) == name:
                    bpf(PROG_DETACH, Attach(self._cgroup, fd, attach_type))
            except OSError as error:
                if error.errno != errno.ENOENT:  # one that has a link ends by itself
                    raise
            finally:
                os.close(fd)

    def ids(self, attach_type: int) -> Iterator[int]:
        """Yield the ids of all programs at one hook, whoever has attached them."""
        ids = (ctypes.c_uint32 * MOST_QUERIED)()
        request = Query(
            target_fd=self._cgroup,
            attach_type=attach_type,
            prog_ids=ctypes.addressof(ids),
            prog_cnt=MOST_QUERIED,
        )
        bpf(PROG_QUERY, request)
        yield from ids[: request.prog_cnt]

    def close(self) -> None:
        """Detach everything that has no link; may be called again."""
        while self._attached:
            request = self._attached.pop()
            request.attach_flags = 0
            bpf(PROG_DETACH, request)


def program_name(fd: int) -> str:
    """Return the name that the kernel has for a program; empty if it can't be told."""
    try:
        name: bytes = program_info(fd, "of another").name
    except MapReadError:
        return ""
    return name.decode()


def has_raw_tracepoint(name: str) -> bool:
    """Tell whether the kernel has a tracepoint with this name."""
    bpf_library = open_library()
    options = LoadOptions(sz=ctypes.sizeof(LoadOptions))
    with bpf_library.capture():
        program: int = bpf_library.bpf_prog_load(
            *(ProgramType.RAW_TRACEPOINT, b"probe", b"Dual MIT/GPL"),
            *(RETURN[0], len(RETURN[0]) // 8, ctypes.byref(options)),
        )
    if program < 0:
        return False
    try:
        os.close(raw_tracepoint(program, name))
    except OSError:
        return False
    finally:
        os.close(program)
    return True


def has_kprobes() -> bool:
    """Tell whether the kernel has probes that end with their descriptor (Linux 4.17)."""
    return KPROBE_PMU.exists()
