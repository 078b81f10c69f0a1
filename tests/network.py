# SPDX-License-Identifier: Apache-2.0
"""Network namespaces and virtual cables between them; gone when their `with` block ends."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMES = itertools.count(1)
CLONE_NEWNET: Final = 0x40000000
LIBC: Final = ctypes.CDLL(None, use_errno=True)

QUIET: Final = {
    "net.ipv6.conf.default.router_solicitations": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    # The groups that an interface joins are reported within this time, in ms (RFC 3810).
    "net.ipv6.conf.default.mldv2_unsolicited_report_interval": 10,
    "net.ipv4.tcp_early_retrans": 0,  # no probes for a loss of the last segment
}
"""Nobody sends what the test did not ask for."""
PATIENT_MS: Final = 5000
"""A busy processor is not that late."""
OFFLOADS: Final = ("tso", "gso", "gro", "tx-udp-segmentation", "rx-gro-list")


def checked(result: int) -> int:
    """Return what a C function has returned; raise OSError if that is an error."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command that must succeed; what it says goes into the error."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()}"
        raise RuntimeError(message)
    return done.stdout


def run_json(*command: str) -> list[Any]:
    """Run a command that prints a list as JSON; for an empty one some print nothing."""
    found: list[Any] = json.loads(run(*command).strip() or "[]")
    return found


class Namespace(NamedTuple):
    """A network namespace; without a name, the one that the tests run in."""

    name: str = ""

    @property
    def inode(self) -> int:
        """Return its number (namespaces(7))."""
        return Path("/run/netns", self.name).stat().st_ino

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command in it."""
        inside = ("ip", "netns", "exec", self.name) if self.name else ()
        return run(*inside, *command, stdin=stdin)

    def enter(self) -> None:
        """Move the calling thread into it (setns(2)); there is no way back."""
        if not self.name:
            return
        fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            checked(LIBC.setns(fd, CLONE_NEWNET))
        finally:
            os.close(fd)

    def set(self, setting: str, value: object) -> None:
        """Set a sysctl of the namespace, as net.ipv4.ip_forward."""
        self.set_all({setting: value})

    def set_all(self, settings: Mapping[str, object]) -> None:
        """Set several at once: a process each would take longer than most tests."""
        lines = [f"echo '{v}' > /proc/sys/{name.replace('.', '/')}" for name, v in settings.items()]
        self.run("sh", "-e", stdin="\n".join(lines))

    def offload(self, device: str, *features: str, on: bool) -> None:
        """Switch offloads of a device; a feature that it does not have stays as it is."""
        state = "on" if on else "off"
        lines = [f"ethtool -K {device} {feature} {state} || true" for feature in features]
        self.run("sh", "-e", stdin="\n".join(lines))

    def carry_single_packets(self, device: str) -> None:
        """Make each buffer of a device one packet, so that who counts buffers counts packets."""
        self.offload(device, *OFFLOADS, on=False)
        run("ip", "-n", self.name, "link", "set", "dev", device, "gso_max_segs", "1")

    def counters(self, file: str) -> dict[str, int]:
        """Read the kernel's own counters: `snmp` as Icmp.InMsgs, `snmp6` as Icmp6InMsgs."""
        lines = iter(self.run("cat", f"/proc/net/{file}").splitlines())
        if file.endswith("6"):
            return {name: int(value) for name, value in map(str.split, lines)}
        return {
            f"{names.split(':')[0]}.{name}": int(value)
            for names, values in zip(lines, lines, strict=True)
            for name, value in zip(names.split()[1:], values.split()[1:], strict=True)
        }


HOST: Final = Namespace()


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace with a unique name and its loopback device up."""
    made = Namespace(f"netatop-{os.getpid()}-{next(NAMES)}")
    run("ip", "netns", "add", made.name)
    try:
        made.set_all(QUIET)
        run("ip", "-n", made.name, "link", "set", "lo", "up")
        yield made
    finally:
        run("ip", "netns", "delete", made.name)


class End(NamedTuple):
    """One end of a cable."""

    namespace: Namespace
    device: str
    hardware: str
    ipv4: str
    ipv6: str

    def address(self, family: int) -> str:
        """Return its address of a family: 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6

    def offload(self, *features: str, on: bool) -> None:
        """Switch offloads of the device."""
        self.namespace.offload(self.device, *features, on=on)

    def carry_single_packets(self) -> None:
        """Make each buffer one packet."""
        self.namespace.carry_single_packets(self.device)

    def keep_order(self) -> None:
        """Have one processor receive: what another one has overtaken would be sent again (RACK).

        It has a queue of 1,000 packets (net.core.netdev_max_backlog): this is not for floods.
        """
        queue = f"/sys/class/net/{self.device}/queues/rx-0/rps_cpus"
        self.namespace.run("sh", "-e", stdin=f"echo 1 > {queue}")

    def limit_flight(self, size: int) -> None:
        """Let a connection have so many bytes under way: what fits into every queue is not lost."""
        self.namespace.set("net.ipv4.tcp_wmem", f"4096 {size} {size}")

    def send_again_after(self, ms: int) -> None:
        """Wait at least so long for an acknowledgement until a segment is sent again.

        What is sent again without need may find that only TIME_WAIT is left of the peer's socket.
        """
        lines = (
            f"route change {route} dev {self.device} rto_min {ms}ms"
            for route in (
                f"198.51.100.0/24 proto kernel scope link src {self.ipv4}",
                "2001:db8::/64 proto kernel metric 256",
            )
        )
        run("ip", "-n", self.namespace.name, "-batch", "-", stdin="\n".join(lines))


class Cable(NamedTuple):
    """Two namespaces and a veth pair between them."""

    left: End
    right: End


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """Connect two new namespaces; neighbours are known, so nobody asks for them."""
    with namespace() as left, namespace() as right:
        ends = (
            End(left, "veth0", "02:00:00:00:00:01", "198.51.100.1", "2001:db8::1"),
            End(right, "veth0", "02:00:00:00:00:02", "198.51.100.2", "2001:db8::2"),
        )
        run(
            *("ip", "link", "add", "veth0", "netns", left.name),
            *("address", ends[0].hardware, "type", "veth"),
            *("peer", "name", "veth0", "netns", right.name, "address", ends[1].hardware),
        )
        for end, other in (ends, ends[::-1]):
            batch = "\n".join(
                (
                    "link set dev veth0 addrgenmode none",
                    f"address add {end.ipv4}/24 dev veth0",
                    f"address add {end.ipv6}/64 dev veth0 nodad",
                    "link set dev veth0 up",
                    f"neighbour add {other.ipv4} lladdr {other.hardware} dev veth0 nud permanent",
                    f"neighbour add {other.ipv6} lladdr {other.hardware} dev veth0 nud permanent",
                )
            )
            run("ip", "-n", end.namespace.name, "-batch", "-", stdin=batch)
            end.send_again_after(PATIENT_MS)
        try:
            yield Cable(*ends)
        finally:
            # At once: a namespace ends later, and might still say to whom it listens (RFC 3810).
            run("ip", "-n", left.name, "link", "delete", "veth0")
