# SPDX-License-Identifier: Apache-2.0
"""Addresses behind this host and their connections: programs at the devices that lead to them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import model
from exporter.errors import AttachError
from exporter.kernel import addresses, decode, layouts
from exporter.kernel.holding import program_info
from exporter.kernel.libbpf import IterMap, IterOptions
from exporter.kernel.own_object import OwnObject, attach_error
from exporter.kernel.tables import read_iterator
from exporter.kernel.tc import EGRESS, INGRESS, attach

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.kernel.tc import Attached
    from exporter.model import Connection, HostRecord, Network

OBJECT: Final = Path(__file__).with_name("forward.bpf.o")
PROGRAMS: Final = {
    True: {"from_device": INGRESS, "to_device": EGRESS},
    False: {"from_tunnel": INGRESS, "to_tunnel": EGRESS},
}
"""By whether packets of the device have a link header, where the kernel attaches them."""
WALK: Final = "walk_flows"
HEADERS: Final = {1, 772}
"""Of devices with a header as Ethernet has it: ARPHRD_ETHER, ARPHRD_LOOPBACK
(include/uapi/linux/if_arp.h)."""
SIOCGIFHWADDR: Final = 0x8927
"""netdevice(7)."""
RESET, FINS = 4, 3
"""bpf/forward.h."""
IP_PROTOCOLS: Final = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}

log = logging.getLogger(__name__)


class Forwarder(OwnObject):
    """Counts at devices, by name: those that are there and those that come.

    Safe for two threads: one that calls tend(), and one that does the rest.
    """

    def __init__(self, devices: Sequence[str], max_hosts: int, max_connections: int) -> None:
        """Load, and attach to the devices that are there. Raises KernelError."""
        self._wanted = devices
        self._names: dict[int, str] = {}
        """Of all devices that there were, by index."""
        self._attached: dict[int, tuple[Attached, ...]] = {}
        self._programs_of: dict[int, dict[str, int]] = {}
        """Which of PROGRAMS are for a device."""
        self._missing: set[str] = set()
        self._refused: set[str] = set()
        """Devices that it could not attach to, which is told once."""
        self._connections = 0
        settings = layouts.FORWARD_SETTINGS.pack(layouts.FINGERPRINT, max_connections)
        room = {"hosts": addresses.room(max_hosts), "flows": max(max_connections, 1)}
        super().__init__(OBJECT, settings, room)
        try:
            self.put("hosts", *addresses.rest())
            programs = dict(self.programs())
            self._walk = self._attach_walk(programs.pop(WALK))
            self._fds = {
                name: self.bpf.bpf_program__fd(program) for name, program in programs.items()
            }
            self.stack.callback(self._detach_all)
            self._follow()
        except BaseException:
            self.close()
            raise
        self._hosts, self._flows, self._lost = map(self.table, ("hosts", "flows", "lost"))

    def _attach_walk(self, program: int) -> int:
        flows = IterMap(map_fd=self.fd("flows"))
        options = IterOptions(
            sz=ctypes.sizeof(IterOptions),
            link_info=ctypes.cast(ctypes.byref(flows), ctypes.c_void_p),
            link_info_len=ctypes.sizeof(flows),
        )
        link = self.bpf.pointer(
            *("bpf_program__attach_iter", program, ctypes.byref(options)),
            error=attach_error(f"iterator {WALK}"),
        )
        self.stack.callback(self.bpf.bpf_link__destroy, link)
        fd: int = self.bpf.bpf_link__fd(link)
        return fd

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the names of those it is attached to."""
        return tuple(self._names[index] for index in tuple(self._attached))

    @property
    def attached_programs(self) -> dict[str, int]:
        """Return the descriptors of the programs that are attached somewhere, by name."""
        used = {name for index in tuple(self._attached) for name in self._programs_of[index]}
        return {name: fd for name, fd in self._fds.items() if name in used}

    def status(self) -> Iterator[model.ProgramStatus]:
        """Yield the state of all programs, at all devices together. Raises MapReadError."""
        used = self.attached_programs
        for name, fd in self._fds.items():
            found = program_info(fd, name)
            yield model.ProgramStatus(
                name=name,
                hook=f"tc/{'ingress' if name.startswith('from') else 'egress'}",
                attached=name in used,
                runs=found.run_cnt,
                run_time_ns=found.run_time_ns,
            )

    # Devices

    def tend(self) -> None:
        """Follow devices as they come and go; to be called about once a second.

        One that can't be attached to costs nothing but itself.
        """
        for error in self._follow(strict=False):
            log.error("%s; tried again every second", error)

    def _follow(self, *, strict: bool = True) -> list[AttachError]:
        """Attach to what is there now, and return what was refused for the first time.

        Raises AttachError if strict.
        """
        there = {name: index for index, name in socket.if_nameindex() if name in self._wanted}
        for index in tuple(self._attached):
            # Another device may have the same index, and the same name.
            if index not in there.values() or not self._is_attached(index):
                log.warning("device %s: gone; counted again when it is back", self._names[index])
                self._detach(index)
        refused = []
        for name in self._wanted:
            index = there.get(name, 0)
            if index and index not in self._attached:
                try:
                    self._try_attach(name, index)
                except AttachError as error:
                    if strict:
                        raise
                    if name not in self._refused:
                        refused.append(error)
                    self._refused.add(name)
            elif index and self._names[index] != name:
                log.info("device %s: %s now", self._names[index], name)
                self._names[index] = name
            elif not index and name not in self._missing and name not in self._names.values():
                log.warning("device %s: not there; what it leads to is counted when it is", name)
                self._missing.add(name)
        return refused

    def _is_attached(self, index: int) -> bool:
        return all(attached.is_there() for attached in self._attached[index])

    def _try_attach(self, name: str, index: int) -> None:
        with contextlib.ExitStack() as undo:
            try:
                programs = PROGRAMS[_hardware(name) in HEADERS]
                done = []
                for program, point in programs.items():
                    done.append(attach(self.bpf, self._fds[program], index, point))
                    undo.callback(done[-1].close)
            except OSError as error:
                if error.errno in {errno.ENODEV, errno.ENXIO}:  # gone again
                    return
                message = f"device {name}: {error.strerror}"
                raise AttachError(message) from error
            undo.pop_all()
        # In this order: another thread may look.
        self._programs_of[index], self._names[index] = programs, name
        self._attached[index] = tuple(done)
        self._refused.discard(name)
        log.info("device %s: counting what is behind it", name)

    def _detach(self, index: int) -> None:
        for attached in self._attached.pop(index):
            attached.close()

    def _detach_all(self) -> None:
        for index in tuple(self._attached):
            self._detach(index)

    # Counters

    def read(self) -> Iterator[HostRecord]:
        """Yield all addresses, with their connections now. Raises MapReadError.

        Connections that have ended, or fallen silent, are forgotten.
        """
        output = read_iterator(self.bpf, self._walk, WALK)
        end = len(output) - layouts.FLOW_WALK.size
        for at in range(0, end, layouts.FLOW_KEY.size):
            self._flows.take(output[at : at + layouts.FLOW_KEY.size])
        (walk,) = layouts.FlowWalk.unpack_all(output[end:])
        self._connections = walk.flows
        yield from addresses.read(self._hosts, self._names, walk.session)

    @property
    def connection_table(self) -> model.TableStatus:
        """Return how full the table of connections was when it was last read."""
        return model.TableStatus("connections_behind", self._connections, self._flows.capacity)

    def connections(self, wanted: Network | None = None) -> Iterator[Connection]:
        """Yield those that there are, of an address or a prefix at either end.

        Raises MapReadError.
        """
        is_in = addresses.matcher(wanted)
        keys, values = self._flows.read_all()
        for key, flow in zip(
            layouts.FlowKey.unpack_all(keys), layouts.Flow.unpack_all(values), strict=True
        ):
            if is_in(key.address) or is_in(key.peer):
                ended = bool(flow.state & RESET) or flow.state & FINS == FINS
                yield self._connection(key, flow, is_open=not ended)

    def _connection(self, key: layouts.FlowKey, flow: layouts.Flow, *, is_open: bool) -> Connection:
        return model.Connection(
            address=decode.address(key.address, addresses.AF_INET6),
            port=key.port,
            peer_address=decode.address(key.peer, addresses.AF_INET6),
            peer_port=key.peer_port,
            protocol=IP_PROTOCOLS.get(key.protocol, "other"),
            device=self._names.get(key.device, f"#{key.device}"),
            traffic=flow.traffic,
            is_open=is_open,
            opened_by_peer=model.DIRECTIONS[flow.opened_by] == "receive",
            first_ns=flow.first_time_ns,
            last_ns=flow.last_time_ns,
        )

    def lost(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield what found no room, by object and reason. Raises MapReadError."""
        for index in range(len(layouts.LOSSES)):
            count = sum(self._lost.read_per_cpu(index).cast("B").cast("Q"))
            yield decode.loss(index), count

    def forget(self, address: str, device: str) -> Iterable[model.Counters]:
        """Remove an address; yield what each of its entries had. Raises MapReadError."""
        for index, name in tuple(self._names.items()):
            if name == device:
                yield addresses.counters(self._hosts.take(addresses.packed(address, index)))


def _hardware(device: str) -> int:
    """Return the kind of a device, ARPHRD_*. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = device.encode().ljust(40, b"\0")  # struct ifreq
        answer = fcntl.ioctl(any_socket, SIOCGIFHWADDR, request)
    return int.from_bytes(answer[16:18], sys.byteorder)
