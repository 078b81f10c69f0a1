# SPDX-License-Identifier: Apache-2.0
"""`top` on a real pseudo-terminal and in a pipe, with a real exporter and known traffic."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter import client
from exporter.api import ANSWERS
from exporter.config.flags import RESERVED
from exporter.model import PROTOCOLS
from exporter.top import text
from tests.e2e import program, terminal, workers
from tests.e2e.test_hosts import SOURCES, scatter, udp_traffic
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

QUICK = ("--interval", "0.2")
DATAGRAMS, SIZE = 23, 4099
TOTALS = ("BYTESRCV", "BYTESSND", "PACKRCV", "PACKSND")


@pytest.fixture(scope="module")
def full() -> Iterator[Program]:
    """Return an exporter that counts threads and sockets too."""
    with program.serve("--collector.threads", "--collector.sockets") as shared:
        shared.is_ours = False
        yield shared


@pytest.fixture
def known(full: Program, name: str) -> Iterator[tuple[Program, Process]]:
    """Return the exporter, and a process that has sent and received a known amount."""
    with Process(workers.talker, name, SIZE) as talker:
        talker.hear()
        talker.tell(DATAGRAMS)
        talker.hear()
        yield full, talker


def totals(datagrams: int = DATAGRAMS) -> list[str]:
    """Return what so many datagrams, to itself, amount to, in the order of TOTALS."""
    size = str(datagrams * (workers.HEADERS + SIZE))
    return [size, size, str(datagrams), str(datagrams)]


def batch(exporter: Program, view: str, *words: str) -> list[dict[str, str]]:
    """Return the rows of a table that `top --batch` prints, by title."""
    where = ("--web.listen-address", exporter.address)
    done = program.run(*("top", "--batch", "--count", "1", *QUICK, "--view", view, *where, *words))
    assert (done.returncode, done.stderr) == (0, "")
    first, header, *rows = done.stdout.splitlines()
    assert first.endswith(view)
    return [dict(zip(header.split(), row.split(), strict=True)) for row in rows]


def entries(exporter: Program, noun: str, **fields: Any) -> list[dict[str, Any]]:
    """Return what the API tells of those that have these fields."""
    answer = exporter.ask(f"/api/v1/{noun}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    found = json.loads(answer.body)
    assert found["counted"] is True
    return [entry for entry in found[noun] if fields.items() <= entry.items()]


# API


@pytest.mark.parametrize(
    ("noun", "field"),
    [("processes", "process"), ("threads", "thread"), ("sockets", "process"), ("groups", "group")],
)
def test_api(known: tuple[Program, Process], name: str, noun: str, field: str) -> None:
    """Each tells of the same packets, and the metrics too."""
    exporter, talker = known
    (entry,) = entries(exporter, noun, **{field: name})
    sent = workers.traffic(DATAGRAMS, SIZE)
    assert entry["udp"] == sent == exporter.scrape().traffic("group_", group=name, protocol="udp")
    assert not any(sum(entry[p].values()) for p in PROTOCOLS if p != "udp")
    if noun == "groups":
        assert entry["processes"] == 1
        return
    start = Path(f"/proc/{talker.pid}/stat").read_text().rpartition(")")[2].split()[19]
    booted = json.loads(exporter.ask(f"/api/v1/{noun}").body)["boot_time_seconds"]
    assert entry["pid"] == talker.pid
    assert abs(entry["start_time_seconds"] - booted - int(start) / 100) < 0.02
    assert (entry["user"], entry["group"]) == ("root", name)
    if noun == "threads":
        assert entry["tid"] == talker.pid
    if noun == "sockets":
        found = exporter.scrape().series(
            "netatop_socket_receive_bytes_total",
            pid=str(talker.pid),
            local_port=str(entry["local_port"]),
        )
        assert list(found.values()) == [sent["receive_bytes"]]


@pytest.mark.parametrize("path", ANSWERS)
def test_api_refuses(exporter: Program, path: str) -> None:
    """What it does not know, with a sentence; and the metrics can't be put there."""
    answer = exporter.ask(f"{path}?form=1")
    assert answer.status == 400
    assert answer.body.decode().startswith(f"{path}: found parameter 'form'; accepted ")
    assert path in RESERVED


@pytest.mark.parametrize("noun", ["threads", "sockets", "hosts"])
def test_not_counted(exporter: Program, noun: str) -> None:
    """The answer says so, and `top` how to have it counted."""
    found = json.loads(exporter.ask(f"/api/v1/{noun}").body)
    assert (found["counted"], found[noun]) == (False, [])
    where = ("--web.listen-address", exporter.address)
    message = program.refusal(program.run("top", "--batch", "--view", noun, *where), 1)
    assert f"{noun} are not counted; start the exporter with --collector.{noun}" in message
    with terminal.top(exporter.address, "--view", noun) as screen:
        screen.expect(f"{noun} are not counted; start the exporter with --collector.{noun}")
        assert screen.end() == 0


# Batch


@pytest.mark.parametrize("view", ["processes", "threads", "sockets", "groups"])
def test_batch(known: tuple[Program, Process], name: str, view: str) -> None:
    """Exactly what /metrics says."""
    exporter, _ = known
    (row,) = batch(exporter, view, "--filter", name)
    assert [row[title] for title in TOTALS] == totals()
    found = exporter.scrape().traffic("group_", group=name)
    names = ("receive_bytes", "transmit_bytes", "receive_packets", "transmit_packets")
    assert [row[title] for title in TOTALS] == [f"{found[what]:.0f}" for what in names]
    assert {row[title] for title in ("BANDWI", "BANDWO", "PCKI", "PCKO")} == {"0.00"}


def test_batch_agrees_with_metrics(known: tuple[Program, Process], name: str) -> None:
    """All groups but those that the question itself uses are as in a scrape before and after.

    And but `other`: on a host with many, whoever has no series of its own is in that of a scrape.
    """
    exporter, _ = known
    before = exporter.scrape()
    rows = {row["GROUP"]: row for row in batch(exporter, "groups")}
    after = exporter.scrape()
    same = set()
    for group in after.label_values("netatop_group_receive_bytes_total", "group"):
        then, now = (x.traffic("group_", group=group) for x in (before, after))
        if then == now and group != "other":
            same.add(group)
            row = rows[group.replace(" ", "_")]
            assert row["BYTESRCV"] == f"{now['receive_bytes']:.0f}"
            assert row["PACKSND"] == f"{now['transmit_packets']:.0f}"
    assert name in same


def test_batch_of_exits(full: Program, name: str) -> None:
    """Who has ended, how, and what it had used."""
    with Process(workers.leave, name, -signal.SIGKILL) as process:
        process.wait()
    (row,) = batch(full, "exits", "--filter", name)
    assert row["PID"] == str(process.pid)
    size = str(workers.HEADERS)
    assert (row["BYTESRCV"], row["PACKSND"], row["UDPSND"]) == (size, "1", "1")
    assert row["OUTCOME"] == "SIGKILL"


def test_batch_orders(known: tuple[Program, Process], name: str) -> None:
    """By the column that is wanted, in the direction that is wanted."""
    exporter, _ = known
    with Process(workers.talker, f"{name}-b", 1) as other:
        other.hear()
        other.tell(7)
        other.hear()
        for words, names in (
            (("--sort", "bytesrcv"), [name, f"{name}-b"]),
            (("--sort", "BYTESRCV", "--reverse"), [f"{name}-b", name]),
        ):
            rows = batch(exporter, "groups", "--filter", name, *words)
            assert [row["GROUP"] for row in rows] == names


def test_batch_to_a_reader_that_leaves(full: Program) -> None:
    """`top --batch | head -1` shows a line and no stack trace."""
    words = ("top", "--batch", *QUICK, "--web.listen-address", full.address)
    done = program.first_line(*words)
    assert done.stdout.endswith(" processes\n")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_batch_is_interrupted(full: Program) -> None:
    """Ctrl-C ends it quietly."""
    process = subprocess.Popen(
        (*program.COMMAND, "top", "--batch", *QUICK, "--web.listen-address", full.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=program.environment(),
    )
    assert process.stdout
    assert process.stdout.readline().endswith("processes\n")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "")


# Terminal


def test_views(known: tuple[Program, Process], name: str) -> None:
    """The process is in each view with exactly its totals, and more as it sends more."""
    exporter, talker = known
    columns = 230
    with terminal.top(exporter.address, *QUICK, "--filter", name, columns=columns) as screen:
        for key, noun in (("t", "threads"), ("s", "sockets"), ("g", "groups"), ("p", "processes")):
            screen.press(key)
            screen.expect(f"{noun}  ", "1 of ")
            screen.expect_row(name, *totals())
        talker.tell(97)
        talker.hear()
        more = totals(DATAGRAMS + 97)
        screen.expect(*more)
        talker.tell(0)
        talker.wait()
        screen.expect(f"<{name}>")
        screen.press("e")
        screen.expect("exits  ", "exit 0")
        words = screen.row(name)
        assert words[:2] == [str(talker.pid), name]
        assert [w for w in words if w in more][:4] == more
        assert screen.end() == 0
        screen.expect_as_before()


def test_keys(known: tuple[Program, Process], name: str) -> None:
    """Order, filter and pause, as they are pressed; what is pressed fast counts too."""
    exporter, talker = known
    with (
        Process(workers.talker, f"{name}-b", 1) as other,
        terminal.top(exporter.address, *QUICK, "--sort", "PID") as screen,
    ):
        other.hear()
        other.tell(7)
        other.hear()

        def order() -> list[str]:
            rows = (line.split() for line in screen.lines[2:-1])
            return [words[0] for words in rows if words]

        screen.press(f"/{name}\r")
        wait_until(lambda: order() == sorted(map(str, (talker.pid, other.pid)), key=int), "by pid")
        screen.press("r")
        wait_until(lambda: order()[:1] == [str(max(talker.pid, other.pid))], "the other way")
        screen.press("/-b\r")
        wait_until(lambda: order() == [str(other.pid)], "only one")
        screen.press("\x1b")
        wait_until(lambda: len(order()) > 2, "all")
        screen.press(" ")
        screen.expect("PAUSED")
        screen.press("?")
        screen.expect("reverse the order")
        screen.press("?q")
        assert screen.process.wait(PATIENCE) == 0
        screen.expect_as_before()


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (300, 80)])
def test_sizes(known: tuple[Program, Process], name: str, size: tuple[int, int]) -> None:
    """It is of use on a small terminal, and follows when that is made larger or smaller."""
    exporter, _ = known
    words = (*QUICK, "--filter", name, "--sort", "BYTESRCV")
    with terminal.top(exporter.address, *words, columns=size[0], rows=size[1]) as screen:
        screen.expect(name, totals()[0], "BYTESRCV")
        screen.resize(60, 20)
        screen.expect(name, totals()[0], "BYTESRCV")
        screen.resize(*size)
        screen.expect(name, totals()[0], "BYTESRCV")
        assert screen.end() == 0


HOSTILE = (
    b"\x1b[2J\x1b[31m",
    b"[red]x[/red]",
    "\u202eevil".encode(),
    "\u65e5\u672c\u8a9e\u65e5\u672c".encode(),
    b"\xff\xfe\x9b2J",
    b"%s{}'\"\\",
)


def test_hostile_names(full: Program) -> None:
    """Real processes with such names: the table stands as before, and no name is obeyed."""
    with contextlib.ExitStack() as stack:
        pids = []
        for name in HOSTILE:
            talker = stack.enter_context(Process(workers.talker, name, 1))
            talker.hear()
            talker.tell(7)
            talker.hear()
            pids.append(talker.pid)
        words = (*QUICK, "--sort", "PID", "--reverse")
        screen = stack.enter_context(terminal.top(full.address, *words, rows=60))
        screen.expect(*map(str, pids))
        (end,) = {
            text.width(line.rstrip().rpartition(" ")[0])
            for line in screen.lines
            if line.split() and line.split()[0] in {*map(str, pids)}
        }
        assert end > 0, "all columns are where they belong"
        assert "[red]x[/red]" in screen.text
        for forbidden in (b"\x1b[2J\x1b[31m", "\u202e".encode(), b"\x1b[31m"):
            assert forbidden not in screen.written
        assert screen.end() == 0
        screen.expect_as_before()


def test_no_colour(known: tuple[Program, Process], name: str) -> None:
    """Only the terminal's own colours are used, whether asked for or not."""
    exporter, _ = known
    for more in ({}, {"NO_COLOR": "1"}):
        with terminal.top(exporter.address, *QUICK, "--filter", name, **more) as screen:
            screen.expect(f" {name} ")
            assert screen.end() == 0
            for sequence in screen.written.split(b"\x1b[")[1:]:
                if sequence.partition(b"m")[0].replace(b";", b"").isdigit():
                    numbers = sequence.partition(b"m")[0].split(b";")
                    assert {*numbers} <= {b"0", b"1", b"2", b"7", b"39", b"49"}, sequence


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals(full: Program, number: int, status: int) -> None:
    """The terminal is as it was, and nothing is said."""
    with terminal.top(full.address, *QUICK) as screen:
        screen.expect("python")
        screen.process.send_signal(number)
        assert screen.process.wait(PATIENCE) == status
        screen.expect_as_before()
        assert b"Traceback" not in screen.written


def test_ctrl_c(full: Program) -> None:
    """As a key, which is what a terminal makes of it now."""
    with terminal.top(full.address) as screen:
        screen.expect("python")
        assert screen.end("\x03") == 0
        screen.expect_as_before()


def test_an_error(full: Program, tmp_path: Path) -> None:
    """Whatever goes wrong, the terminal is given back before it is told."""
    Path(tmp_path, "sitecustomize.py").write_text(
        "import exporter.top.plain as plain\n"
        "def cell(*_, **__): raise ZeroDivisionError('on purpose')\n"
        "plain.cell = cell\n"
    )
    with terminal.top(full.address, *QUICK, PYTHONPATH=str(tmp_path)) as screen:
        assert screen.process.wait(PATIENCE) == 1
        wait_until(lambda: b"on purpose" in screen.written, "it is told")
        screen.expect_as_before()
        assert screen.written.rfind(b"on purpose") > screen.written.rfind(terminal.ALTERNATE[1])


def test_exporter_that_goes_and_comes(name: str) -> None:
    """The screen says so, keeps what it had, goes on, and shows nothing negative."""
    with Process(workers.talker, name, SIZE) as talker:
        talker.hear()
        with program.serve() as first:
            address = first.address
            talker.tell(DATAGRAMS)
            talker.hear()
            screens = terminal.top(address, *QUICK, "--filter", name, columns=200)
            screen = screens.__enter__()
            screen.expect(name, totals()[0])
        with contextlib.ExitStack() as stack:
            stack.push(screens)
            screen.expect("no exporter answers at", "Connection refused", totals()[0])
            again = stack.enter_context(program.start("--web.listen-address", address))
            wait_until(lambda: "no exporter answers" not in screen.text, "it is back")
            talker.tell(7)
            talker.hear()
            screen.expect(totals(7)[0])
            assert "-" not in screen.row(name)[2:6]
            assert not any(word.startswith("-") and len(word) > 1 for word in screen.row(name))
            assert screen.end() == 0
            screen.expect_as_before()
            assert again.end() == 0


def test_no_exporter_at_all() -> None:
    """It waits for one on the screen; in a pipe it fails with a sentence."""
    nobody = f"{program.LOCAL}:{program.free_port()}"
    with terminal.top(nobody, columns=60, rows=10) as screen:
        screen.expect("no exporter answers at")
        assert screen.end() == 0
    message = program.refusal(program.run("top", "--batch", "--web.listen-address", nobody), 1)
    assert "no exporter answers at http://" in message


def test_an_exporter_that_stalls() -> None:
    """It delays no key, nor the end."""
    with socket.create_server((program.LOCAL, 0)) as silent:
        address = f"{program.LOCAL}:{silent.getsockname()[1]}"
        with terminal.top(address, *QUICK) as screen:
            screen.expect("waiting for the exporter")
            screen.press("g")
            screen.expect("groups  ")
            begin = time.monotonic()
            assert screen.end() == 0
            assert time.monotonic() - begin < client.TIMEOUT_SECONDS / 2
            screen.expect_as_before()


def test_a_terminal_that_is_closed(full: Program) -> None:
    """The program ends with it."""
    with terminal.top(full.address, *QUICK) as screen:
        screen.expect("python")
        screen.hang_up()
        assert screen.process.wait(PATIENCE) != 0


def test_suspended(known: tuple[Program, Process], name: str) -> None:
    """Ctrl-Z gives the terminal back, and the shell's `fg` takes it again."""
    exporter, _ = known
    with terminal.top(exporter.address, *QUICK, "--filter", name) as screen:
        screen.expect(f" {name} ")
        screen.press("\x1a")
        wait_until(lambda: screen.is_stopped, "it is stopped")
        screen.expect_as_before()
        screen.process.send_signal(signal.SIGCONT)
        wait_until(lambda: not screen.is_as_before, "it has the terminal")
        screen.expect(f" {name} ")
        assert screen.end() == 0
        screen.expect_as_before()


class Older(BaseHTTPRequestHandler):
    """An exporter that knows nothing but processes, and has none."""

    def do_GET(self) -> None:
        found = self.path == "/api/v1/processes"
        body = b'{"processes": []}' if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_an_older_exporter() -> None:
    """What it does not know is said, and the other views work."""
    with HTTPServer((program.LOCAL, 0), Older) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with terminal.top(f"{program.LOCAL}:{server.server_port}", *QUICK) as screen:
                screen.expect("processes  ", "every 0.2 s")
                screen.press("h")
                screen.expect("this exporter does not know hosts")
                screen.press("p")
                wait_until(lambda: "does not know" not in screen.text, "it is no trouble")
                assert screen.end() == 0
        finally:
            server.shutdown()
            thread.join()


def test_hosts() -> None:
    """Addresses with exactly their totals, on the screen and in a pipe."""
    shares = (7, 11)
    with (
        program.serve("--collector.hosts") as exporter,
        Process(scatter, *shares) as process,
        terminal.top(exporter.address, *QUICK, "--view", "hosts", columns=180) as screen,
    ):
        process.hear()
        process.tell("go")
        process.hear()
        screen.press("/127.9.\r")
        for source, share in zip(SOURCES, shares, strict=False):
            size = f"{udp_traffic(0, share)['transmit_bytes']}"
            wait_until(lambda size=size, source=source: size in screen.row(source), "it is exact")
            (row,) = batch(exporter, "hosts", "--filter", source)
            assert (row["ADDRESS"], row["BYTESSND"], row["PACKSND"]) == (source, size, str(share))
        assert screen.end() == 0


# No terminal


def test_no_terminal(full: Program) -> None:
    """The message says what to do."""
    where = ("--web.listen-address", full.address)
    message = program.refusal(program.run("top", *where, more={"TERM": "xterm"}), 2)
    assert "is no terminal; accepted is a terminal, or --batch" in message
    for name in ("dumb", ""):
        message = program.refusal(program.run("top", *where, more={"TERM": name}), 2)
        assert (
            f"found TERM='{name}'; accepted is a terminal that has a cursor, or --batch" in message
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--interval", "0"), "--interval: found '0'; accepted are seconds from 0.1 to 3600"),
        (("--interval", "nan"), "--interval: found 'nan'; accepted are seconds"),
        (("--batch", "--count", "0"), "--count: found '0'; accepted is a whole number from 1"),
        (("--count", "1"), "--count: found 1 without --batch; accepted is both or none"),
        (("--sort", "RX"), "--sort: found 'RX'; accepted for processes are PID, PROCESS, BANDWI"),
    ],
)
def test_bad_flags(words: tuple[str, ...], said: str) -> None:
    """The message names the flag, what was found, and what is accepted."""
    assert said in program.refusal(program.run("top", *words), 2)


def test_without_the_library(tmp_path: Path) -> None:
    """The message says how it is installed; --batch works without it."""
    Path(tmp_path, "textual.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'textual'\", name='textual')\n"
    )
    nobody = f"{program.LOCAL}:{program.free_port()}"
    with terminal.top(nobody, columns=200, PYTHONPATH=str(tmp_path)) as screen:
        assert screen.process.wait(PATIENCE) == 2
        screen.expect("found no Python package textual", "netatop-exporter[top]", "--batch")


TELL_MODULES = """\
import atexit, os, sys

@atexit.register
def tell():
    with open(os.environ["TELL_MODULES"], "w") as file:
        print(*sys.modules, file=file)
"""


def test_serve_does_not_load_it(tmp_path: Path) -> None:
    """The library is no part of a process that has no screen."""
    Path(tmp_path, "sitecustomize.py").write_text(TELL_MODULES)
    told = tmp_path / "modules"
    with program.serve(more={"PYTHONPATH": str(tmp_path), "TELL_MODULES": str(told)}) as exporter:
        exporter.scrape()
        assert exporter.ask("/api/v1/processes").status == 200
    loaded = {name.partition(".")[0] for name in told.read_text().split()}
    assert "exporter" in loaded
    assert not loaded & {"textual", "rich", "markdown_it", "pygments"}
