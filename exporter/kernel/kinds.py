# SPDX-License-Identifier: Apache-2.0
"""Numbers by which the kernel knows kinds of tables and programs (include/uapi/linux/bpf.h)."""

from __future__ import annotations

import enum


class MapType(enum.IntEnum):
    """enum bpf_map_type, as far as it is used."""

    HASH = 1
    ARRAY = 2
    PERCPU_ARRAY = 6
    LPM_TRIE = 11


class ProgramType(enum.IntEnum):
    """enum bpf_prog_type, likewise."""

    KPROBE = 2
    SCHED_CLS = 3
    CGROUP_SKB = 8
    CGROUP_SOCK = 9
    SOCK_OPS = 13
    RAW_TRACEPOINT = 17
    CGROUP_SOCK_ADDR = 18
    CGROUP_SOCKOPT = 25
    TRACING = 26
    NETFILTER = 32
