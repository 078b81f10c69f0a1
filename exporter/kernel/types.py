# SPDX-License-Identifier: Apache-2.0
"""What the running kernel's type information (BTF) says that it has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.errors import UnsupportedKernelError
from exporter.kernel.hooks import PREEMPTIBLE, SAFE_WALK
from exporter.kernel.libbpf import describe, open_library

if TYPE_CHECKING:
    from typing import Self

BTF: Final = Path("/sys/kernel/btf/vmlinux")
STRUCT, ENUM, TYPEDEF, FUNC = 4, 6, 8, 12
"""BTF_KIND_* (include/uapi/linux/btf.h)."""


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
