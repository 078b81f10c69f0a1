# SPDX-License-Identifier: Apache-2.0
"""What is run on every kernel: the suite of accuracy, in a size that an emulated processor bears.

Each test is the one that runs on the developer's kernel; a module is a suite of its own in the table.
"""

from __future__ import annotations

from typing import Final

SCENARIOS: Final = (
    "TCP,-a-slow-drip-of-single-bytes",
    "TCP,-ended-by-RST",
    "TCP,-ended-in-TIME_WAIT",
    "TCP-of-a-process-in-another-mount,-pid-and-network-namespace",
    "MPTCP",
    "UDP-connected,-each-datagram-answered",
    "multicast-to-three-receivers",
    "raw-sockets,-protocol-253",
)
"""By id, for both families."""

WHOLE: Final = ("conservation", "exits", "gap", "lifecycle", "packet_sockets", "passed")
"""Modules of tests/kernel that are run as they are."""

CHOSEN: Final = (
    *(f"scenarios.py::test_scenario[{name}-ipv{n}]" for name in SCENARIOS for n in (4, 6)),
    *(f"accepted.py::test_{name}" for name in ("pre_fork", "reuse_port")),
    *(f"hosts.py::test_{name}" for name in ("udp_and_tcp", "nobodys", "connected_again")),
    *(f"forwarder.py::test_{name}" for name in ("forwarded", "fragments", "reset", "clsact")),
    *(f"opened_before.py::test_{name}" for name in ("udp", "tcp_connected", "tcp_listening")),
    "threads.py::test_reader_and_writer",
)

RESTART: Final = ("tests/e2e/test_continuity.py::test_pause",)
"""The program, stopped and started again on the same pins."""

FEW: Final = (
    "tests/kernel/test_conservation.py::test_udp_in_fragments",
    "tests/kernel/test_scenarios.py::test_scenario[TCP,-a-slow-drip-of-single-bytes-ipv6]",
    *RESTART,
)
"""What CI has the time for: an exact exchange of each protocol, and a restart."""

ALL: Final = (
    *(f"tests/kernel/test_{module}.py" for module in WHOLE),
    *(f"tests/kernel/test_{chosen}" for chosen in CHOSEN),
    *RESTART,
)

SIZES: Final = {"few": FEW, "all": ALL}
