# SPDX-License-Identifier: Apache-2.0
"""Known traffic: processes in namespaces, and the functions that they run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import struct
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.network import HOST, LIBC, Namespace

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from typing import Self

PATIENCE: Final = 60.0
"""Seconds until a test that waits gives up."""

FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
PORT: Final = 4099
CLOSED_PORT: Final = 4093
SO_RCVBUFFORCE: Final = 33
SYS_EXIT: Final = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
"""Ends the calling thread only (_exit(2), NOTES)."""


def wait_until(happened: Callable[[], Any], what: str) -> None:
    """Return as soon as it has happened; what takes long is looked at less often."""
    begin = time.monotonic()
    while not happened():
        waited = time.monotonic() - begin
        if waited > PATIENCE:
            message = f"waited {PATIENCE:.0f} s in vain: {what}"
            raise TimeoutError(message)
        time.sleep(min(0.002 + waited / 20, 0.2))


class Process:
    """A child process that runs one function in a namespace.

    The function gets a connection to talk to the test, then the arguments. It ends by itself or,
    at the end of the `with` block at the latest, by SIGKILL.
    """

    def __init__(
        self,
        function: Callable[..., None],
        *arguments: Any,
        namespace: Namespace = HOST,
        cgroup: Path | None = None,
    ) -> None:
        self._talk, theirs = multiprocessing.Pipe()
        self._name = function.__name__
        self.status: int | None = None
        """As wait(2) gives it."""
        self.pid = os.fork()
        if self.pid == 0:
            _run(function, theirs, arguments, namespace, cgroup)
        theirs.close()
        self._pidfd = os.pidfd_open(self.pid)

    def hear(self) -> Any:
        """Wait for the next thing that the function says."""
        if not self._talk.poll(PATIENCE):
            message = f"{self._name}: silent for {PATIENCE:.0f} s"
            raise TimeoutError(message)
        try:
            said = self._talk.recv()
        except EOFError:
            message = f"{self._name}: ended with status {self.wait()}"
            raise RuntimeError(message) from None
        if isinstance(said, BaseException):
            raise said
        return said

    def tell(self, thing: Any = None) -> None:
        """Say something to the function."""
        self._talk.send(thing)

    @property
    def ended(self) -> bool:
        """Tell whether it has ended, without waiting."""
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def wait(self) -> int:
        """Wait for its end and return its status; an exception in the function is raised here."""
        if self.status is None:
            if not select.select([self._pidfd], [], [], PATIENCE)[0]:
                message = f"{self._name}: still there after {PATIENCE:.0f} s"
                raise TimeoutError(message)
            _, self.status = os.waitpid(self.pid, 0)
            with contextlib.suppress(EOFError, ConnectionResetError):
                while self._talk.poll():
                    said = self._talk.recv()
                    if isinstance(said, BaseException):
                        raise said
        return self.status

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self.status is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]
        self._talk.close()
        os.close(self._pidfd)


def _run(
    function: Callable[..., None],
    talk: Connection,
    arguments: tuple[Any, ...],
    namespace: Namespace,
    cgroup: Path | None,
) -> None:
    """Be the child: never return into the test runner."""
    status = 70
    try:
        if cgroup:
            (cgroup / "cgroup.procs").write_text("0")
        namespace.enter()
        function(talk, *arguments)
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException as error:  # noqa: BLE001 the test is to see it, whatever it is
        with contextlib.suppress(OSError):
            talk.send(RuntimeError(f"{error!r}\n{traceback.format_exc()}"))
    finally:
        os._exit(status)


# TCP


def _connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=PATIENCE)


def _drain(connection: socket.socket) -> int:
    """Read to the end and return how much it was."""
    received = 0
    while part := connection.recv(1 << 16):
        received += len(part)
    return received


def serve_tcp(talk: Connection, address: str, connections: int) -> None:
    """Accept connections one by one; read each to its end, then close."""
    family = FAMILIES[6 if ":" in address else 4]
    with socket.create_server((address, PORT), family=family, backlog=128) as listener:
        talk.send("listening")
        received = 0
        for _ in range(connections):
            connection, _ = listener.accept()
            with connection:
                received += _drain(connection)
        talk.send(received)


def send_tcp(talk: Connection, address: str, connections: int, size: int) -> None:
    """Connect, send, close, again and again.

    The peer's FIN is awaited before the socket is closed, so nothing arrives for TIME_WAIT.
    """
    payload = bytes(size)
    for _ in range(connections):
        with _connect(address, PORT) as connection:
            connection.sendall(payload)
            connection.shutdown(socket.SHUT_WR)
            _drain(connection)
    talk.send("done")


def serve_tcp_late(talk: Connection, address: str, connections: int) -> None:
    """Accept connections, read them to the end, and close them when told to."""
    family = FAMILIES[6 if ":" in address else 4]
    with socket.create_server((address, PORT), family=family, backlog=128) as listener:
        talk.send("listening")
        accepted = [listener.accept()[0] for _ in range(connections)]
        for connection in accepted:
            _drain(connection)
        talk.recv()
        for connection in accepted:
            connection.close()


def send_tcp_and_leave(talk: Connection, address: str, connections: int, size: int) -> None:
    """Connect, send and close at once; report when the peer has acknowledged every FIN.

    The kernel has put the connections into TIME_WAIT by then (as FIN_WAIT2, which is how
    /proc/net/tcp shows them), so the peer's FINs will arrive there.
    """
    for _ in range(connections):
        with _connect(address, PORT) as connection:
            connection.sendall(bytes(size))
    table = Path("/proc/net/tcp6" if ":" in address else "/proc/net/tcp")
    wait_until(
        lambda: (
            sum(line.split()[3] == "05" for line in table.read_text().splitlines()) == connections
        ),
        f"{connections} connections in FIN_WAIT2",
    )
    talk.send("gone")


def knock_tcp(talk: Connection, address: str, attempts: int) -> None:
    """Connect to a port that nobody listens on."""
    for _ in range(attempts):
        with contextlib.suppress(ConnectionRefusedError):
            _connect(address, CLOSED_PORT).close()
            message = f"{address} port {CLOSED_PORT} is not closed"
            raise AssertionError(message)
    talk.send("done")


# UDP


def udp_socket(address: str) -> socket.socket:
    """Make a UDP socket that can talk to the address."""
    return socket.socket(FAMILIES[6 if ":" in address else 4], socket.SOCK_DGRAM)


def receive_udp(talk: Connection, address: str, datagrams: int) -> None:
    """Receive so many datagrams."""
    with udp_socket(address) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.settimeout(PATIENCE)
        receiver.bind((address, PORT))
        talk.send("bound")
        received = sum(len(receiver.recv(1 << 16)) for _ in range(datagrams))
        talk.send(received)


def wait_for_udp(talk: Connection, address: str, port: int) -> None:
    """Wait for a datagram that never comes."""
    with udp_socket(address) as receiver:
        receiver.bind((address, port))
        talk.send("waits")
        receiver.recv(1 << 16)


def receive_in_child(talk: Connection, address: str, datagrams: int) -> None:
    """Bind a socket and have a child receive through it: one datagram, then so many."""
    with udp_socket(address) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.settimeout(PATIENCE)
        receiver.bind((address, PORT))
        child = os.fork()
        if child == 0:
            receiver.recv(1 << 16)
            talk.send("took one")
            for _ in range(datagrams):
                receiver.recv(1 << 16)
            os._exit(0)
        talk.send(child)
        os.waitpid(child, 0)


def send_udp(talk: Connection, address: str, port: int, datagrams: int, size: int) -> None:
    """Send so many datagrams of one size."""
    with udp_socket(address) as sender:
        for _ in range(datagrams):
            sender.sendto(bytes(size), (address, port))
    talk.send("done")


def open_and_send_udp(talk: Connection, address: str, port: int, datagrams: int, size: int) -> None:
    """Open a socket, and send through it when told."""
    with udp_socket(address) as sender:
        talk.send("open")
        talk.recv()
        for _ in range(datagrams):
            sender.sendto(bytes(size), (address, port))


def connect_and_send_tcp(talk: Connection, address: str, size: int) -> None:
    """Connect, and send when told; end as send_tcp."""
    with _connect(address, PORT) as connection:
        talk.send("open")
        talk.recv()
        connection.sendall(bytes(size))
        connection.shutdown(socket.SHUT_WR)
        _drain(connection)


def receive_udp_without_main(talk: Connection, address: str, datagrams: int) -> None:
    """Receive in a thread, after the main thread has ended: the process goes on without it."""

    def receive() -> None:
        status = 70
        try:
            stat = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/stat")
            wait_until(lambda: ") Z " in stat.read_text(), "main thread ended")
            receive_udp(talk, address, datagrams)
            status = 0
        finally:
            os._exit(status)

    threading.Thread(target=receive).start()
    LIBC.syscall(SYS_EXIT, 0)


def hold_udp(talk: Connection, address: str, datagrams: int) -> None:
    """Bind a socket that a child holds too, and say its pid; it receives and ends when told."""
    with udp_socket(address) as shared:
        shared.settimeout(PATIENCE)
        shared.bind((address, PORT))
        child = os.fork()
        if child == 0:
            talk.recv()
            received = sum(len(shared.recv(1 << 16)) for _ in range(datagrams))
            talk.send(received)
            talk.recv()
            os._exit(0)
        talk.send(child)
        os.waitpid(child, 0)


# ICMP


def echo(talk: Connection, address: str, kind: int, requests: int, size: int) -> None:
    """Ask for echoes and wait for each, through a raw socket or a ping socket (SOCK_DGRAM)."""
    six, raw = ":" in address, kind == socket.SOCK_RAW
    family = FAMILIES[6 if six else 4]
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    request, reply = (128, 129) if six else (8, 0)
    with socket.socket(family, kind, protocol) as asker:
        asker.settimeout(PATIENCE)
        if raw:
            _receive_only(asker, reply, six=six)
        asker.connect((address, 0))
        for number in range(requests):
            message = struct.pack("!BBHHH", request, 0, 0, 1, number) + bytes(size)
            asker.send(_with_checksum(message))
            # A raw IPv4 socket receives the IP header too.
            expected = len(message) + (20 if raw and not six else 0)
            assert len(asker.recv(1 << 16)) == expected
    talk.send("done")


def _receive_only(raw: socket.socket, wanted: int, *, six: bool) -> None:
    """Let a raw socket receive one ICMP type only (raw(7); RFC 3542, section 3.2)."""
    if six:
        blocked = bytearray(b"\xff" * 32)
        blocked[wanted // 32 * 4 : wanted // 32 * 4 + 4] = struct.pack(
            "=I", ~(1 << wanted % 32) & 0xFFFFFFFF
        )
        raw.setsockopt(socket.IPPROTO_ICMPV6, 1, bytes(blocked))
    else:
        raw.setsockopt(255, 1, struct.pack("=I", ~(1 << wanted) & 0xFFFFFFFF))


def _with_checksum(message: bytes) -> bytes:
    """Fill in the checksum that a raw ICMP socket leaves to us (RFC 1071)."""
    padded = message + b"\0" * (len(message) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return message[:2] + struct.pack("!H", checksum) + message[4:]


# Segments


UDP_SEGMENT, UDP_GRO = 103, 104
"""Options of SOL_UDP (include/uapi/linux/udp.h)."""


def send_udp_segments(
    talk: Connection, address: str, buffers: int, size: int, segment: int
) -> None:
    """Hand over buffers that are cut into segments later."""
    with udp_socket(address) as sender:
        sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, segment)
        for _ in range(buffers):
            sender.sendto(bytes(size), (address, PORT))
    talk.send("done")


def receive_udp_bytes(talk: Connection, address: str, expected: int, gro: int) -> None:
    """Receive until so many bytes have come, one datagram or one merged buffer at a time."""
    with udp_socket(address) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        receiver.setsockopt(socket.SOL_UDP, UDP_GRO, gro)
        receiver.settimeout(PATIENCE)
        receiver.bind((address, PORT))
        talk.send("bound")
        largest = 0
        while expected:
            length = len(receiver.recv(1 << 16))
            expected -= length
            largest = max(largest, length)
        talk.send(largest)


def capture(talk: Connection, device: str, protocol: int) -> None:
    """Count what arrives at a device, as IP says how long it is, until told to stop."""
    all_protocols, outgoing, statistics = 3, 4, 6
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as tap:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 27)
        tap.bind((device, all_protocols))
        tap.setblocking(False)
        talk.send("capturing")
        packets = total = 0
        told = False
        while True:
            try:
                header, (_, _, kind, *_) = tap.recvfrom(40)
            except BlockingIOError:
                if told:
                    break
                ready, _, _ = select.select([tap.fileno(), talk.fileno()], [], [])
                told = ready == [talk.fileno()]
                continue
            four = header[0] >> 4 == 4
            if kind == outgoing or header[9 if four else 6] != protocol:
                continue
            packets += 1
            total += struct.unpack_from("!H", header, 2 if four else 4)[0] + (0 if four else 40)
        _, dropped = struct.unpack("=II", tap.getsockopt(263, statistics, 8))
        assert dropped == 0, f"the capture lost {dropped} packets"
        talk.send((packets, total))


# Ends


def send_one(talk: Connection, address: str, port: int, ending: int) -> None:
    """Send a datagram; end with a status or, below zero, by a signal."""
    send_udp(talk, address, port, 1, 101)
    if ending < 0:
        os.kill(os.getpid(), -ending)
        signal.pause()
    raise SystemExit(ending)


def breed(talk: Connection, address: str, port: int, children: int, size: int) -> None:
    """Have many children, each of which sends one datagram and exits."""
    pids = []
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            with udp_socket(address) as sender:
                sender.sendto(bytes(size), (address, port))
            os._exit(0)
        pids.append(pid)
        os.waitpid(pid, 0)
    talk.send(pids)


# Races


def _stay_on(number: int) -> None:
    """Keep to one processor, so that two processes really run side by side."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[number % len(allowed)]})


def flood_udp(talk: Connection, address: str) -> None:
    """Send until told to stop."""
    _stay_on(0)
    sent = 0
    with udp_socket(address) as sender:
        while not talk.poll():
            for _ in range(97):
                sender.sendto(b"flood", (address, PORT))
            if not sent:
                talk.send("flooding")
            sent += 97
    talk.send(sent)


def drain_udp(talk: Connection, address: str) -> None:
    """Receive until killed."""
    with udp_socket(address) as receiver:
        receiver.bind((address, PORT))
        talk.send("bound")
        while True:
            receiver.recv(1 << 16)


def open_and_close_udp(
    talk: Connection, address: str, device: str, sockets: int, groups: int
) -> None:
    """Bind and close sockets on the port that is flooded; each joins some multicast groups.

    IPv4 groups are left after the program at the release of a socket has run and before the socket
    is taken out of the lookup table, also by an IPv6 socket (net/ipv4/af_inet.c, inet_release).
    """
    _stay_on(1)
    index = socket.if_nametoindex(device)
    while sockets:
        with udp_socket(address) as receiver, contextlib.suppress(OSError):
            for group in range(groups):
                request = struct.pack("=4s4si", bytes((239, 0, 0, group + 1)), bytes(4), index)
                receiver.setsockopt(socket.SOL_IP, socket.IP_ADD_MEMBERSHIP, request)
            # In use: whoever looks at our files now (a tracer that starts does) keeps one open.
            receiver.bind((address, PORT))
            sockets -= 1
    talk.send("done")


def use_udp_sockets(talk: Connection, address: str, port: int, sockets: int) -> None:
    """Open, use once and close many sockets."""
    for _ in range(sockets):
        with udp_socket(address) as sender:
            sender.sendto(b"once", (address, port))
    talk.send("done")


def share_udp_socket(talk: Connection, address: str, port: int, datagrams: int) -> None:
    """Send through one socket from two processes at once."""
    with udp_socket(address) as sender:
        child = os.fork()
        for _ in range(datagrams):
            sender.sendto(b"shared", (address, port))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    talk.send(child)


def take_turns(talk: Connection, address: str, port: int, datagrams: int) -> None:
    """Send through one socket from two processes in turn, on one processor: each its share."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    here, there = multiprocessing.Pipe()
    with udp_socket(address) as sender:
        talk.send("ready")
        child = os.fork()
        turns = there if child == 0 else here
        if child:
            turns.send_bytes(b"go")
        for _ in range(datagrams):
            turns.recv_bytes()
            sender.sendto(b"turns", (address, port))
            turns.send_bytes(b"go")
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    talk.send(child)


def hand_over(talk: Connection, address: str, port: int, before: int, after: int) -> None:
    """Send through a socket, then have a child send through it."""
    with udp_socket(address) as sender:
        for _ in range(before):
            sender.sendto(b"first", (address, port))
        child = os.fork()
        if child == 0:
            for _ in range(after):
                sender.sendto(b"later", (address, port))
            os._exit(0)
        os.waitpid(child, 0)
    talk.send(child)


def serve_tcp_rudely(talk: Connection, address: str) -> None:
    """Accept and close at once, whatever is in flight, until told to stop."""
    family = FAMILIES[6 if ":" in address else 4]
    with socket.create_server((address, PORT), family=family, backlog=1024) as listener:
        talk.send("listening")
        either = [listener.fileno(), talk.fileno()]
        while listener.fileno() in select.select(either, [], [])[0]:
            connection, _ = listener.accept()
            connection.close()


def send_tcp_bravely(talk: Connection, address: str, connections: int) -> None:
    """Send into connections that the peer closes; every other one we reset ourselves."""
    for number in range(connections):
        with contextlib.suppress(ConnectionError), _connect(address, PORT) as connection:
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
            for _ in range(1 + number % 7):
                connection.send(bytes(1009))
    talk.send("done")


def listen_only(talk: Connection, address: str) -> None:
    """Listen and never accept; close the listener when told to."""
    family = FAMILIES[6 if ":" in address else 4]
    with socket.create_server((address, PORT), family=family, backlog=1024):
        talk.send("listening")
        talk.recv()
    talk.send("closed")


def connect_and_wait(talk: Connection, address: str, connections: int, size: int) -> None:
    """Open connections, send something on each, and read until the peer ends them."""
    opened = [_connect(address, PORT) for _ in range(connections)]
    for connection in opened:
        connection.sendall(bytes(size))
    talk.send("sent")
    for connection in opened:
        with connection, contextlib.suppress(ConnectionResetError):
            _drain(connection)


# Packet sockets

ETHERTYPE: Final = 0x88B5
"""For local experiments (IEEE 802)."""


def send_frames(talk: Connection, device: str, hardware: str, frames: int, size: int) -> None:
    """Send frames through a packet socket."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, ETHERTYPE))
        frame = bytes.fromhex(hardware.replace(":", "")) + bytes(6) + struct.pack("!H", ETHERTYPE)
        for _ in range(frames):
            sender.send(frame.ljust(size, b"\0"))
    talk.send("done")


def receive_frames(talk: Connection, device: str, frames: int) -> None:
    """Receive frames through a packet socket, without their link header."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(PATIENCE)
        receiver.bind((device, ETHERTYPE))
        talk.send("bound")
        talk.send(sum(len(receiver.recv(1 << 16)) for _ in range(frames)))
