# SPDX-License-Identifier: Apache-2.0
"""Threads and sockets: shown when asked for, with exact values; names of any kind."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.e2e import program, workers
from tests.e2e.prometheus import lint
from tests.workload import Process

if TYPE_CHECKING:
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SIZE = 29
HOSTILE = {
    "quotes": (b'"a"="b",{}', '"a"="b",{}'),
    "backslash": (b"\\n\\\\\\", "\\n\\\\\\"),
    "newline": (b"a\nb\n# EOF\n", "a\ufffdb\ufffd# EOF\ufffd"),
    "return": (b"a\r\nb\tc", "a\ufffd\ufffdb\ufffdc"),
    "not UTF-8": (b"\xff\xfe\x80abc", "\ufffd\ufffd\ufffdabc"),
    "cut character": (b"a" * 14 + "é".encode(), "a" * 14 + "\ufffd"),
    "line separator": ("a\u2028b\u0085c".encode(), "a\ufffdb\ufffdc"),
    "right to left": ("a\u202eb".encode(), "a\ufffdb"),
    "label": (b'x",pid="1', 'x",pid="1'),
    "control": (b"\x01\x1b[31m\x7f", "\ufffd\ufffd[31m\ufffd"),
    "spaces": (b"  ", "  "),
    "empty": (b"", ""),
    "rest": (b"other", "other"),
    "rest of the rest": (b"other_", "other_"),
}
"""What a process calls itself, and what is shown."""
GROUPS = {"  ": "unnamed", "": "unnamed", "other": "other_", "other_": "other__"}
"""Where that is no name for a group."""


def test_off_by_default(exporter: Program, name: str) -> None:
    """Series of threads and sockets are many; nobody gets them unasked."""
    with Process(workers.team, name, {"one": 3}, SIZE) as team:
        team.hear()
        found = exporter.scrape()
    assert found.traffic("group_", group=name, protocol="udp") == workers.traffic(3, SIZE)
    assert not any("_thread_" in key or "_socket_" in key for key, _ in found.samples)


def test_threads(name: str) -> None:
    """Each thread has what it used, the process has all, before and after they end."""
    shares = {f"{name}-{n}": datagrams for n, datagrams in enumerate((2, 11, 101, 211))}
    whole = workers.traffic(sum(shares.values()), SIZE)
    with (
        program.serve("--collector.threads") as exporter,
        Process(workers.team, name, shares, SIZE) as team,
    ):
        tids = team.hear()
        for over in (False, True):
            if over:
                team.tell()
                assert team.hear() == "over"
            found = exporter.scrape()
            for thread, datagrams in shares.items():
                labels = {"pid": str(team.pid), "tid": str(tids[thread]), "thread": thread}
                expected = workers.traffic(datagrams, SIZE)
                assert found.traffic("thread_", **labels, protocol="udp") == expected
            assert found.traffic("thread_", pid=str(team.pid)) == whole
            assert found.traffic("process_", pid=str(team.pid), process=name) == whole
            assert found.traffic("group_", group=name) == whole
            # The process lives on.
            assert not found.series("netatop_exited_processes_total", group=name)
        found.check_law()
        assert found.sum("netatop_tasks", kind="thread") >= len(shares)
        assert lint(found.text) == ""
        series = found.series("netatop_thread_receive_bytes_total", pid=str(team.pid))
        names = {name for each in series for name, _ in each}
        assert names == {"pid", "tid", "thread", "protocol"}


def test_sockets(name: str) -> None:
    """A socket is shown with its user and its two ends, as long as it is open."""
    with (
        program.serve("--collector.sockets") as exporter,
        Process(workers.talker, name, SIZE) as talker,
    ):
        port = talker.hear()
        talker.tell(71)
        talker.hear()
        found = exporter.scrape()
        labels = {
            "pid": str(talker.pid),
            "process": name,
            "protocol": "udp",
            "local_address": workers.LOCAL,
            "local_port": str(port),
        }
        rest = {"remote_address": "0.0.0.0", "remote_port": "0"}
        expected = workers.traffic(71, SIZE)
        assert found.traffic("socket_", **labels, **rest) == expected
        assert found.traffic("socket_", pid=str(talker.pid)) == expected
        series = found.series("netatop_socket_receive_packets_total", pid=str(talker.pid))
        assert list(series) == [frozenset({**labels, **rest}.items())]
        assert lint(found.text) == ""
        talker.tell(0)
        talker.wait()
        found = exporter.scrape()
        assert not found.series("netatop_socket_receive_packets_total", pid=str(talker.pid))
        assert found.traffic("group_", group=name) == expected


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_sockets_of_a_connection(family: socket.AddressFamily) -> None:
    """Both ends of a TCP connection are shown; what one has sent, the other has received."""
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with (
        program.serve("--collector.sockets") as exporter,
        socket.create_server((address, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
        contextlib.closing(listener.accept()[0]) as server,
    ):
        client.sendall(bytes(4099))
        assert len(server.recv(4099, socket.MSG_WAITALL)) == 4099
        ports = [str(end.getsockname()[1]) for end in (client, server)]
        found = exporter.scrape()
        ends = {
            "protocol": "tcp",
            "local_address": address,
            "local_port": ports[0],
            "remote_address": address,
            "remote_port": ports[1],
        }
        sent = found.traffic("socket_", **ends)
        assert sent["transmit_bytes"] > 4099
        back = ends | {"local_port": ports[1], "remote_port": ports[0]}
        assert found.sum("netatop_socket_receive_bytes_total", **back) > 4099
        # The handshake is the listening socket's: it has the server's port as well.
        received = found.traffic("socket_", protocol="tcp", local_port=ports[1])
        assert sent == {
            f"{direction}_{unit}": received[f"{other}_{unit}"]
            for direction, other in (("receive", "transmit"), ("transmit", "receive"))
            for unit in ("packets", "bytes")
        }


def test_both(name: str) -> None:
    """With threads counted, a socket is still its process's."""
    with (
        program.serve("--collector.sockets", "--collector.threads") as exporter,
        Process(workers.team, name, {f"{name}-x": 73}, SIZE) as team,
    ):
        team.hear()
        found = exporter.scrape()
        expected = workers.traffic(73, SIZE)
        for subject in ("socket_", "thread_", "process_"):
            assert found.traffic(subject, pid=str(team.pid), protocol="udp") == expected


@pytest.mark.parametrize(("raw", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_names(exporter: Program, raw: bytes, shown: str) -> None:
    """Whatever a process calls itself, the exposition is read by all parsers and stays true."""
    with Process(workers.talker, raw, SIZE) as talker:
        talker.hear()
        pid = str(talker.pid)
        for total, openmetrics in ((79, False), (79 + 83, True)):
            talker.tell(79 if total == 79 else 83)
            talker.hear()
            found = exporter.scrape(openmetrics=openmetrics)
            expected = workers.traffic(total, SIZE)
            assert found.traffic("process_", pid=pid, protocol="udp") == expected
            names = found.label_values("netatop_process_receive_packets_total", "process", pid=pid)
            assert names == {shown}
            group = found.traffic("group_", group=GROUPS.get(shown, shown), protocol="udp")
            assert all(group[what] >= amount for what, amount in expected.items())
        assert lint(exporter.scrape().text) == ""
        done = program.run("status", "--web.listen-address", exporter.address)
        assert (done.returncode, done.stderr) == (0, "")


def test_new_name(exporter: Program, name: str) -> None:
    """A process that changes its name keeps what it had used in its former group."""
    renamed = f"{name}n"
    with Process(workers.changer, name, renamed, 97, SIZE) as changer:
        changer.hear()
        before = exporter.scrape()
        changer.tell()
        changer.hear()
        after = exporter.scrape()
        expected = workers.traffic(97, SIZE)
        assert before.traffic("group_", group=name) == expected
        assert after.traffic("group_", group=name) == expected
        assert after.traffic("group_", group=renamed) == expected
        found = after.traffic("process_", pid=str(changer.pid), process=renamed)
        assert found == workers.traffic(2 * 97, SIZE)
