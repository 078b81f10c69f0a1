# SPDX-License-Identifier: Apache-2.0
"""What the running kernel's type information (BTF) says that it has."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from exporter.errors import UnsupportedKernelError
from exporter.kernel.hooks import PREEMPTIBLE, SAFE_WALK
from exporter.kernel.libbpf import BtfEnum, BtfMember, BtfType, describe, open_library

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

T = TypeVar("T", BtfMember, BtfEnum)
BTF: Final = Path("/sys/kernel/btf/vmlinux")
STRUCT, UNION, ENUM, TYPEDEF, VOLATILE, CONST, RESTRICT = 4, 5, 6, 8, 9, 10, 11
FUNC, TYPE_TAG = 12, 18
"""BTF_KIND_* (include/uapi/linux/btf.h)."""
MODIFIERS: Final = frozenset((TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG))
"""They stand before a type and change nothing about its members."""
BIT_FIELDS: Final = 1 << 31
"""In btf_type.info: offsets of members hold the size of a bit field, too, above these:"""
OFFSET_BESIDE_SIZE: Final = 0xFFFFFF


class KernelTypes:
    """The types, open in a `with` block. Raises UnsupportedKernelError if there are none."""

    def __init__(self) -> None:
        self._bpf = open_library()
        with self._bpf.capture():
            self._types = self._bpf.pointer(
                "btf__load_vmlinux_btf",
                error=lambda code: UnsupportedKernelError(f"{BTF}: {describe(code)}"),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bpf.btf__free(self._types)

    def _find(self, name: str, kind: int) -> int:
        found: int = self._bpf.btf__find_by_name_kind(self._types, name.encode(), kind)
        return found

    def function(self, name: str) -> int:
        """Return the id of a function's type; not above 0 if the kernel does not have it."""
        return self._find(name, FUNC)

    def has_tracepoint(self, name: str) -> bool:
        """Tell whether a BTF program can be attached to this tracepoint."""
        return self._find(f"btf_trace_{name}", TYPEDEF) > 0

    def has_casts(self) -> bool:
        """Tell whether memory can be read as a type that a program names (Linux 6.2)."""
        return self.function("bpf_rdonly_cast") > 0

    def has_netfilter_links(self) -> bool:
        """Tell whether programs can be attached to netfilter's hooks, and read packets there."""
        return self._find("bpf_nf_link", STRUCT) > 0 and self.has_casts()

    def has_drop_reasons(self) -> bool:
        """Tell whether the kernel says why it drops a packet (Linux 5.17)."""
        return self._find("skb_drop_reason", ENUM) > 0

    def has_safe_walk(self) -> bool:
        """Tell whether the iterator over socket storages can be trusted; see SAFE_WALK."""
        return self.function(SAFE_WALK) > 0

    def has_preemptible_tracepoints(self) -> bool:
        """Tell whether one program of a tracepoint can keep others from running; see SPARES."""
        return self._find(PREEMPTIBLE, TYPEDEF) > 0

    def has_tcx(self) -> bool:
        """Tell whether programs are attached to devices by links (Linux 6.6), not by filters."""
        return self._find("tcx_link", STRUCT) > 0

    def offset(self, struct: str, member: str) -> int | None:
        """Return where a member is, in bytes; None if the kernel does not have it.

        member: a path, as `__sk_common.skc_cookie`.
        """
        bits = self.bits(struct, member)
        return None if bits is None or bits % 8 else bits // 8

    def bits(self, struct: str, member: str) -> int | None:
        """Return where a member is, in bits: a bit field may begin within a byte."""
        found = self._find(struct, STRUCT)
        return self._bits(found, member.split(".")) if found > 0 else None

    def enumerator(self, enum: str, name: str) -> int | None:
        """Return a value of an enumeration; None if the kernel does not have it."""
        found = self._find(enum, ENUM)
        values = self._following(found, BtfEnum) if found > 0 else ()
        return next((one.value for one in values if self._name(one.name_off) == name), None)

    def _bits(self, type_id: int, path: list[str]) -> int | None:
        """Return where the member at the end of the path is."""
        for name, member_type, bits in self._members(type_id):
            if path == [name]:
                return bits
            # Members of an anonymous struct or union are members of the one around it.
            rest = path if not name else path[1:] if name == path[0] else None
            inner = self._bits(member_type, rest) if rest else None
            if inner is not None:
                return bits + inner
        return None

    def _members(self, type_id: int) -> Iterator[tuple[str, int, int]]:
        """Yield name, type, and place in bits."""
        found = self._bpf.btf__type_by_id(self._types, type_id).contents
        while _kind(found) in MODIFIERS:
            type_id = found.size_or_type
            found = self._bpf.btf__type_by_id(self._types, type_id).contents
        if _kind(found) not in {STRUCT, UNION}:
            return
        mask = OFFSET_BESIDE_SIZE if found.info & BIT_FIELDS else 0xFFFFFFFF
        for member in self._following(type_id, BtfMember):
            yield self._name(member.name_off), member.type, member.offset & mask

    def _following(self, type_id: int, kind: type[T]) -> Sequence[T]:
        """Return what a type is made of, which follows it."""
        found = self._bpf.btf__type_by_id(self._types, type_id).contents
        first = ctypes.addressof(found) + ctypes.sizeof(BtfType)
        items: Sequence[T] = (kind * (found.info & 0xFFFF)).from_address(first)
        return items

    def _name(self, offset: int) -> str:
        name: bytes = self._bpf.btf__name_by_offset(self._types, offset)
        return name.decode()


def _kind(found: BtfType) -> int:
    kind: int = found.info >> 24 & 0x1F
    return kind
