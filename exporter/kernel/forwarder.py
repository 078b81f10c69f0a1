# SPDX-License-Identifier: Apache-2.0
"""Addresses behind this host and their connections: programs at the devices that lead to them.

By a TCX link where the kernel has it (6.6), which goes with the process; else by a filter of the
qdisc clsact, which is removed in the end and, after a SIGKILL, taken over at the next start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import model
from exporter.errors import AttachError
from exporter.kernel import addresses, decode, layouts
from exporter.kernel.bpf_call import LINK_CREATE, bpf
from exporter.kernel.holding import program_info
from exporter.kernel.libbpf import TcHook, TcOptions, describe
from exporter.kernel.own_object import OwnObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exporter.model import Connection, HostRecord

OBJECT: Final = Path(__file__).with_name("forward.bpf.o")
INGRESS, EGRESS = 1, 2
"""enum bpf_tc_attach_point (libbpf.h)."""
PROGRAMS: Final = {
    True: {"from_device": INGRESS, "to_device": EGRESS},
    False: {"from_tunnel": INGRESS, "to_tunnel": EGRESS},
}
"""By whether packets of the device have a link header, where the kernel attaches them."""
HEADERS: Final = {1, 772}
"""Of devices with a header as Ethernet has it: ARPHRD_ETHER, ARPHRD_LOOPBACK
(include/uapi/linux/if_arp.h)."""
SIOCGIFHWADDR: Final = 0x8927
"""netdevice(7)."""
TCX_ATTACH: Final = {INGRESS: 46, EGRESS: 47}
"""BPF_TCX_INGRESS, BPF_TCX_EGRESS (include/uapi/linux/bpf.h)."""
BEFORE: Final = 1 << 3
"""BPF_F_BEFORE: of all that are there, before what they drop or redirect is gone."""
REPLACE: Final = 1
"""BPF_TC_F_REPLACE: our own, which one that was killed has left."""
HANDLE, PRIORITY = 0x4E41, 48
"""Of our filter, with clsact."""
RESET, FINS = 4, 3
"""bpf/forward.h."""
ENDED_NS: Final = 10 * 10**9
"""A connection that has ended is kept for so long: its last packets are its own."""
IDLE_NS: Final = {6: 7440 * 10**9, 17: 180 * 10**9, 1: 30 * 10**9, 58: 30 * 10**9}
"""Without a packet for so long it is none any more: TCP by RFC 5382, REQ-5; UDP by RFC 4787 and
what Linux tracks (net/netfilter/nf_conntrack_proto_udp.c, 180 s until 5.0); ICMP as Linux."""
OTHERS_IDLE_NS: Final = 600 * 10**9
IP_PROTOCOLS: Final = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}

log = logging.getLogger(__name__)


class LinkCreate(ctypes.Structure):
    """union bpf_attr of BPF_LINK_CREATE, with its member tcx."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("target_ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("relative_fd", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("expected_revision", ctypes.c_uint64),
    )


class Forwarder(OwnObject):
    """Counts at devices, by name: those that are there and those that come.

    Not safe for threads.
    """

    def __init__(self, devices: Sequence[str], max_hosts: int, max_connections: int) -> None:
        """Load, and attach to the devices that are there. Raises KernelError."""
        self._wanted = devices
        self._names: dict[int, str] = {}
        """Of all devices that there were, by index."""
        self._attached: dict[int, contextlib.ExitStack] = {}
        self._programs_of: dict[int, dict[str, int]] = {}
        """Which of PROGRAMS are for a device."""
        self._missing: set[str] = set()
        settings = layouts.FORWARD_SETTINGS.pack(layouts.FINGERPRINT, max_connections)
        room = {"hosts": addresses.room(max_hosts), "flows": max(max_connections, 1)}
        super().__init__(OBJECT, settings, room)
        try:
            self.put("hosts", *addresses.rest())
            self._fds = {
                name: self.bpf.bpf_program__fd(program) for name, program in self.programs()
            }
            self.stack.callback(self._detach_all)
            self.tend()
        except BaseException:
            self.close()
            raise
        self._hosts, self._flows, self._lost = map(self.table, ("hosts", "flows", "lost"))

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the names of those it is attached to."""
        return tuple(self._names[index] for index in self._attached)

    @property
    def attached_programs(self) -> dict[str, int]:
        """Return the descriptors of the programs that are attached somewhere, by name."""
        used = {name for index in self._attached for name in self._programs_of[index]}
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
        """Follow devices as they come and go; to be called about once a second."""
        there = {name: index for index, name in socket.if_nameindex() if name in self._wanted}
        for index in self._attached.keys() - there.values():
            log.warning("device %s: gone; counted again when it is back", self._names[index])
            self._attached.pop(index).close()
        for name in self._wanted:
            index = there.get(name, 0)
            if index and index not in self._attached:
                self._try_attach(name, index)
            elif not index and name not in self._missing and name not in self._names.values():
                log.warning("device %s: not there; what it leads to is counted when it is", name)
                self._missing.add(name)

    def _try_attach(self, name: str, index: int) -> None:
        with contextlib.ExitStack() as undo:
            try:
                programs = self._programs_of[index] = PROGRAMS[_hardware(name) in HEADERS]
                for program, point in programs.items():
                    undo.callback(self._attach(self._fds[program], index, point))
            except OSError as error:
                if error.errno in {errno.ENODEV, errno.ENXIO}:  # gone again
                    return
                message = f"device {name}: {error.strerror}"
                raise AttachError(message) from error
            self._attached[index] = undo.pop_all()
        self._names[index] = name
        log.info("device %s: counting what is behind it", name)

    def _attach(self, program: int, index: int, point: int) -> Callable[[], object]:
        """Attach; return what detaches. Raises OSError or AttachError."""
        request = LinkCreate(
            prog_fd=program,
            target_ifindex=index,
            attach_type=TCX_ATTACH[point],
            flags=BEFORE,
        )
        try:
            link = bpf(LINK_CREATE, request)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self._attach_filter(program, index, point)
        return lambda: os.close(link)

    def _attach_filter(self, program: int, index: int, point: int) -> Callable[[], object]:
        """Do it in the way of kernels without TCX."""

        def failed(code: int) -> OSError:
            return OSError(code, describe(code))

        place = TcHook(sz=ctypes.sizeof(TcHook), ifindex=index, attach_point=point)
        with self.bpf.capture():
            code = -self.bpf.bpf_tc_hook_create(ctypes.byref(place))
            if code not in {0, errno.EEXIST}:
                raise failed(code)
            ours = TcOptions(
                sz=ctypes.sizeof(TcOptions),
                prog_fd=program,
                flags=REPLACE,
                handle=HANDLE,
                priority=PRIORITY,
            )
            self.bpf.call("bpf_tc_attach", ctypes.byref(place), ctypes.byref(ours), error=failed)
        return lambda: self._detach_filter(place)

    def _detach_filter(self, place: TcHook) -> None:
        ours = TcOptions(sz=ctypes.sizeof(TcOptions), handle=HANDLE, priority=PRIORITY)
        with self.bpf.capture():  # the device may have gone, and the filter with it
            self.bpf.bpf_tc_detach(ctypes.byref(place), ctypes.byref(ours))

    def _detach_all(self) -> None:
        for attached in self._attached.values():
            attached.close()
        self._attached.clear()

    # Counters

    def read(self, now_ns: int) -> Iterator[HostRecord]:
        """Yield all addresses. Raises MapReadError."""
        open_connections: dict[tuple[str, str], list[int]] = {}
        for one in self.connections(now_ns):
            if one.is_open:
                counts = open_connections.setdefault(
                    (one.address, one.device), [0] * len(model.PROTOCOLS)
                )
                counts[model.PROTOCOLS.index(one.protocol)] += 1
        for host in addresses.read(self._hosts, self._names):
            there = open_connections.pop((host.address, host.device), None)
            yield host._replace(connections=tuple(there)) if there else host

    def connections(self, now_ns: int) -> list[Connection]:
        """Return those that there are, and forget those that have ended or fallen silent.

        Raises MapReadError.
        """
        found = []
        keys, values = self._flows.read_all()
        for key, flow in zip(
            layouts.FlowKey.unpack_all(keys), layouts.Flow.unpack_all(values), strict=True
        ):
            ended = bool(flow.state & RESET) or flow.state & FINS == FINS
            idle = ENDED_NS if ended else IDLE_NS.get(key.protocol, OTHERS_IDLE_NS)
            # A new one has no time yet.
            if now_ns - max(flow.last_time_ns, flow.first_time_ns) > idle:
                self._flows.take(layouts.FLOW_KEY.pack(*key))
            else:
                found.append(self._connection(key, flow, is_open=not ended))
        return found

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
        for index, name in self._names.items():
            if name == device:
                yield addresses.counters(self._hosts.take(addresses.packed(address, index)))


def _hardware(device: str) -> int:
    """Return the kind of a device, ARPHRD_*. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = device.encode().ljust(40, b"\0")  # struct ifreq
        answer = fcntl.ioctl(any_socket, SIOCGIFHWADDR, request)
    return int.from_bytes(answer[16:18], sys.byteorder)
