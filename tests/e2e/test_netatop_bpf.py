# SPDX-License-Identifier: Apache-2.0
"""netatop-bpf's socket, asked as atop 2.10 and later do.

No package of Debian 12 speaks this protocol, so the reader is written here from its facts: send one
struct netpertask, read structs until one has the id 0.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import stat
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from exporter import netatop_bpf
from tests.e2e import program, workers
from tests.e2e.test_atop import _talk_tcp as talk_tcp
from tests.traffic import tcp
from tests.traffic.passing import echo_stream
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from tests.e2e.exposition import Exposition

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

NETPERTASK: Final = struct.Struct("@iL16s8Q")
"""The struct as a C compiler lays it out here; 96 bytes, in the byte order of the host."""
SIZE: Final = 43
NOBODY: Final = 65534
NAMES: Final = ("transmit_packets", "transmit_bytes", "receive_packets", "receive_bytes")


class Record(NamedTuple):
    """What was told of one process."""

    begin: int
    command: str
    tcp: dict[str, float]
    udp: dict[str, float]


class Reader:
    """A client that keeps its connection, as atop does."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))

    def ask(self, request: bytes = bytes(NETPERTASK.size)) -> dict[int, Record]:
        """Ask once; the last of those with one pid counts, as in atop's table."""
        self.socket.sendall(request)
        return self.read()

    def read(self) -> dict[int, Record]:
        """Read an answer to its end, which is a struct of zeros."""
        found = {}
        while True:
            raw = self.socket.recv(NETPERTASK.size)  # atop does not ask for the rest of one
            if not raw:
                message = f"hung up after {len(found)} processes"
                raise EOFError(message)
            assert len(raw) == NETPERTASK.size
            pid, begin, command, *numbers = NETPERTASK.unpack(raw)
            if not pid:
                assert raw == bytes(NETPERTASK.size)
                return found
            parts = [
                dict(zip(NAMES, map(float, numbers[at : at + 4]), strict=True)) for at in (0, 4)
            ]
            name = command.partition(b"\0")[0].decode(errors="replace")
            found[pid] = Record(begin, name, parts[0], parts[1])

    def is_hung_up(self) -> bool:
        """Tell whether the other side has ended the connection, after what it may have sent."""
        while select.select([self.socket], [], [], 0)[0]:
            try:
                if not self.socket.recv(1 << 16):
                    return True
            except ConnectionResetError:
                return True
        return False


@contextlib.contextmanager
def reader(path: Path) -> Iterator[Reader]:
    """Connect until the end of the block."""
    opened = Reader(path)
    with opened.socket:
        yield opened


@contextlib.contextmanager
def served(path: Path, *words: str) -> Iterator[program.Program]:
    """Run an exporter that answers there."""
    with program.serve(f"--compat.netatop-bpf={path}", *words) as exporter:
        yield exporter


def known(found: Exposition, pid: int) -> tuple[dict[str, float], ...]:
    """Return what /metrics says of a process, TCP and UDP."""
    return tuple(found.traffic("process_", pid=str(pid), protocol=p) for p in ("tcp", "udp"))


# The numbers


def test_numbers(name: str, tmp_path: Path) -> None:
    """Every process of /metrics is told, and those that we know have exactly its counts."""
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(served(path))
        asking = stack.enter_context(reader(path))
        assert len(asking.ask()) < 100
        began = int(time.time())
        talker = stack.enter_context(Process(workers.talker, name, SIZE))
        talker.hear()
        server = stack.enter_context(Process(tcp.serve, workers.LOCAL, echo_stream))
        server.hear()
        client = stack.enter_context(Process(talk_tcp, f"{name}-c", 4099))
        assert client.hear() == "done"
        talker.tell(23)
        talker.hear()
        time.sleep(0.25)  # a delayed acknowledgement
        told = asking.ask()
        found = exporter.scrape()
        for process in (talker, server, client):
            record = told[process.pid]
            assert (record.tcp, record.udp) == known(found, process.pid)
            assert began - 1 <= record.begin <= time.time() + 1
        assert told[talker.pid].command == name
        assert told[talker.pid].udp == workers.traffic(23, SIZE)
        assert told[client.pid].tcp["transmit_packets"] > 29
        pids = {
            labels["pid"]
            for labels in map(dict, found.series("netatop_process_transmit_packets_total"))
        }
        assert {pid for pid in pids - {"other"} if _lives(pid)} <= set(map(str, told))
        talker.tell(7)
        talker.hear()
        assert asking.ask()[talker.pid].udp == workers.traffic(30, SIZE)


def _lives(pid: str) -> bool:
    """Tell whether there is such a process, a dead one that is not waited for included."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def test_ended(name: str, tmp_path: Path) -> None:
    """What ends between two requests of a client is told to it once more, with all it had used."""
    path = tmp_path / "socket"
    with served(path), reader(path) as early, reader(path) as late:
        early.ask()
        pid = workers.live(name, 41, SIZE)
        assert early.ask()[pid].udp == workers.traffic(41, SIZE)
        assert pid not in early.ask()
        assert pid not in late.ask(), "it was gone before this client came"


def test_many(name: str, tmp_path: Path) -> None:
    """Of very many each is whole, however the kernel cuts the stream."""
    path = tmp_path / "socket"
    with served(path, "--exits.max", "5000") as exporter, reader(path) as asking:
        exporter.is_ours = False
        asking.ask()
        with Process(workers.crowd, name, 2003, SIZE) as crowd:
            assert crowd.hear() == 2003 * SIZE
            told = asking.ask()
        ours = [record.udp for record in told.values() if record.command == name]
        one = {"transmit_packets": 1.0, "transmit_bytes": float(workers.HEADERS + SIZE)}
        assert ours == [one | {"receive_packets": 0.0, "receive_bytes": 0.0}] * 2003


# Clients


def test_several(name: str, tmp_path: Path) -> None:
    """Thirteen at once, each with answers of its own."""
    path = tmp_path / "socket"
    with served(path), Process(workers.talker, name, SIZE) as talker:
        talker.hear()
        talker.tell(11)
        talker.hear()
        failures = []

        def work() -> None:
            with reader(path) as asking:
                for _ in range(5):
                    told = asking.ask()[talker.pid].udp
                    if told != workers.traffic(11, SIZE):
                        failures.append(told)

        threads = [threading.Thread(target=work) for _ in range(13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_bad_clients(tmp_path: Path) -> None:
    """One that stalls, sends rubbish, half a request or nothing, or leaves, harms only itself."""
    path = tmp_path / "socket"
    request = random.Random(4099).randbytes(NETPERTASK.size)
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(served(path))
        silent, half, deaf, good = (stack.enter_context(reader(path)) for _ in range(4))
        with reader(path) as leaving:
            leaving.socket.sendall(request)
        half.socket.sendall(request[:47])
        deaf.socket.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:  # it asks and asks and reads nothing, until nothing more can be sent
                deaf.socket.sendall(request * 101)
        began = time.monotonic()
        for _ in range(7):
            assert good.ask(request)
        assert time.monotonic() - began < netatop_bpf.STALL_SECONDS
        wait_until(half.is_hung_up, "who sends half a request is hung up on")
        wait_until(lambda: _is_dead(deaf), "who does not read is hung up on")
        assert good.ask()
        assert not silent.is_hung_up(), "atop may ask every ten minutes"
        assert silent.ask()
        assert exporter.ask("/healthz").status == 200


def _is_dead(reader: Reader) -> bool:
    """Tell whether the other side is gone, without reading."""
    poll = select.poll()
    poll.register(reader.socket, 0)
    return bool(poll.poll(0))


def _crowd(talk: Connection, path: str, user: int, count: int) -> None:
    """Become a user, connect so often, and say how many of these connections are answered."""
    os.setgroups([])
    os.setresuid(user, user, user)
    with contextlib.ExitStack() as stack:
        answered = 0
        for _ in range(count):
            asking = stack.enter_context(reader(path))  # type: ignore[arg-type]
            with contextlib.suppress(EOFError, ConnectionError):
                answered += bool(asking.ask())
        talk.send(answered)
        talk.recv()


def test_too_many(tmp_path: Path) -> None:
    """A user has so many connections and no more; others, and root, are answered all the same."""
    path = tmp_path / "socket"
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o711)
    most = netatop_bpf.MOST_OF_USER
    with served(path), contextlib.ExitStack() as stack:
        full = range(netatop_bpf.MOST_CLIENTS // most)
        users = [
            stack.enter_context(Process(_crowd, str(path), NOBODY - number, most + 3))
            for number in full
        ]
        assert [user.hear() for user in users] == [most] * len(full)
        with Process(_crowd, str(path), NOBODY - 9, 1) as late:
            assert late.hear() == 0
        with reader(path) as asking:
            assert asking.ask()
        users[0].tell()
        users[0].wait()
        with Process(_crowd, str(path), NOBODY - 9, 1) as next_one:
            assert next_one.hear() == 1, "who leaves makes room"


# The file


def test_file(tmp_path: Path) -> None:
    """Everybody may ask, as with netatop-bpf; it goes with us; what is left over is replaced."""
    path = tmp_path / "socket"
    with served(path) as exporter:
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o666
        done = program.run(
            *("serve", f"--compat.netatop-bpf={path}"), "--web.listen-address", "127.0.0.1:0"
        )
        message = program.refusal(done, 1)
        assert f"{path}: another program answers there; accepted is one" in message
        with reader(path) as asking:
            assert asking.ask()
        exporter.scrape()
    assert not path.exists()
    with program.start(f"--compat.netatop-bpf={path}") as killed:
        wait_until(killed.is_ready, "it is ready")
        killed.end(signal.SIGKILL)
    assert path.exists()
    with served(path), reader(path) as asking:
        assert asking.ask()
    path.write_text("not a socket")
    done = program.run("serve", f"--compat.netatop-bpf={path}", "--web.listen-address", ":0")
    assert "found a file that is no socket" in program.refusal(done, 1)
    assert path.read_text() == "not a socket"


@pytest.mark.parametrize("path", ["", "run/socket", "/" + "a" * 107])
def test_path_that_cannot_be(path: str) -> None:
    """It is refused before anything is loaded."""
    message = program.refusal(program.run("serve", f"--compat.netatop-bpf={path}"), 2)
    assert "accepted is an absolute path of up to 107 bytes" in message


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    """The message names the path and the flag."""
    path = tmp_path / "none" / "socket"
    done = program.run("serve", f"--compat.netatop-bpf={path}", "--web.listen-address", ":0")
    message = program.refusal(done, 1)
    assert f"cannot listen on {path}: No such file or directory; " in message


def test_default_path() -> None:
    """Without a path it is where atop looks; without the flag there is none."""
    path = "/run/netatop-bpf-socket"
    assert not os.path.lexists(path), "somebody else's; does netatop-bpf run here?"
    with program.serve():
        assert not os.path.lexists(path)
    with program.serve("--compat.netatop-bpf"), reader(path) as asking:  # type: ignore[arg-type]
        assert asking.ask()
    assert not os.path.lexists(path)


def test_by_configuration(tmp_path: Path) -> None:
    """The path may stand in the file, and is not changed by reading that again."""
    path, file = tmp_path / "socket", tmp_path / "netatop-exporter.yml"
    text = "compat: {{netatop_bpf: {}}}\n"
    file.write_text(text.format(path), encoding="utf-8")
    flags = ("--config.file", str(file), "--web.enable-lifecycle")
    with program.serve(*flags) as exporter, reader(path) as asking:
        assert asking.ask()
        file.write_text(text.format(tmp_path / "other"), encoding="utf-8")
        answer = exporter.ask("/-/reload", "POST")
        assert answer.status == 500
        assert b"another compat than at the start" in answer.body
        assert asking.ask()
