# SPDX-License-Identifier: Apache-2.0
"""Where the running kernel keeps members of its structs, for programs compiled at run time.

bpf/members.h lists what they read. The kernel's type information (BTF) says at once where that is.
Where there is none, its headers do: bcc compiles a function for each, which returns the place.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import CompilerError, UnsupportedKernelError
from exporter.kernel import bcc_compiler, kernel_headers
from exporter.kernel.types import KernelTypes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Member(NamedTuple):
    """A member of a struct."""

    struct: str
    path: str
    """As `__sk_common.skc_cookie`."""
    name: str
    """What the kernel programs call it."""


FORMER: Final = {"task_start": "real_start_time"}
"""What a member was called in earlier kernels (until Linux 5.4)."""
REASONS: Final = {
    "DROP_NO_SOCKET": "SKB_DROP_REASON_NO_SOCKET",
    "DROP_NO_PROTOCOL": "SKB_DROP_REASON_IP_NOPROTO",
}
"""Of enum skb_drop_reason (Linux 5.17); the values move from version to version."""
BYTE, BIT = "KERNEL_SOCK_BYTE", "KERNEL_SOCK_BIT"
"""Where the bit is that says that the kernel made a socket for itself: sock.sk_kern_sock."""
NOT_THERE: Final = -1

HEADERS: Final = (
    *("linux/version.h", "linux/sched/signal.h", "linux/cred.h", "linux/fs.h", "linux/kernfs.h"),
    *("linux/cgroup-defs.h", "linux/skbuff.h", "linux/udp.h", "net/sock.h"),
)
"""What declares them."""
# bcc's own <linux/bpf.h> is of an earlier kernel than the headers may be of; the rest is as the
# kernel itself is compiled.
FLAGS: Final = (
    *("-D_UAPI__LINUX_BPF_H__", "-DCC_USING_FENTRY", "-Wno-everything", "-ferror-limit=0"),
    *("-std=gnu11", "-fms-extensions", "-fshort-wchar"),
)
FIRST: Final = """\
#undef _UAPI__LINUX_BPF_H__
#include <uapi/linux/bpf.h>
#if __has_include(<net/dropreason.h>)
#include <net/dropreason.h>
#endif
"""
SINCE: Final = {
    "OFFSET_signal_exec_task": (5, 16),
    "OFFSET_freed_sk": (6, 11),
    "DROP_NO_SOCKET": (5, 17),
    "DROP_NO_PROTOCOL": (5, 17),
}
"""Not looked for in headers of a Linux before: each failure is another run of the compiler."""
UNDECLARED: Final = {"trace_event_raw_kfree_skb": 0}
"""No header declares what a tracepoint keeps; that it is there is all that is asked."""
CONSTANTS: Final = frozenset((0xB7, 0x18))
"""`r0 = immediate`, of 32 bits or 64 (BPF_ALU64 | BPF_MOV | BPF_K, BPF_LD | BPF_DW | BPF_IMM)."""
LOAD, LOAD_MASK = 0x61, 0xE7
"""`r0 = *(u8 *)(r1 + offset)`, of any size (BPF_LDX | BPF_MEM)."""
SHIFT_RIGHT, AND, WIDE = 0x74, 0x54, 0x03
"""`r0 >>= immediate`, `r0 &= immediate` (BPF_ALU), and what makes them of 64 bits (BPF_ALU64)."""
MISTAKE: Final = re.compile(r"/virtual/main\.c:(\d+):\d+: error: ")


class Places(NamedTuple):
    """Where they are."""

    by: str
    """What has told it: `BTF` or `headers`."""
    macros: Mapping[str, int]
    """For the source; NOT_THERE if the kernel does not have it."""


def find(*, use_types: bool = True) -> Places:
    """Ask for all. Raises KernelError.

    Not `use_types`: as if there was no type information, for tests.
    """
    if use_types:
        try:
            return Places("BTF", from_types())
        except UnsupportedKernelError:
            pass
    return Places("headers", from_headers())


def listed() -> tuple[Member, ...]:
    """Return what bpf/members.h lists."""
    text = (bcc_compiler.SOURCES / "members.h").read_text()
    found = re.findall(r"^\s+(?:MEMBER|PLACE)\((\w+), ([\w.]+), (\w+)[,)]", text, re.MULTILINE)
    return tuple(Member(*words) for words in found)


def from_types() -> dict[str, int]:
    """Ask the kernel's type information. Raises UnsupportedKernelError if there is none."""
    found = {}
    with KernelTypes() as types:
        for member in listed():
            paths = [path for path in (member.path, FORMER.get(member.name)) if path]
            offsets = (types.offset(member.struct, path) for path in paths)
            there = (offset for offset in offsets if offset is not None)
            found[f"OFFSET_{member.name}"] = next(there, NOT_THERE)
        for macro, reason in REASONS.items():
            value = types.enumerator("skb_drop_reason", reason)
            found[macro] = NOT_THERE if value is None else value
        bits = types.bits("sock", "sk_kern_sock")
    found[BYTE], found[BIT] = (NOT_THERE, 0) if bits is None else divmod(bits, 8)
    return found


@functools.cache
def from_headers() -> Mapping[str, int]:
    """Ask the kernel's headers. Raises CompilerError."""
    wanted = {**_members(), **REASONS, BIT: "((struct sock *)ctx)->sk_kern_sock"}
    with kernel_headers.prepared() as place:
        while True:
            lines = [*_source(wanted)]
            text = "".join(f"{line}\n" for line, _ in lines)
            try:
                compiled = bcc_compiler.compile_programs(
                    "kernel headers", text, FLAGS, kernel_source=place
                )
                break
            except CompilerError as error:
                # What the kernel does not have is a mistake in that line alone.
                wrong = {lines[int(line) - 1][1] for line in MISTAKE.findall(error.log)}
                if not wrong or "" in wrong:
                    raise
                wanted = {macro: how for macro, how in wanted.items() if macro not in wrong}
    programs = dict(compiled.programs)
    known = dict.fromkeys((*_members(), *REASONS), NOT_THERE)
    known[BYTE], known[BIT] = find_bit(programs.pop(BIT))
    return known | {macro: _returned(code, macro) for macro, code in programs.items()}


def find_bit(code: bytes) -> tuple[int, int]:
    """Return byte and bit that a program returns: it loads, shifts and masks. Or NOT_THERE."""
    load, *steps = (code[at : at + 8] for at in range(0, len(code), 8))
    if load[0] & LOAD_MASK != LOAD:
        return NOT_THERE, 0
    byte, bit = int.from_bytes(load[2:4], "little"), 0
    for step in steps:
        number = int.from_bytes(step[4:8], "little")
        if step[0] & ~WIDE == SHIFT_RIGHT:
            bit += number
        elif step[0] & ~WIDE == AND:
            bit += number.bit_length() - 1
            break
    return byte + bit // 8, bit % 8


def _members() -> dict[str, str]:
    """Return what says in C where each is."""
    return {
        f"OFFSET_{member.name}": f"{UNDECLARED[member.struct]}"
        if member.struct in UNDECLARED
        else f"__builtin_offsetof(struct {member.struct}, {member.path})"
        for member in listed()
    }


def _source(wanted: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield lines of C, each with the macro that it is about; empty: with none."""
    for line in (*FIRST.splitlines(), *(f"#include <{header}>" for header in HEADERS)):
        yield line, ""
    for macro, value in wanted.items():
        major, minor = SINCE.get(macro, (0, 0))
        yield f"#if LINUX_VERSION_CODE >= KERNEL_VERSION({major}, {minor}, 0)", ""
        yield f"int {macro}(void *ctx) {{ return {value}; }}", macro
        yield "#endif", ""


def _returned(code: bytes, name: str) -> int:
    """Return the number that a program returns which does nothing else. Raises CompilerError."""
    if len(code) > 24 or code[0] not in CONSTANTS:
        message = f"{name}: no constant in the kernel's headers"
        raise CompilerError(message)
    return int.from_bytes(code[4:8], "little", signed=True)
