# SPDX-License-Identifier: Apache-2.0
"""Where the running kernel keeps members of its structs, for programs compiled at run time.

Its type information (BTF) says it at once. Where there is none, its headers do: bcc compiles one
function for each member, which returns the place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import CompilerError, UnsupportedKernelError
from exporter.kernel import bcc_compiler, kernel_headers
from exporter.kernel.types import KernelTypes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Member(NamedTuple):
    """A member of a struct."""

    struct: str
    path: str
    """As `__sk_common.skc_cookie`."""

    @property
    def macro(self) -> str:
        """Return what the kernel programs call its place."""
        return f"OFFSET_{self.struct}_{self.path.replace('.', '_')}"


HEADERS: Final = ("linux/sched/signal.h", "linux/cred.h", "linux/kernfs.h", "net/sock.h")
"""What declares them."""

# bcc's own <linux/bpf.h> is of an earlier kernel than the headers may be of; the rest is as the
# kernel is compiled (Makefile, CC_FLAGS_FTRACE in its kernel/trace).
FLAGS: Final = (
    *("-D_UAPI__LINUX_BPF_H__", "-DCC_USING_FENTRY", "-Wno-everything"),
    *("-std=gnu11", "-fms-extensions", "-fshort-wchar"),
)
MOVE: Final = 0xB7
"""`r0 = immediate` (BPF_ALU64 | BPF_MOV | BPF_K)."""


class Places(NamedTuple):
    """Where they are."""

    source: str
    """What has told it: `BTF` or `headers`."""
    offsets: Mapping[Member, int]


def find(members: Iterable[Member], *, use_types: bool = True) -> Places:
    """Ask for all of them; those that the kernel does not have are left out. Raises KernelError.

    Not `use_types`: as if there was no type information, for tests.
    """
    wanted = tuple(members)
    if use_types:
        try:
            return Places("BTF", from_types(wanted))
        except UnsupportedKernelError:
            pass
    return Places("headers", from_headers(wanted))


def from_types(members: Iterable[Member]) -> dict[Member, int]:
    """Ask the kernel's type information. Raises UnsupportedKernelError if there is none."""
    with KernelTypes() as types:
        found = {member: types.offset(*member) for member in members}
    return {member: place for member, place in found.items() if place is not None}


def from_headers(members: Iterable[Member]) -> dict[Member, int]:
    """Ask the kernel's headers. Raises CompilerError."""
    wanted = tuple(members)
    lines = ["#undef _UAPI__LINUX_BPF_H__", "#include <uapi/linux/bpf.h>"]
    lines += [f"#include <{header}>" for header in HEADERS]
    lines += [
        f"int member_{number}(void *ctx) "
        f"{{ return __builtin_offsetof(struct {member.struct}, {member.path}); }}"
        for number, member in enumerate(wanted)
    ]
    with kernel_headers.prepared() as place:
        compiled = bcc_compiler.compile_programs(
            "kernel headers", "\n".join((*lines, "")), FLAGS, kernel_source=place
        )
    return {
        member: _returned(compiled.programs[f"member_{number}"], member)
        for number, member in enumerate(wanted)
    }


def _returned(code: bytes, member: Member) -> int:
    """Return the number that a program returns which does nothing else. Raises CompilerError."""
    if len(code) != 16 or code[:2] != bytes((MOVE, 0)):
        message = f"{member.struct}.{member.path}: no constant in the kernel's headers"
        raise CompilerError(message)
    return int.from_bytes(code[4:8], "little")
