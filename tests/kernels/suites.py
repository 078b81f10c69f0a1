# SPDX-License-Identifier: Apache-2.0
"""What is run on every kernel: the suite of accuracy, in a size that an emulated processor bears.

Each test is the one that runs on the developer's kernel, where loading takes milliseconds; here it
takes seconds. So of two ways to settle sockets only the one that the kernel's own choice begins
with is taken, and of many tests of one thing the one that asks most of the kernel.
"""

from __future__ import annotations

from typing import Final

SOCKETS: Final = "walk-sockets"

CHOSEN: Final = {
    "conservation": (
        *(f"tcp_closed_port[{SOCKETS}-ipv{n}]" for n in (4, 6)),
        f"udp_in_fragments[{SOCKETS}-ipv6]",
        f"icmp_echo[{SOCKETS}-ipv4-raw]",
    ),
    "scenarios": (
        "scenario[TCP,-a-slow-drip-of-single-bytes-ipv6]",
        "scenario[TCP,-ended-in-TIME_WAIT-ipv4]",
        "scenario[UDP-connected,-each-datagram-answered-ipv6]",
    ),
    "passed": ("udp[ipv6-by_message]", "tcp[ipv4-by_message]", "tcp_accepted[ipv4-by_exec]"),
    "accepted": (f"pre_fork[{SOCKETS}-ipv4]",),
    "opened_before": (f"udp[{SOCKETS}-ipv4]",),
    "exits": (f"outcome[{SOCKETS}--9-signal]",),
    "forwarder": ("forwarded[ipv6]",),
    "portable": ("owners[kprobe]", "owners[cgroup]", "many_wait[ipv6]"),
    "lifecycle": ("kill_leaves_nothing",),
}
"""Of tests/kernel, by module."""

RESTART: Final = "tests/e2e/test_continuity.py::test_pause"
"""The program, stopped and started again on the same pins."""

ALL: Final = (
    *(
        f"tests/kernel/test_{module}.py::test_{chosen}"
        for module, tests in CHOSEN.items()
        for chosen in tests
    ),
    RESTART,
)
FEW: Final = ("tests/kernel/test_continuity.py::test_pause[same]",)
"""What CI has the time for: exact exchanges before, during and after a restart on the same pins."""
