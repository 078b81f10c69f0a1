# SPDX-License-Identifier: Apache-2.0
"""What this kernel offers, asked by trying: there, not there, or could not tell.

Never by version: distributions move features both ways. A probe that fails for lack of privilege
says that it could not tell.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import UnsupportedKernelError
from exporter.kernel import capabilities, host
from exporter.kernel.capabilities import Capability
from exporter.kernel.hooks import NO_PAYLOAD, TRACEPOINTS, UNANSWERED, UNSEEN_KERNEL
from exporter.kernel.kinds import MapType, ProgramType
from exporter.kernel.libbpf import LoadOptions, describe, open_library
from exporter.kernel.trampolines import try_trampoline
from exporter.kernel.types import KernelTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.kernel.hooks import Hook
    from exporter.kernel.libbpf import Libbpf

KPROBE_PMU: Final = Path("/sys/bus/event_source/devices/kprobe")


class AttachType(enum.IntEnum):
    """enum bpf_attach_type (include/uapi/linux/bpf.h), as far as it is probed."""

    CGROUP_INET_INGRESS = 0
    CGROUP_INET_SOCK_CREATE = 2
    CGROUP_GETSOCKOPT = 21
    TRACE_FENTRY = 24
    CGROUP_INET_SOCK_RELEASE = 34
    NETFILTER = 45
    TCX_INGRESS = 46


class Answer(enum.Enum):
    """The three answers of a probe."""

    THERE = "yes"
    NOT_THERE = "no"
    COULD_NOT_TELL = "?"


class Feature(NamedTuple):
    """A feature and what a probe said of it."""

    name: str
    needed: bool
    answer: Answer
    detail: str = ""


def _code(*instructions: tuple[int, int, int, int]) -> bytes:
    """Assemble opcode, registers (source << 4 | target), offset and constant (RFC 9669)."""
    return b"".join(struct.pack("<BBhi", *instruction) for instruction in instructions)


EXIT: Final = (0x95, 0, 0, 0)
# r0 = 0 or 1; exit: one of the two is accepted by every program type that is probed
RETURN: Final = {value: _code((0xB7, 0, 0, value), EXIT) for value in (0, 1)}
# r1 = 1; *(r10 - 8) = r1; r1 = fetch_add(*(r10 - 8), r1); r0 = 1; exit
FETCH_ADD: Final = _code(
    (0xB7, 1, 0, 1), (0x7B, 0x1A, -8, 0), (0xDB, 0x1A, -8, 0x01), (0xB7, 0, 0, 1), EXIT
)


# Calls bpf_probe_read_kernel and bpf_set_retval, by their numbers 113 and 187. Where the first is
# refused, libbpf puts it in the place of the one for user space, too.
ANSWER: Final = _code(
    *((0xBF, 0xA1, 0, 0), (0x07, 1, 0, -8), (0xB7, 2, 0, 8), (0xB7, 3, 0, 0), (0x85, 0, 0, 113)),
    *((0xB7, 1, 0, 0), (0x85, 0, 0, 187), (0xB7, 0, 0, 1), EXIT),
)


class Probes:
    """Asks the running kernel."""

    def __init__(self) -> None:
        self._bpf: Libbpf = open_library()
        self._types: KernelTypes | None = None

    def all(self) -> Iterator[Feature]:
        """Ask for every hook that this program can use, now or in another mode."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(UnsupportedKernelError):
                self._types = stack.enter_context(KernelTypes())
            yield from self._all()

    def _all(self) -> Iterator[Feature]:
        kinds = ProgramType
        attach = AttachType
        yield self._program("cgroup_skb", kinds.CGROUP_SKB, attach.CGROUP_INET_INGRESS)
        yield self.atomics()
        yield self._program("cgroup/sock_create", kinds.CGROUP_SOCK, attach.CGROUP_INET_SOCK_CREATE)
        yield self._program(
            "cgroup/sock_release", kinds.CGROUP_SOCK, attach.CGROUP_INET_SOCK_RELEASE
        )
        for hook in {hook.tracepoint: hook for hook in TRACEPOINTS}.values():
            yield self._tracepoint(hook)
        yield self._socket_iterator()
        yield self._iterator("task_file")
        payload = Feature("payload of TCP", False, Answer.NOT_THERE, NO_PAYLOAD)
        yield self._named(payload, KernelTypes.has_casts)
        yield self._fentry()
        yield Feature(
            "kprobe, for the portable object",
            False,
            Answer.THERE if KPROBE_PMU.exists() else Answer.NOT_THERE,
        )
        link = self._program("netfilter link", kinds.NETFILTER, attach.NETFILTER, needed=False)
        yield link._replace(detail=UNSEEN_KERNEL) if link.answer is Answer.NOT_THERE else link
        yield self.answers()
        yield self._tcx()

    def atomics(self) -> Feature:
        """Ask for operations that return the old value: a counter is taken by one of them."""
        found = self._loads(
            Feature("atomic operations (Linux 5.12)", False, Answer.THERE),
            self._load(ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS, code=FETCH_ADD),
        )
        if found.answer is Answer.NOT_THERE:
            return found._replace(detail="without, the portable kernel object is taken")
        return found

    def answers(self) -> Feature:
        """Ask for what it takes to answer getsockopt(2) in the place of a kernel module."""
        found = self._loads(
            Feature("answers to getsockopt", False, Answer.THERE),
            self._load(ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, code=ANSWER),
        )
        return found._replace(detail=UNANSWERED) if found.answer is Answer.NOT_THERE else found

    def _load(self, kind: int, attach: int, target: int = 0, code: bytes = b"") -> int:
        """Load a program, if none is given the smallest; its descriptor, or -errno."""
        options = LoadOptions(
            sz=ctypes.sizeof(LoadOptions), expected_attach_type=attach, attach_btf_id=target
        )
        code = code or RETURN[0 if kind == ProgramType.TRACING else 1]
        with self._bpf.capture():
            fd: int = self._bpf.bpf_prog_load(
                kind, b"probe", b"Dual MIT/GPL", code, len(code) // 8, ctypes.byref(options)
            )
        return fd

    def _program(self, name: str, kind: int, attach: int, *, needed: bool = True) -> Feature:
        return self._loads(Feature(name, needed, Answer.THERE), self._load(kind, attach))

    @staticmethod
    def _loads(feature: Feature, fd: int) -> Feature:
        if fd >= 0:
            os.close(fd)
        answer, detail = _judge(fd)
        return feature._replace(answer=answer, detail=detail)

    def _tracepoint(self, hook: Hook) -> Feature:
        absent = Feature(
            f"tracepoint {hook.tracepoint}", not hook.without, Answer.NOT_THERE, hook.without
        )
        return self._named(absent, lambda types: types.has_tracepoint(hook.tracepoint))

    def _socket_iterator(self) -> Feature:
        name = "iterator bpf_sk_storage_map"
        if self._types and not self._types.has_safe_walk():
            detail = "not safe on this kernel: sockets are settled by way of files"
            return Feature(name, False, Answer.NOT_THERE, detail)
        return self._iterator("bpf_sk_storage_map")

    def _iterator(self, name: str) -> Feature:
        absent = Feature(f"iterator {name}", True, Answer.NOT_THERE)
        return self._named(absent, lambda types: types.function(f"bpf_iter_{name}") > 0)

    def _named(self, absent: Feature, is_there: Callable[[KernelTypes], bool]) -> Feature:
        if not self._types:
            return absent._replace(answer=Answer.COULD_NOT_TELL, detail="no BTF to look it up in")
        return absent._replace(answer=Answer.THERE, detail="") if is_there(self._types) else absent

    def _fentry(self) -> Feature:
        name = "fentry, fexit, where tracepoints lack"
        if not self._types:
            return Feature(name, False, Answer.COULD_NOT_TELL, "no BTF to look it up in")
        return Feature(name, False, *_judge(try_trampoline(self._types)))

    def _tcx(self) -> Feature:
        """Ask for device 0, which none has: a kernel that knows tcx says so first."""
        fd = self._load(ProgramType.SCHED_CLS, 0)
        if fd < 0:
            return Feature("tcx, for hosts.devices", False, *_judge(fd))
        code = self._bpf.bpf_link_create(fd, 0, AttachType.TCX_INGRESS, None)
        os.close(fd)
        if code >= 0:
            with contextlib.suppress(OSError):
                os.close(code)
        return Feature(
            "tcx, for hosts.devices", False, *_judge(0 if code == -errno.ENODEV else code)
        )


class Running(NamedTuple):
    """What decides what an exporter needs that has loaded and attached everything."""

    has_netfilter: bool
    """It attaches in network namespaces as they come."""
    has_tcx: bool
    """A loaded program is attached to a device by whoever has it open (Linux 6.6)."""
    tables_take_bpf: bool
    """An open table is read with CAP_BPF only.

    So it was where unprivileged_bpf_disabled is set, before "bpf: refine
    kernel.unprivileged_bpf_disabled behaviour" (Linux 5.19).
    """

    @classmethod
    def here(cls) -> Running:
        """Ask the running kernel."""
        try:
            with KernelTypes() as types:
                return cls(types.has_netfilter_links(), types.has_tcx(), _tables_take_bpf())
        except UnsupportedKernelError:  # nothing will run
            return cls(has_netfilter=True, has_tcx=False, tables_take_bpf=True)


def _tables_take_bpf() -> bool:
    bpf = open_library()
    fd: int = bpf.bpf_map_create(MapType.ARRAY, b"probe", 4, 8, 1, None)
    if fd < 0:
        return True
    key, value = ctypes.c_uint32(0), ctypes.c_uint64()
    try:
        code = capabilities.try_without(
            (Capability.CAP_BPF, Capability.CAP_SYS_ADMIN),
            lambda: bpf.bpf_map_lookup_elem(fd, ctypes.byref(key), ctypes.byref(value)),
        )
    finally:
        os.close(fd)
    return bool(code)


def _judge(code: int) -> tuple[Answer, str]:
    """Turn a descriptor or -errno into an answer."""
    if code >= 0:
        return Answer.THERE, ""
    if -code in {errno.EPERM, errno.EACCES} and host.missing_capabilities():
        return Answer.COULD_NOT_TELL, describe(-code)
    return Answer.NOT_THERE, describe(-code)
