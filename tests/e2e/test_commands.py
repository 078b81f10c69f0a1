# SPDX-License-Identifier: Apache-2.0
"""The commands that end by themselves: once, status, doctor, --version, --help."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from exporter.model import DIRECTIONS, PROTOCOLS
from tests.e2e import program, workers
from tests.e2e.exposition import Exposition
from tests.workload import CLOSED_PORT, PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

NOT_OURS = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "no counters of ours": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nup 1\n",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "less than promised": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nup 1\n",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "half a sample": b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nup{a="b" 1',
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "another place": b"HTTP/1.1 302 Found\r\nLocation: file:///\r\nContent-Length: 0\r\n\r\n",
    "bytes": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\n",
}


@contextlib.contextmanager
def _server(answer: bytes) -> Iterator[str]:
    """Answer one request with these bytes."""
    with socket.create_server((program.LOCAL, 0)) as listener:

        def work() -> None:
            listener.settimeout(PATIENCE)
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=work)
        thread.start()
        yield f"{program.LOCAL}:{listener.getsockname()[1]}"
        thread.join()


def _numbers(line: str) -> list[int]:
    return [int(word) for word in line.split() if word.isdecimal()]


# once


@pytest.mark.usefixtures("nothing_left")
def test_once_is_clean() -> None:
    """Standard output is an exposition and nothing else; the law holds in it."""
    done = program.run("once", "--seconds", "0")
    assert (done.returncode, done.stderr) == (0, "")
    found = Exposition(done.stdout)
    found.check_law()
    assert found.sum("netatop_build_info", version=__version__) == 1
    assert found.sum("netatop_loader_info", loader="core", kernel=os.uname().release) == 1
    assert set(found.series("netatop_scrape_stage_success").values()) == {1.0}


def test_once_counts(name: str, tmp_path: Path) -> None:
    """What was there before it started is found, and counted from then on."""
    output = tmp_path / "output"
    with Process(workers.talker, name, 31) as talker, output.open("wb") as stdout:
        talker.hear()
        command = (*program.COMMAND, "once", "--seconds", "2")
        with subprocess.Popen(command, stdout=stdout, cwd="/") as once:
            sent = 0
            try:
                while once.poll() is None:
                    talker.tell(1)
                    talker.hear()
                    sent += 1
            finally:
                once.kill()
        assert once.returncode == 0
    found = Exposition(output.read_text())
    counted = found.traffic("group_", group=name, protocol="udp")
    # Some were sent before it counted and after it had read; it begins and ends to count in one
    # direction a little before the other.
    for direction in ("receive", "transmit"):
        count = int(counted[f"{direction}_packets"])
        assert 0 < count < sent
        assert counted[f"{direction}_bytes"] == workers.traffic(count, 31)[f"{direction}_bytes"]


def test_once_to_a_reader_that_leaves() -> None:
    """`once | head -1` shows a line and no stack trace."""
    done = program.first_line("once", "--seconds", "0")
    assert done.stdout.startswith("# HELP netatop_")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words", [("once", "--seconds", "0"), ("doctor",), ("--help",), ("--version",)], ids=" ".join
)
def test_output_that_nobody_reads(words: tuple[str, ...]) -> None:
    """A pipe without a reader ends a command with status 1 and without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            (*program.COMMAND, *words),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd="/",
            env=program.environment(),
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("words", [("once", "--seconds", "0"), ("doctor",)], ids=" ".join)
def test_output_to_a_full_disk(words: tuple[str, ...]) -> None:
    """Output that can't be written is an error with one clear message."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            (*program.COMMAND, *words),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd="/",
            env=program.environment(),
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("netatop-exporter: ")
    assert "No space left on device" in done.stderr


# status


def test_status_agrees_with_metrics() -> None:
    """Its totals, and what of them is unidentified, are those of /metrics."""
    with program.serve() as exporter:
        exporter.is_ours = False  # `status` scrapes too
        with contextlib.closing(workers.udp_socket()) as stray:
            for _ in range(17):
                stray.sendto(bytes(19), (program.LOCAL, CLOSED_PORT))
        before = exporter.scrape()
        done = program.run("status", "--web.listen-address", exporter.address)
        after = exporter.scrape()
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line[:16].strip(): line[16:] for line in done.stdout.splitlines()}
    strangers = 0
    for protocol in PROTOCOLS:
        for direction in DIRECTIONS:
            found = _numbers(lines[f"{protocol} {direction}"])
            names = [
                f"netatop_{subject}{direction}_{unit}_total"
                for subject in ("", "unidentified_")
                for unit in ("packets", "bytes")
            ]
            # Counters go on in between, so equality is too much to ask of each.
            for value, sample in zip(found, names, strict=True):
                low, high = (x.sum(sample, protocol=protocol) for x in (before, after))
                assert low <= value <= high, (protocol, sample)
            strangers += found[2]
    assert strangers >= 17, "the strays are there"
    assert "exit list" in done.stdout
    assert "task table" in done.stdout


def test_status_shows_what_is_lost() -> None:
    """With a table of one task, something is lost, and status says so."""
    with program.serve("--tasks.max", "1") as exporter:
        for _ in range(2):
            with contextlib.closing(workers.udp_socket()) as own:
                workers.send_to_itself(own, 1, 0)
        exporter.scrape()
        done = program.run("status", "--web.listen-address", exporter.address)
    assert done.returncode == 0
    assert "task table 1 of 1\n" in done.stdout
    assert "task full" in done.stdout.partition("\nlost")[2]


def test_status_without_exporter() -> None:
    """It says which address it asked, and what to do."""
    address = f"{program.LOCAL}:{program.free_port()}"
    message = program.refusal(program.run("status", "--web.listen-address", address), 1)
    assert address in message
    assert "Connection refused" in message
    assert "netatop-exporter serve" in message


@pytest.mark.parametrize("answer", NOT_OURS.values(), ids=NOT_OURS)
def test_status_of_something_else(answer: bytes) -> None:
    """Whatever answers there, it ends with one clear message."""
    with _server(answer) as address:
        program.refusal(program.run("status", "--web.listen-address", address), 1)


def test_status_takes_no_proxy(exporter: Program) -> None:
    """The exporter is on this host, whatever proxy the environment names."""
    more = {"http_proxy": "http://192.0.2.1:1", "all_proxy": "http://192.0.2.1:1"}
    done = program.run("status", "--web.listen-address", exporter.address, more=more)
    assert (done.returncode, done.stderr) == (0, "")


# doctor


@pytest.mark.usefixtures("nothing_left")
def test_doctor_is_content() -> None:
    """Where the tests run, all that is needed is there and `serve` would work."""
    done = program.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    needed = done.stdout.partition("needed:\n")[2].partition("\n\n")[0].splitlines()
    assert needed
    assert all(line.startswith("  yes ") for line in needed), needed
    assert "serve would work: loader core" in done.stdout
    assert "self-test: 23 datagrams over loopback were counted as ours" in done.stdout


# Help, version, log


@pytest.mark.parametrize("command", ["", "serve", "once", "status", "doctor"])
def test_help(command: str) -> None:
    """Help goes to standard output and tells the exit statuses."""
    done = program.run(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: netatop-exporter {command}".rstrip())
    assert "exit status:" in done.stdout


def test_version() -> None:
    """The version is the package's, from the module and from the console script."""
    script = Path(sys.executable).with_name("netatop-exporter")
    done = subprocess.run((script, "--version"), capture_output=True, text=True, check=True)
    assert done.stdout == program.run("--version").stdout == f"netatop-exporter {__version__}\n"


def test_log_as_json() -> None:
    """Each line is an object with time, level and msg; nothing else is on standard error."""
    with program.serve("--log.format", "json", "--log.level", "debug") as exporter:
        exporter.scrape()
        assert exporter.ask("/nothing").status == 404
        assert exporter.end() == 0
        lines = [json.loads(line) for line in exporter.log.splitlines()]
    assert all(set(line) >= {"time", "level", "msg"} for line in lines)
    assert {line["level"] for line in lines} == {"debug", "info"}
    assert any(exporter.address in line["msg"] for line in lines)
    assert any("GET /nothing: 404" in line["msg"] for line in lines)


def test_log_level() -> None:
    """With level error, an exporter that works is silent."""
    with program.serve("--log.level", "error") as exporter:
        exporter.scrape()
        assert exporter.end() == 0
        assert exporter.log == ""


def test_self_test() -> None:
    """Before it says that it is ready, it has seen that it counts; and it says how."""
    with program.serve() as exporter:
        assert "self-test: 23 datagrams over loopback were counted as ours" in exporter.log
        (labels,) = exporter.scrape().series("netatop_loader_info")
        owners = dict(labels)["owners"]
        assert owners in {"tracepoint", "fentry", "creation"}
        assert f"users of sockets by {owners}" in exporter.log
