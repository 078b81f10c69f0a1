# SPDX-License-Identifier: Apache-2.0
"""netatop's options of getsockopt(2): a reader written for the module gets exact counts."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.kernel.core_loader import CoreTracer, Options
from exporter.kernel.exit_list import ExitList
from tests import workload
from tests.kernel.lab import alone, open_lab, readable
from tests.network import LIBC, checked
from tests.traffic import forks, netatop, passing, tcp, threads, udp
from tests.traffic.netatop import (
    EMPTY_EXIT,
    FORCE_GC,
    GETCNT_EXIT,
    GETCNT_PID,
    GETCNT_TGID,
    NETPERTASK,
    PROBE,
    Reader,
)
from tests.traffic.passing import SIZE
from tests.workload import CLOSED_PORT, PATIENCE, PORT, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from tests.kernel.lab import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.needs("compat")]

HEADERS = {4: 28, 6: 48}
CLONE_NEWPID = 0x20000000
NOBODY = 4194303
"""No process has this id: it is the kernel's limit, less one, and pid_max is below it here."""


@pytest.fixture
def tracer() -> Iterator[CoreTracer]:
    """Load the programs, with the one that answers; of two that are attached the first one does."""
    with alone(), CoreTracer(Options(compat=True)) as loaded:
        yield loaded


@pytest.fixture
def own(tracer: CoreTracer) -> Iterator[Reader]:
    """Return a reader."""
    assert tracer
    with netatop.reader() as opened:
        yield opened


@pytest.fixture(params=[False, True], ids=["processes", "threads"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return the lab; options are answered in it."""
    with open_lab(Options(compat=True, count_threads=request.param)) as opened:
        yield opened


@contextlib.contextmanager
def refused(code: int) -> Iterator[None]:
    """Expect this error."""
    with pytest.raises(OSError, match=r".") as found:
        yield
    assert errno.errorcode[found.value.errno] == errno.errorcode[code]


def _in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a process of its own and return what it returns."""

    def run(talk: Connection) -> None:
        talk.send(function(*arguments))

    with Process(run) as process:
        return process.hear()


def _errno(option: int, task: int = 0) -> int:
    with netatop.reader() as asking:
        try:
            asking.raw(option, task)
        except OSError as error:
            return error.errno or 0
    return 0


# Own traffic, of a moment ago


def _ask_after_each(talk: Connection, address: str, shares: tuple[int, ...]) -> None:
    """Send and receive datagrams; ask for oneself after each call."""
    me, headers = os.getpid(), HEADERS[6 if ":" in address else 4]
    with netatop.reader() as asking, udp.bound(address, PORT) as receiver:
        sent = received = sent_bytes = received_bytes = 0
        for share in shares:
            for number in range(share):
                size = 101 + number
                receiver.sendto(bytes(size), (address, PORT))
                sent, sent_bytes = sent + 1, sent_bytes + headers + size
                # It is received as it is sent: over the loopback, in the same call.
                received, received_bytes = received + 1, received_bytes + headers + size
                counts = {
                    "udp transmit": (sent, sent_bytes),
                    "udp receive": (received, received_bytes),
                }
                assert asking.ask(GETCNT_TGID, me).counts == counts
                assert asking.ask(GETCNT_PID, me).counts == counts
            for _ in range(share):
                receiver.recv(1 << 16)
            assert asking.ask(GETCNT_TGID, me).counts == counts
    talk.send(counts)
    talk.recv()


def test_own_datagrams(lab: Lab, family: int) -> None:
    """A reader sees each of its own datagrams as soon as the call that sends it has returned."""
    start = lab.read()
    address = lab.left.address(family)
    process = lab.start(_ask_after_each, address, (23, 7, 41), at=lab.left)
    counts = process.hear()
    passed = lab.since(start)
    assert readable(passed.processes[process.pid]) == counts
    assert counts["udp transmit"][0] == 71
    process.tell()


def test_own_datagrams_by_class(family: int) -> None:
    """So it is where classes of remote addresses are counted, and where sockets have files only."""
    classes = (("127.0.0.0/8", 1), ("10.0.0.0/8", 2), ("fd00::/8", 3))
    options = Options(compat=True, remotes=classes, walk_files=True)
    with open_lab(options) as lab:
        process = lab.start(_ask_after_each, lab.left.address(family), (23, 7), at=lab.left)
        assert process.hear()["udp transmit"][0] == 30
        process.tell()


def _exchange(talk: Connection, address: str, exchanges: int) -> None:
    """Exchange with a server, and tell what the counts are at rest."""
    with netatop.reader() as asking, tcp.connect(address) as connection:
        for number in range(exchanges):
            connection.sendall(bytes(SIZE))
            tcp.receive(connection, SIZE)
            counts = asking.ask(GETCNT_TGID, os.getpid()).counts
            assert counts["tcp transmit"][0] > number
            assert counts["tcp receive"][0] > number
        talk.send("done")
        talk.recv()
        talk.send(asking.ask(GETCNT_TGID, os.getpid()).counts)
        talk.recv()


def test_own_connection(lab: Lab, family: int) -> None:
    """So it is with TCP; and nobody has to settle anything before the witness's count is there."""
    start = lab.read()
    address = lab.right.address(family)
    server = lab.start(tcp.serve, address, passing.echo_stream, at=lab.right)
    server.hear()
    process = lab.start(_exchange, address, 31, at=lab.left)
    assert process.hear() == "done"
    time.sleep(0.25)  # a delayed acknowledgement
    seen = lab._witnesses[lab.left.namespace].read()
    process.tell()
    counts = process.hear()
    before = start.seen[lab.left.namespace]
    passed = tuple(now - then for now, then in zip(seen, before, strict=True))
    assert counts == readable(passed, "tcp")
    process.tell()


def test_traffic_of_another(lab: Lab, family: int) -> None:
    """What a process has sent is there when it says so, and what it has not taken yet too."""
    address = lab.right.address(family)

    def receive(talk: Connection) -> None:
        with udp.bound(address):
            talk.send("ready")
            talk.recv()

    receiver = lab.start(receive, at=lab.right)
    receiver.hear()
    sender = lab.start(workload.open_and_send_udp, address, PORT, 29, 211, at=lab.left)
    sender.hear()
    sender.tell()
    sender.wait()
    each = HEADERS[family] + 211
    with netatop.reader() as asking:
        found = asking.ask(GETCNT_TGID, receiver.pid)
        assert found.counts == {"udp receive": (29, 29 * each)}
        with refused(errno.ESRCH):
            asking.ask(GETCNT_TGID, sender.pid)
    receiver.tell()


# What is asked, and by whom


def test_struct(own: Reader) -> None:
    """The answer says who it is, as /proc does, and since when, to the second."""
    me = os.getpid()
    udp.send(None, "127.0.0.1", 3, 5, CLOSED_PORT)  # type: ignore[arg-type]
    found = own.ask(GETCNT_TGID, me)
    assert found.id == me
    assert found.command == Path("/proc/self/comm").read_text().strip()
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert abs(found.begin - (booted + ticks / os.sysconf("SC_CLK_TCK"))) <= 1
    assert NETPERTASK.size == 96


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_RAW])
def test_kinds_of_sockets(tracer: CoreTracer, kind: int) -> None:
    """Any IPv4 socket will do; atop has a raw one."""
    assert tracer
    with netatop.reader(kind=kind) as asking:
        asking.tell(PROBE)
        asking.tell(FORCE_GC)
        assert asking.ask(GETCNT_TGID, os.getpid()).id == os.getpid()


def test_other_options(own: Reader) -> None:
    """Everything else is as without us: other options, levels, families, and long buffers."""
    for option in (PROBE - 1, GETCNT_PID + 1):
        with refused(errno.ENOPROTOOPT):
            own.raw(option, os.getpid())
    for level in (socket.SOL_SOCKET, socket.IPPROTO_UDP):
        with refused(errno.ENOPROTOOPT):
            own.socket.getsockopt(level, PROBE)
    with netatop.reader(socket.AF_INET6) as six, refused(errno.ENOPROTOOPT):
        six.raw(GETCNT_TGID, os.getpid())
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX)) as local,
        refused(errno.EOPNOTSUPP),
    ):
        local.getsockopt(socket.SOL_IP, PROBE)
    assert own.socket.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM
    own.socket.setsockopt(socket.SOL_IP, socket.IP_TTL, 97)
    for room in (1, 4, 100, 1024):
        found = own.socket.getsockopt(socket.SOL_IP, socket.IP_TTL, room)
        assert found == (97).to_bytes(4, "little")[: len(found)]
        assert len(found) == (1 if room < 4 else 4)
    # Longer than a page: the program sees a part of it, and the caller gets all.
    sources = 3000
    buffer = (ctypes.c_uint32 * sources)(*range(sources))
    length = ctypes.c_uint32(ctypes.sizeof(buffer))
    code = LIBC.getsockopt(
        *(own.socket.fileno(), socket.SOL_IP, socket.IP_TTL),
        *(buffer, ctypes.byref(length)),
    )
    assert (code, length.value, buffer[0], buffer[1]) == (0, 4, 97, 1)


def test_long_value(own: Reader) -> None:
    """A value of more than a page comes whole (SO_PEERGROUPS of 3,000 groups)."""

    def ask() -> bool:
        groups = list(range(5, 3005))
        os.setgroups(groups)
        left, right = socket.socketpair()
        with left, right:
            buffer = (ctypes.c_uint32 * len(groups))()
            length = ctypes.c_uint32(ctypes.sizeof(buffer))
            code = LIBC.getsockopt(
                left.fileno(), socket.SOL_SOCKET, 59, buffer, ctypes.byref(length)
            )
            return code == 0 and list(buffer) == groups and length.value == 12000

    assert own
    assert _in_child(ask)


def test_short_buffers(own: Reader) -> None:
    """At least the id; what fits of the rest; never more than the struct; and a bad address."""
    me = os.getpid()
    udp.send(None, "127.0.0.1", 3, 5, CLOSED_PORT)  # type: ignore[arg-type]
    _, whole = own.raw(GETCNT_TGID, me)
    for option in (GETCNT_TGID, GETCNT_PID, GETCNT_EXIT):
        for room in (0, 1, 3):
            with refused(errno.EINVAL):
                own.raw(option, me, room)
    with refused(errno.EINVAL):
        own.raw(GETCNT_TGID, me, -1 & 0xFFFFFFFF)
    for room in (4, 7, 16, 31, 32, 95, 96):
        length, buffer = own.raw(GETCNT_TGID, me, room)
        assert length == room
        assert buffer[:room] == whole[:room]
        assert buffer[room:-1] == bytes([netatop.FILL]) * (len(buffer) - room - 1)
    for room in (97, 4096, 4097, 100_000):
        length, buffer = own.raw(GETCNT_TGID, me, room)
        assert length == 96
        assert buffer[:96] == whole[:96]
        assert buffer[96:-1] == bytes([netatop.FILL]) * (len(buffer) - 97)
    length = ctypes.c_uint32(96)
    for address in (None, ctypes.c_void_p(0xFFFF888000000000), ctypes.c_void_p(1 << 40)):
        code = LIBC.getsockopt(
            own.socket.fileno(), socket.SOL_IP, GETCNT_TGID, address, ctypes.byref(length)
        )
        assert (code, ctypes.get_errno()) == (-1, errno.EFAULT)


def test_unknown(own: Reader) -> None:
    """Who does not live, has not used the network or can't be: ESRCH, as netatop said."""
    assert own
    with Process(lambda talk: talk.recv()) as idle:
        for task in (idle.pid, NOBODY, 0, -1, 1 << 22, (1 << 22) + os.getpid(), -(1 << 31)):
            for option in (GETCNT_TGID, GETCNT_PID):
                with refused(errno.ESRCH):
                    own.raw(option, task)
    ended = Process(workload.send_udp, "127.0.0.1", CLOSED_PORT, 3, 5)
    ended.wait()
    with refused(errno.ESRCH):
        own.ask(GETCNT_TGID, ended.pid)


def test_capability(own: Reader) -> None:
    """CAP_NET_ADMIN is needed, effective, in the initial user namespace; for everything."""
    me = os.getpid()
    udp.send(None, "127.0.0.1", 3, 5, CLOSED_PORT)  # type: ignore[arg-type]
    assert own.ask(GETCNT_TGID, me)
    options = range(PROBE, GETCNT_PID + 1)

    def without() -> list[int]:
        netatop.drop_capability()
        return [_errno(option, me) for option in options]

    def as_nobody() -> list[int]:
        os.setresuid(65534, 65534, 65534)
        return [_errno(option, me) for option in options]

    def in_namespace() -> list[int]:
        checked(LIBC.unshare(netatop.CLONE_NEWUSER))
        status = Path("/proc/self/status").read_text()
        (effective,) = (line.split()[1] for line in status.splitlines() if "CapEff" in line)
        assert int(effective, 16) >> netatop.CAP_NET_ADMIN & 1
        return [_errno(option, me) for option in options]

    for function in (without, as_nobody, in_namespace):
        assert set(_in_child(function)) == {errno.EPERM}, function
    assert _in_child(_errno, PROBE) == 0


def test_namespace_of_ids(own: Reader) -> None:
    """A process goes by its id in the initial namespace, as netatop saw it; so does who asks."""

    def inside(talk: Connection) -> None:
        checked(LIBC.unshare(CLONE_NEWPID))
        child = os.fork()
        if not child:
            LIBC.prctl(1, signal.SIGKILL)  # with its parent
            assert os.getpid() == 1
            udp.send(talk, "127.0.0.1", 37, 5, CLOSED_PORT)
            with netatop.reader() as asking:
                outer = int(Path("/proc/self").readlink().name)
                found = asking.ask(GETCNT_TGID, outer).counts
                talk.send((outer, found, _errno(GETCNT_TGID, 1)))
            talk.recv()
            os._exit(0)
        os.waitpid(child, 0)

    with Process(inside) as process:
        outer, found, one = process.hear()
        counts = {"udp transmit": (37, 37 * 33)}
        assert found == counts
        assert one == errno.ESRCH
        assert own.ask(GETCNT_TGID, outer).counts == counts
        assert own.ask(GETCNT_PID, outer).counts == counts
        process.tell()
        process.wait()


def _fork_as(pid: int, datagrams: int) -> Callable[[], None]:
    """Start a process with this id that sends, and return what ends it."""
    reading, writing = os.pipe()
    last = Path("/proc/sys/kernel/ns_last_pid")
    deadline = time.monotonic() + PATIENCE
    while True:
        last.write_text(str(pid - 1))
        child = os.fork()
        if not child:
            if os.getpid() != pid:
                os._exit(0)
            udp.send(None, "127.0.0.1", datagrams, 5, CLOSED_PORT)  # type: ignore[arg-type]
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        if child == pid:
            break
        os.waitpid(child, 0)
        assert time.monotonic() < deadline

    def end() -> None:
        os.close(writing)
        os.waitpid(pid, 0)
        os.close(reading)

    return end


def test_reused_id(own: Reader) -> None:
    """An id leads to the one who lives, and to nobody between two; the dead are in the list."""
    pid = int(Path("/proc/sys/kernel/pid_max").read_text()) - 13
    own.tell(FORCE_GC)
    own.ended(set())
    begun = set()
    for datagrams in (23, 7, 11):
        with refused(errno.ESRCH):
            own.ask(GETCNT_TGID, pid)
        end = _fork_as(pid, datagrams)
        try:
            wait_until(lambda: not _errno(GETCNT_TGID, pid), "it has sent")
            sent = {"udp transmit": (datagrams, datagrams * 33)}
            wait_until(
                lambda sent=sent: own.ask(GETCNT_TGID, pid).counts == sent, "it has sent all"
            )
            begun.add(own.ask(GETCNT_TGID, pid).begin)
        finally:
            end()
        own.tell(FORCE_GC)
        assert own.ended({pid})[pid].counts == sent
    assert len(begun) >= 1


# Threads


THREADS = 5


def _many_threads(talk: Connection, address: str) -> None:
    """Let thread number n send n + 2 datagrams, and say their ids; end when told."""
    gate, tids = threading.Barrier(THREADS + 1), [0] * THREADS

    def work(number: int) -> None:
        tids[number] = threading.get_native_id()
        udp.send(talk, address, number + 2, SIZE, CLOSED_PORT)
        gate.wait()
        gate.wait()

    started = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in started:
        thread.start()
    gate.wait()
    talk.send(tids)
    talk.recv()
    gate.wait()
    for thread in started:
        thread.join()


def _sent(datagrams: int) -> dict[str, tuple[int, int]]:
    return {"udp transmit": (datagrams, datagrams * (28 + SIZE))}


def test_threads(lab: Lab) -> None:
    """With threads each has its own; without, the main one stands for its process."""
    counted = lab.tracer._held.plan.read_settings().count_threads  # type: ignore[attr-defined]
    process = lab.start(_many_threads, lab.right.ipv4, at=lab.left)
    tids = process.hear()
    with netatop.reader() as asking:
        whole = asking.ask(GETCNT_TGID, process.pid)
        assert whole.counts == _sent(sum(range(2, THREADS + 2)))
        for number, tid in enumerate(tids):
            assert _errno(GETCNT_TGID, tid) == errno.ESRCH
            if counted:
                assert asking.ask(GETCNT_PID, tid).counts == _sent(number + 2)
            else:
                assert _errno(GETCNT_PID, tid) == errno.ESRCH
        if not counted:
            assert asking.ask(GETCNT_PID, process.pid) == whole
    process.tell()
    process.wait()
    assert {_errno(GETCNT_PID, tid) for tid in (process.pid, *tids)} == {errno.ESRCH}


def test_exec_from_thread() -> None:
    """A thread that calls exec goes on under its process's id."""
    with open_lab(Options(compat=True, count_threads=True)) as lab:
        process = lab.start(
            *(threads.exec_from_thread, lab.right.ipv4, CLOSED_PORT, (3, 5, 7)), at=lab.left
        )
        tid = process.hear()
        with netatop.reader() as asking:
            assert asking.ask(GETCNT_PID, tid).counts["udp transmit"][0] == 5
            process.tell()
            assert process.hear() == "sent"
            found = asking.ask(GETCNT_TGID, process.pid)
            assert found.counts["udp transmit"][0] == 15
            assert asking.ask(GETCNT_PID, process.pid).counts["udp transmit"][0] == 3 + 7
            with refused(errno.ESRCH):
                asking.ask(GETCNT_PID, tid)
        process.tell("end")
        process.wait()


# The exit list


def _senders(count: int) -> dict[int, dict[str, tuple[int, int]]]:
    """Let so many processes send and end."""
    sent = {}
    for number in range(count):
        process = Process(workload.send_udp, "127.0.0.1", CLOSED_PORT, number + 1, 5)
        process.wait()
        process.__exit__()
        sent[process.pid] = {"udp transmit": (number + 1, (number + 1) * 33)}
    return sent


def test_exits(own: Reader) -> None:
    """Each finished process once, in order; nothing more is there: ENOPROTOOPT, and empty."""
    own.tell(FORCE_GC)
    own.ended(set())
    sent = _senders(23)
    with refused(errno.EAGAIN):
        own.tell(EMPTY_EXIT)
    own.tell(FORCE_GC)
    found = own.ended(set(sent))
    assert {pid: answer.counts for pid, answer in found.items()} == sent
    assert list(found) == list(sent)
    own.tell(EMPTY_EXIT)
    with refused(errno.ENOPROTOOPT):
        own.ask(GETCNT_EXIT)


def test_exits_of_our_own_log() -> None:
    """Where the exporter reads the list, EMPTY_EXIT never says that it is not empty yet.

    Each process is told once: when it has been gone for as long as the reader was away.
    """
    with alone(), CoreTracer(Options(compat=True, reads_exits=True)), netatop.reader() as asking:
        with ExitList() as exits:
            list(exits.take())
            sent = _senders(7)
            asking.tell(EMPTY_EXIT)
            assert list(exits.take()) == []
            found = [netatop.decode(raw) for raw in exits.take()]
        assert {answer.id: answer.counts for answer in found if answer.id in sent} == sent
        with refused(errno.ENOPROTOOPT):
            asking.ask(GETCNT_EXIT)


def test_several_readers(own: Reader) -> None:
    """Each finished process goes to one of them."""
    own.tell(FORCE_GC)
    own.ended(set())
    sent = _senders(61)
    own.tell(FORCE_GC)

    def read(pids: set[int]) -> dict[int, Any]:
        with netatop.reader() as asking:
            return {pid: answer.counts for pid, answer in asking.ended(pids).items()}

    def run(talk: Connection) -> None:
        talk.recv()
        talk.send(read(set(sent)))

    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Process(run)) for _ in range(4)]
        for process in readers:
            process.tell()
        parts = [process.hear() for process in readers]
    assert sum(map(len, parts)) == len(sent)
    assert {pid: counts for part in parts for pid, counts in part.items()} == sent


def test_unforced(own: Reader) -> None:
    """Without FORCE_GC it is there within a second or so; with it at once."""
    own.tell(FORCE_GC)
    own.ended(set())
    sent = _senders(1)
    assert own.ended(set(sent)) == {}
    ended = time.monotonic()
    wait_until(lambda: own.ended(set(sent)), "it is in the list")
    assert time.monotonic() - ended < 3


def test_last_packets(lab: Lab, family: int) -> None:
    """What a connection exchanges when its process has ended is in the answer."""
    start = lab.read()
    address = lab.right.address(family)
    server = lab.start(workload.serve_tcp, address, 1, at=lab.right)
    server.hear()
    client = lab.start(tcp_and_exit, address, at=lab.left)
    client.wait()
    server.wait()
    with netatop.reader() as asking:
        found: dict[int, netatop.Answer] = {}

        def both() -> bool:
            found.update(asking.ended({client.pid, server.pid}))
            return len(found) == 2

        wait_until(both, "both are in the list")
    passed = lab.since(start)
    for process in (client, server):
        expected = readable(passed.processes[process.pid], "tcp")
        assert found[process.pid].counts == expected


def tcp_and_exit(_talk: Connection, address: str) -> None:
    """Send, and leave it to the kernel to end the connection."""
    connection = socket.create_connection((address, PORT), timeout=PATIENCE)
    connection.sendall(bytes(SIZE))
    os._exit(0)


def test_more_than_the_list_holds(own: Reader, tmp_path: Path) -> None:
    """Of very many the last are there, each once, and the reader comes to an end."""
    own.tell(FORCE_GC)
    own.ended(set())
    program = forks.compile_in(tmp_path, "forks")
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    count = 20_000
    running = forks.start(program, forks.Run(count, 97, pid_max - 200), "127.0.0.1", CLOSED_PORT)
    assert running.communicate()[1] == b""
    own.tell(FORCE_GC)
    found = 0
    with contextlib.suppress(OSError):
        while own.ask(GETCNT_EXIT):
            found += 1
    assert 0 < found <= 1 << 14
    own.tell(EMPTY_EXIT)


# Other ways to call


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the 32-bit calls are those of i386")
def test_32_bit(own: Reader, tmp_path: Path) -> None:
    """For a 32-bit call the kernel runs no program: the option is not there."""
    udp.send(None, "127.0.0.1", 3, 5, CLOSED_PORT)  # type: ignore[arg-type]
    assert own.ask(GETCNT_TGID, os.getpid())
    source = Path(netatop.__file__).with_name("compat32.c")
    program = forks.compile_in(tmp_path, "compat32", source)
    done = subprocess.run(
        [program, str(GETCNT_TGID), str(os.getpid())], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no 32-bit system calls here: status {done.returncode}")
    assert int(done.stdout) == -errno.ENOPROTOOPT


def test_io_uring(own: Reader) -> None:
    """A ring may ask for options of the socket level only; its way is open (the control)."""
    assert own
    try:
        assert netatop.ask_by_ring(socket.SO_TYPE, 0, socket.SOL_SOCKET) == 4
    except OSError as error:
        pytest.skip(f"no getsockopt by io_uring: {error}")
    with refused(errno.EOPNOTSUPP):
        netatop.ask_by_ring(GETCNT_TGID, os.getpid())


# Switched on and off


def test_off() -> None:
    """By default nothing is attached to getsockopt."""
    with alone(), CoreTracer(Options()) as tracer:
        program = next(p for p in tracer.programs() if p.name == "answer_getsockopt")
        assert not program.attached
        assert _errno(PROBE) == errno.ENOPROTOOPT


def test_taken_over(bpffs: Path) -> None:
    """The next run, with the same programs or others, knows who lives; nothing falls."""
    options = Options(pin_path=str(bpffs / "netatop"))
    with open_lab(options) as lab:
        process = lab.start(
            workload.open_and_send_udp, lab.right.ipv4, CLOSED_PORT, 13, 211, at=lab.left
        )
        process.hear()
        gone = lab.start(workload.send_udp, lab.right.ipv4, CLOSED_PORT, 5, 7, at=lab.left)

        def idle(talk: Connection) -> None:
            udp.send(talk, lab.right.ipv4, 19, 7, CLOSED_PORT)
            talk.send("sent")
            talk.recv()

        lives = lab.start(idle, at=lab.left)
        lives.hear()
        gone.wait()
        sent = {"udp transmit": (19, 19 * 35)}
        lab.tracer.close()
        for following in (
            options._replace(compat=True),
            options._replace(compat=True),
            options._replace(compat=True, list_sockets=True),
        ):
            lab.trace(following)
            with netatop.reader() as asking:
                assert asking.ask(GETCNT_TGID, lives.pid).counts == sent
                with refused(errno.ESRCH):
                    asking.ask(GETCNT_TGID, gone.pid)
            lab.tracer.close()
        # While no exporter runs it is answered all the same.
        assert _errno(GETCNT_TGID, lives.pid) == 0
        lab.trace(options)
        assert _errno(GETCNT_TGID, lives.pid) == errno.ENOPROTOOPT
        process.tell()
        process.wait()
        lives.tell()
