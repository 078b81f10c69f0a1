# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told, read from the socket that it listens on."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from exporter.collector import Health
from exporter.notify import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WELL = Health(attached=17, lost={}, failed=(), configured=True)
WATCHDOG = 23_000


class Listener:
    """The manager's end."""

    def __init__(self, own: socket.socket, name: str) -> None:
        self._socket = own
        self.name = name

    def heard(self) -> list[str]:
        """Return what was said until now, a text for each message."""
        said = []
        while True:
            try:
                said.append(self._socket.recv(4099).decode())
            except BlockingIOError:
                return said


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    """Listen as systemd does: at a file, or at a name that is none of a file."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@netatop-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as own:
        own.bind(name.replace("@", "\0"))
        yield Listener(own, name)


def manager(listener: Listener, **more: str) -> Manager:
    """Return it as with this environment."""
    return Manager({"NOTIFY_SOCKET": listener.name, **more})


def test_a_life(listener: Listener) -> None:
    """Each moment has its message, in the words of sd_notify(3)."""
    told = manager(listener)
    told.ready(lambda: WELL)
    assert listener.heard() == ["STATUS=17 programs attached; lost: nothing", "READY=1"]
    before = time.monotonic_ns() // 1000
    told.reloading()
    [said] = listener.heard()
    reloading, moment = said.split("\n")
    assert reloading == "RELOADING=1"
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    told.stopping()
    assert listener.heard() == ["STOPPING=1"]


def test_watchdog(listener: Listener) -> None:
    """Told when it is time to, not each time the loop goes round; the status far less often."""
    told = manager(listener, WATCHDOG_USEC=str(WATCHDOG), WATCHDOG_PID=str(os.getpid()))
    told.ready(lambda: WELL)
    listener.heard()
    for _ in range(5):
        told.alive(lambda: WELL)
    assert listener.heard() == ["WATCHDOG=1"]
    time.sleep(WATCHDOG / 1e6 / 2)
    told.alive(lambda: WELL)
    assert listener.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog(listener: Listener, environment: dict[str, str]) -> None:
    """Nobody waits for it, or for that of another process."""
    told = manager(listener, **environment)
    told.ready(lambda: WELL)
    listener.heard()
    told.alive(lambda: WELL)
    assert listener.heard() == []


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (WELL._replace(lost={("task", "full"): 23, ("program", "skipped"): 3}), None),
        (WELL._replace(failed=("read",)), "17 programs attached; lost: nothing; failed: read"),
        (
            WELL._replace(configured=False),
            "17 programs attached; lost: nothing; the new configuration was refused: see the log",
        ),
        (None, "the end"),
    ],
)
def test_status(listener: Listener, health: Health | None, said: str | None) -> None:
    """What is not as it should be is in it."""
    manager(listener).ready(lambda: health)
    lost = "17 programs attached; lost: 3 program (skipped), 23 task (full)"
    assert listener.heard()[0] == f"STATUS={said or lost}"


def test_nobody() -> None:
    """Where there is no manager no table is read for it."""
    told = Manager({})
    told.ready(pytest.fail)
    told.alive(pytest.fail)
    told.reloading()
    told.stopping()


def test_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A manager that does not listen is said of, and nothing else happens."""
    Manager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()
    [record] = caplog.records
    assert record.getMessage().endswith("No such file or directory; it was not told: STOPPING=1")


def test_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not read can't make us hang."""
    monkeypatch.setattr("exporter.notify.SEND_SECONDS", 0.01)
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(name)
        told = Manager({"NOTIFY_SOCKET": name})
        begun = time.monotonic()
        for _ in range(23):
            told.stopping()
        assert time.monotonic() - begun < 1
