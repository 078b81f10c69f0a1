# SPDX-License-Identifier: Apache-2.0
"""The durable log of finished processes, in both formats, read as others would."""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import json
import os
import signal
import struct
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e import program, workers
from tests.kernel.lab import cgroup
from tests.network import LIBC, checked
from tests.workload import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

KEY: Final = 1541961
SEM_UNDO: Final = 0x1000
IPC_RMID: Final = 0
SIZE: Final = 43


def settings(folder: Path, log: str) -> str:
    """Write a configuration; return its name."""
    file = folder / "netatop-exporter.yml"
    file.write_text(f"exit_log: {{{log}}}\n")
    return str(file)


def logged(exporter: Program, happened: Callable[[], object]) -> None:
    """Wait until the log has it: a scrape accounts for what has become final."""
    wait_until(lambda: exporter.scrape() and happened(), "it is written")


def lines(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the entries of processes with this name; a line is one when it has its end."""
    text = path.read_text() if path.exists() else ""
    found = map(json.loads, text[: text.rfind("\n") + 1].splitlines())
    return [entry for entry in found if entry["process"] == name]


def _lines(tmp_path: Path, name: str) -> None:
    """One object for each finished process, when it is final; a second run goes on in the file.

    What a writer that was killed has left without an end is cut off.
    """
    path = tmp_path / "log" / "exits.jsonl"
    path.parent.mkdir()
    path.write_text('{"process": "whole"}\n{"process": "to')
    configuration = settings(tmp_path, f"format: json, path: {path}")
    with program.serve("--config.file", configuration) as exporter:
        pid = workers.live(name, 23, SIZE)
        logged(exporter, lambda: lines(path, name))
        (entry,) = lines(path, name)
        assert (entry["pid"], entry["final"], entry["outcome"]) == (pid, True, "exit")
        assert entry["udp"] == workers.traffic(23, SIZE)
        found = exporter.scrape()
        assert found.sum("netatop_exit_log_records_total") >= 1
        assert found.sum("netatop_exit_log_lost_total") == 0
    with program.serve("--config.file", configuration):
        assert json.loads(path.read_text().splitlines()[0]) == {"process": "whole"}
        assert len(lines(path, name)) == 1


def test_second_writer(tmp_path: Path) -> None:
    """It is refused; the first one goes on."""
    configuration = settings(tmp_path, f"path: {tmp_path}/exits.jsonl")
    with program.serve("--config.file", configuration):
        port = program.free_port()
        done = program.run(
            "serve", "--config.file", configuration, "--web.listen-address", f":{port}"
        )
        assert "another exporter writes it; accepted is one" in program.refusal(done, 1)


def _rotation(tmp_path: Path, name: str) -> None:
    """By size: old files are compressed, as many as are kept; no line is lost or torn."""
    path = tmp_path / "exits.jsonl"
    configuration = settings(tmp_path, f"path: {path}, max_bytes: 2500, keep: 2")
    with program.serve("--config.file", configuration) as exporter:
        for _ in range(11):
            workers.live(name, 2, SIZE)
        logged(exporter, (tmp_path / "exits.jsonl.2.gz").exists)
    kept = sorted(file.name for file in tmp_path.glob("exits.jsonl*"))
    assert kept == ["exits.jsonl", "exits.jsonl.1.gz", "exits.jsonl.2.gz"]
    for file in kept[1:]:
        with gzip.open(tmp_path / file, "rt") as packed:
            text = packed.read()
        assert len(text) <= 2500
        assert [json.loads(line)["process"] for line in text.splitlines()]


def _full(tmp_path: Path, name: str) -> None:
    """On a file system that is 95 % full nothing is written, and what is not is counted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    checked(LIBC.mount(b"none", bytes(disk), b"tmpfs", 0, ctypes.c_char_p(b"size=64m")))
    try:
        configuration = settings(tmp_path, f"path: {disk}/exits.jsonl")
        with program.serve("--config.file", configuration) as exporter:
            (disk / "ballast").write_bytes(bytes(62 << 20))
            workers.live(name, 5, SIZE)
            wait_until(
                lambda: exporter.scrape().sum("netatop_exit_log_lost_total", reason="full"),
                "it is counted as lost",
            )
            assert lines(disk / "exits.jsonl", name) == []
            assert "not written, reason full" in exporter.log
    finally:
        checked(LIBC.umount2(bytes(disk), 0))


def _refused(tmp_path: Path, name: str) -> None:
    """Count what can't be written, and go on; no line is torn."""
    path = tmp_path / "exits.jsonl"
    configuration = settings(tmp_path, f"path: {path}")
    prefix = ("prlimit", "--fsize=2003")  # a larger file is refused, by EFBIG
    flags = ("--config.file", configuration)
    with (
        cgroup() as own,  # what others end with does not fill the file
        program.serve(*flags, "--cgroup-path", str(own), prefix=prefix) as exporter,
    ):
        for _ in range(7):
            workers.live(name, 3, SIZE, own)
        wait_until(
            lambda: exporter.scrape().sum("netatop_exit_log_lost_total", reason="error") >= 3,
            "they are counted as lost",
        )
        assert "not written, reason error" in exporter.log
    assert path.read_text().endswith("}\n")
    assert 0 < len(lines(path, name)) < 5


SCENARIOS: Final = {
    scenario.__name__[1:]: scenario for scenario in (_lines, _rotation, _full, _refused)
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """Run all of them at once: each waits until what has ended is final, which takes 16 seconds."""
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {
            label: pool.submit(scenario, tmp_path_factory.mktemp(label), workers.new_name())
            for label, scenario in SCENARIOS.items()
        }


@pytest.mark.parametrize("label", SCENARIOS)
def test_json(outcomes: dict[str, Future[None]], label: str) -> None:
    """Each of these scenarios goes as it says."""
    outcomes[label].result()


# netatopd's format. All of this from its header file: a reader subscribes by counting the second
# semaphore down, looks at the header's sequence number, and unpacks so many records.


class _Operation(ctypes.Structure):
    _fields_ = (("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short))


@contextlib.contextmanager
def subscribed() -> Iterator[None]:
    """Be a reader."""
    group = checked(LIBC.semget(KEY, 0, 0))
    down, up = _Operation(1, -1, SEM_UNDO), _Operation(1, 1, SEM_UNDO)
    checked(LIBC.semop(group, ctypes.byref(down), ctypes.c_size_t(1)))
    try:
        yield
    finally:
        checked(LIBC.semop(group, ctypes.byref(up), ctypes.c_size_t(1)))


def netatop(path: Path) -> tuple[tuple[int, ...], list[tuple[Any, ...]]]:
    """Return the header and the records, as a reader finds them."""
    data = path.read_bytes()
    magic, sequence, header_length, record_length, pid = struct.unpack_from("=IIHHi", data)
    records, at = [], header_length
    for _ in range(sequence):
        length = data[at]
        whole = zlib.decompress(data[at + 1 : at + 1 + length])
        assert len(whole) == record_length
        records.append(struct.unpack("@iL16s8Q", whole))
        at += 1 + length
    return (magic, sequence, header_length, record_length, pid), records


@pytest.fixture
def semaphores() -> Iterator[None]:
    """Remove the group in the end: no netatopd runs on a host where tests do."""
    assert LIBC.semget(KEY, 0, 0) < 0, "netatopd's semaphores are there: does it run?"
    yield
    group = LIBC.semget(KEY, 0, 0)
    if group >= 0:
        checked(LIBC.semctl(group, 0, IPC_RMID))


@pytest.mark.usefixtures("semaphores")
def test_netatop(tmp_path: Path, name: str) -> None:
    """Only while somebody reads; a new file when the last one has gone."""
    path = tmp_path / "netatop.log"
    configuration = settings(tmp_path, f"format: netatop, path: {path}")
    with program.serve("--config.file", configuration) as exporter:
        assert netatop(path) == ((0xFEEDB0B0, 0, 16, 96, exporter.pid), [])
        workers.live(f"{name}-", 3, SIZE)
        with subscribed():
            began = int(time.time())
            pid = workers.live(name, 23, SIZE)
            logged(exporter, lambda: any(r[0] == pid for r in netatop(path)[1]))
            (record,) = (r for r in netatop(path)[1] if r[0] == pid)
            assert began - 1 <= record[1] <= time.time() + 1
            assert record[2].rstrip(b"\0") == name.encode()
            size = 23 * (workers.HEADERS + SIZE)
            assert record[3:] == (0, 0, 0, 0, 23, size, 23, size)
        with path.open("rb") as former:
            wait_until(lambda: os.fstat(former.fileno()).st_nlink == 0, "a new file is begun")
        assert netatop(path)[1] == []
        done = program.run("serve", "--config.file", configuration, "--web.listen-address", ":0")
        assert "another daemon writes netatop's log" in program.refusal(done, 1)
        exporter.end(signal.SIGKILL)
        assert checked(LIBC.semctl(LIBC.semget(KEY, 0, 0), 0, 12)) == 0, "the kernel takes it back"
        with program.start("--config.file", configuration) as next_one:
            wait_until(next_one.is_ready, "another one may write")
            assert next_one.end() == 0
        exporter.process.returncode = 0


@pytest.mark.usefixtures("semaphores")
def test_netatop_without_semaphores(tmp_path: Path, name: str) -> None:
    """If somebody removes them nothing is written, which is told; the exporter ends as ever."""
    configuration = settings(tmp_path, f"format: netatop, path: {tmp_path / 'netatop.log'}")
    with program.start("--config.file", configuration) as exporter:
        wait_until(exporter.is_ready, "it is ready")
        checked(LIBC.semctl(LIBC.semget(KEY, 0, 0), 0, IPC_RMID))
        workers.live(name, 23, SIZE)
        lost = "netatop_exit_log_lost_total"
        logged(exporter, lambda: exporter.scrape().sum(lost, reason="error"))
        assert exporter.end() == 0
        exporter.process.returncode = 0
