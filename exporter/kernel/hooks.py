# SPDX-License-Identifier: Apache-2.0
"""Which kernel programs there are to choose from, and what is lost without each.

A kernel that lacks the tracepoint of an optional program gets trampolines in its place, or none.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Hook(NamedTuple):
    """A program on a BTF tracepoint."""

    program: str
    tracepoint: str
    without: str
    """What is lost on a kernel that does not have it; empty: nothing works."""
    whole_host: bool = False
    """What it sees belongs to no cgroup: left out where only a part of the host is counted."""
    in_pairs: bool = False
    """One of two on the same tracepoint everywhere: when one is skipped, the other runs."""


FIRST_SEND: Final = (
    "what a TCP socket sends in a new user's first call goes to the former one (Linux 6.16 has it)"
)

HANDED_ON: Final = "a socket that is handed on keeps its former owner (Linux 6.3 has it)"

UNSEEN_KERNEL: Final = (
    "what comes for the kernel itself, and what it answers over IPv6, SYN and ACK of a server "
    "included, is not counted (Linux 6.4 has it)"
)

NO_PAYLOAD: Final = (
    "payload, retransmissions and round trips of TCP are not told (Linux 6.2 has bpf_rdonly_cast)"
)

UNSEEN_STRAYS: Final = "packets that no socket wanted are not counted (Linux 5.17 has it)"

TRACEPOINTS: Final = (
    Hook("follow_state", "inet_sock_set_state", "", in_pairs=True),
    Hook("follow_state_spare", "inet_sock_set_state", "", in_pairs=True),
    Hook("follow_exit", "sched_process_exit", ""),
    Hook("own_tcp_sender", "tcp_sendmsg_locked", FIRST_SEND),
    Hook("own_sender", "sock_send_length", HANDED_ON),
    Hook("own_receiver", "sock_recv_length", HANDED_ON),
    Hook("drop_stray", "kfree_skb", UNSEEN_STRAYS, whole_host=True, in_pairs=True),
    Hook("drop_stray_spare", "kfree_skb", UNSEEN_STRAYS, whole_host=True, in_pairs=True),
    Hook("follow_name", "task_rename", "a process keeps the name of its first packet"),
)


class Trampoline(NamedTuple):
    """A program at entry or return of a function (fentry, fexit), where a tracepoint lacks."""

    program: str
    function: str
    instead_of: str
    """The program of TRACEPOINTS."""


TRAMPOLINES: Final = (
    Trampoline("own_tcp_sender_entry", "tcp_sendmsg", "own_tcp_sender"),
    Trampoline("own_tcp_page_sender_entry", "tcp_sendpage", "own_tcp_sender"),
    Trampoline("own_sender_return", "inet_sendmsg", "own_sender"),
    Trampoline("own_sender_return_six", "inet6_sendmsg", "own_sender"),
    Trampoline("own_page_sender_return", "inet_sendpage", "own_sender"),
    Trampoline("own_packet_sender_return", "packet_sendmsg", "own_sender"),
    Trampoline("own_receiver_return", "inet_recvmsg", "own_receiver"),
    Trampoline("own_receiver_return_six", "inet6_recvmsg", "own_receiver"),
    Trampoline("own_packet_receiver_return", "packet_recvmsg", "own_receiver"),
)
"""What TCP sent by pages went through these until Linux 6.5 (net/ipv4/af_inet.c, inet_sendpage)."""
INSTEAD: Final = frozenset(one.instead_of for one in TRAMPOLINES)

SPARES: Final = {
    first: f"{first}_spare"
    for first in ("own_tcp_sender", "own_sender", "own_receiver", "follow_name", "follow_exit")
}
"""Attached too where tracepoints can be preempted (bpf/spare.bpf.h)."""
PREEMPTIBLE: Final = "class_srcu_fast_notrace_t"
"""This type guards a tracepoint whose programs can be preempted (include/linux/srcu.h, 7.0)."""

WALKS: Final = ("walk_sockets", "walk_socket_files")
"""Settle all sockets: the second where the first is not safe."""
ITERATORS: Final = (*WALKS, "walk_files")
SAFE_WALK: Final = "bpf_selem_unlink_map"
"""Only a kernel with this function is trusted with the iterator that walk_sockets uses.

The one that took its place in 7.x, bpf_selem_unlink_nofail, clears `selem->local_storage`
(kernel/bpf/bpf_local_storage.c), which the iterator follows without another look
(net/core/bpf_sk_storage.c, __bpf_sk_storage_map_seq_show): a null pointer, and an oops.
"""
NETFILTER: Final = ("kernel_receive", "kernel_transmit")
"""In every network namespace; where the kernel has such links and the whole host is counted."""
PACKETS: Final = ("count_receive", "count_transmit")
"""Attached last: owners are known before the first packet is counted."""

ANSWERS: Final = "answer_getsockopt"
"""Answers netatop's options; run at the end of every getsockopt, so only where it is wanted."""
UNANSWERED: Final = (
    "the options of getsockopt(2) that the kernel module netatop had are not answered (it takes "
    "Linux 5.18, without lockdown=confidentiality)"
)
EXITS: Final = 1 << 14
"""bpf/maps.bpf.h: room in the ring `exits`."""

IN_PAIRS: Final = frozenset(hook.program for hook in TRACEPOINTS if hook.in_pairs)

STRAYS: Final = tuple(hook.program for hook in TRACEPOINTS if hook.whole_host)
ON_CALL: Final = ("adopt",)
"""Run by us, attached to nothing."""
APART: Final = frozenset((*ITERATORS, *STRAYS, *NETFILTER, *PACKETS, *ON_CALL))
"""Programs that are not simply attached as they come."""

MAPS: Final = (
    "meters",
    "listeners",
    "remote_prefixes",
    "found_remotes",
    "runs",
    "tasks",
    "unidentified",
    "lost",
    "hosts",
    "last_stray",
    "living",
    "exits",
    "exit_lists",
    "boot_time",
    "listing",
    "walks",
    "adopted",
)
"""Every table of the object."""
