# SPDX-License-Identifier: Apache-2.0
"""A service in a machine that talks to itself over loopback, and knows what it has sent."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from tests.workload import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.service.machine import Machine
    from tests.e2e.exposition import Exposition

UNIT: Final = "talker.service"
SIZE: Final = 211
HEADERS: Final = 28
LENGTH: Final = HEADERS + SIZE
"""Of a packet; nobody else's is as long."""
PLACE: Final = "/run/talker"
SCRIPT: Final = f"""
import os, signal, socket, time
count = 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
    own.bind(("127.0.0.1", 0))
    while not os.path.exists("{PLACE}/stop"):
        own.sendto(bytes({SIZE}), own.getsockname())
        own.recv(4099)
        count += 1
        with open("{PLACE}/count", "w") as file:
            print(count, file=file)
        time.sleep(0.0007)
    os.rename("{PLACE}/stop", "{PLACE}/stopped")
    signal.pause()
"""
"""What it sends it has received before it sends again: nothing is lost on the way."""


class Talker:
    """It talks until it is asked to stop."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def has_sent(self) -> int:
        """Return how many datagrams that are, at least."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # not yet, or just being written
            return int(self._machine.path(f"{PLACE}/count").read_text())
        return 0

    def send_more(self) -> None:
        """Wait until 101 more have been sent."""
        wanted = self.has_sent() + 101
        wait_until(lambda: self.has_sent() >= wanted, "101 datagrams more")

    def stop(self) -> int:
        """Have it say no more, and return how many there were; it goes on living."""
        self._machine.write(f"{PLACE}/stop", "")
        wait_until(self._machine.path(f"{PLACE}/stopped").exists, "it is silent")
        return self.has_sent()


@contextlib.contextmanager
def talker(machine: Machine) -> Iterator[Talker]:
    """Have one talk, from now until the block ends."""
    machine.write(f"{PLACE}/script", SCRIPT)
    words = ("--collect", "--quiet", "python3", f"{PLACE}/script")
    machine.run("systemd-run", f"--unit={UNIT}", *words)
    try:
        made = Talker(machine)
        made.send_more()
        yield made
    finally:
        machine.run("systemctl", "stop", UNIT)
        machine.run("rm", "-r", PLACE)


def check(found: Exposition, sent: int) -> None:
    """Hold that it has the traffic of so many datagrams, to the byte."""
    one = {"packets": 1, "bytes": LENGTH}
    expected = {f"{d}_{unit}": sent * n for d in ("receive", "transmit") for unit, n in one.items()}
    assert found.traffic("group_", group=UNIT, protocol="udp") == expected
