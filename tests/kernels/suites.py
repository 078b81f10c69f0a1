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
        *(f"udp_closed_port[{SOCKETS}-ipv{n}]" for n in (4, 6)),
        *(f"icmp_echo[{SOCKETS}-{kind}]" for kind in ("ipv4-raw", "ipv6-ping")),
        f"host[{SOCKETS}-ipv4]",
    ),
    "scenarios": (
        "scenario[TCP,-a-slow-drip-of-single-bytes-ipv6]",
        "scenario[TCP,-ended-by-RST-ipv4]",
        *(f"scenario[TCP,-ended-in-TIME_WAIT-ipv{n}]" for n in (4, 6)),
        "scenario[TCP-of-a-process-in-another-mount,-pid-and-network-namespace-ipv4]",
        "scenario[MPTCP-ipv4]",
        "scenario[UDP-connected,-each-datagram-answered-ipv6]",
        "scenario[multicast-to-three-receivers-ipv4]",
        "scenario[raw-sockets,-protocol-253-ipv6]",
    ),
    "passed": (
        *(f"udp[ipv{n}-by_message]" for n in (4, 6)),
        *(f"tcp[ipv{n}-by_message]" for n in (4, 6)),
        "tcp_accepted[ipv4-by_exec]",
        "unconnected[ipv4]",
        "cat[ipv6]",
        "reader_and_writer[ipv4]",
    ),
    "accepted": (f"pre_fork[{SOCKETS}-ipv4]",),
    "packet_sockets": (f"packet_sockets[{SOCKETS}]",),
    "opened_before": (f"udp[{SOCKETS}-ipv4]", f"tcp_listening[{SOCKETS}-ipv6]"),
    "exits": (f"outcome[{SOCKETS}-3-error]", f"outcome[{SOCKETS}--9-signal]", f"alive[{SOCKETS}]"),
    "hosts": ("udp_and_tcp[ipv4]", "nobodys[ipv6]"),
    "forwarder": ("forwarded[ipv6]", "clsact[ipv4]"),
    "gap": ("left_off[ipv6]", "leaves_nothing"),
    "lifecycle": (
        *("close_leaves_nothing", "kill_leaves_nothing"),
        f"two_tracers[{SOCKETS}]",
    ),
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
FEW: Final = (
    f"tests/kernel/test_conservation.py::test_udp_in_fragments[{SOCKETS}-ipv6]",
    RESTART,
)
"""What CI has the time for: an exact exchange, and a restart."""

SIZES: Final = {"few": FEW, "all": ALL}
