# SPDX-License-Identifier: Apache-2.0
"""A booted systemd in namespaces of its own, below a cgroup of its own.

Its mounts are in its mount namespace, its network is a loopback device, and with its first process
all of it ends: nothing stays behind, whatever happens to the test.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter.kernel.mounts import MOUNTINFO, mounts
from tests.e2e.exposition import Exposition
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BOOT: Final = Path(__file__).with_name("boot")
SERVICE: Final = "netatop-exporter.service"
CONFIG: Final = "/etc/netatop-exporter/netatop-exporter.yml"
PINS: Final = "/sys/fs/bpf/netatop-exporter"
PORT: Final = 10048
LOOPBACK: Final = "0100007F"
PAUSE: Final = 0.1
ASK: Final = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
connection.request("GET", sys.argv[2])
answer = connection.getresponse()
print(answer.status)
print(answer.read().decode(), end="")
"""
INTO: Final = 'echo $$ >"$0/cgroup.procs"; exec "$@"'


class Machine:
    """One that runs."""

    name = "machine"
    """It has a network namespace of its own, as tests.network.Namespace."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._inside = ("nsenter", f"--target={pid}", "--all", "--root", "--wd")
        self._last: Exposition | None = None

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in it, outside of all that it accounts for."""
        return subprocess.Popen((*self._inside, *command), stdout=subprocess.PIPE, text=True)

    def attempt(self, *command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in it, outside of all that it accounts for."""
        return subprocess.run(
            (*self._inside, *command),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command that must succeed; what it says goes into the error."""
        done = self.attempt(*command, stdin=stdin)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def path(self, name: str) -> Path:
        """Return where a file of it is, seen from outside."""
        return Path(f"/proc/{self.pid}/root", name.lstrip("/"))

    def write(self, name: str, text: str) -> None:
        """Write a file in it."""
        file = self.path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def drop_in(self, text: str) -> None:
        """Add to the service's unit, as `systemctl edit` does."""
        self.write(f"/etc/systemd/system/{SERVICE}.d/test.conf", f"[Service]\n{text}\n")
        self.run("systemctl", "daemon-reload")

    def show(self, what: str, unit: str = SERVICE) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", unit).strip()

    def status(self) -> dict[str, str]:
        """Return what the kernel says of the service's process (proc_pid_status(5))."""
        text = self.path(f"/proc/{self.show('MainPID')}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines())

    def journal(self, unit: str = SERVICE) -> str:
        """Return all that a unit has said, and systemd about it."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def ask(self, path: str = "/metrics", port: int = PORT) -> tuple[int, str]:
        """Return status and text of an answer."""
        said = self.run("python3", "-c", ASK, str(port), path)
        status, _, text = said.partition("\n")
        return int(status), text

    def listens(self) -> bool:
        """Tell whether somebody listens there, without a packet: other tests count all strays."""
        state = f"{LOOPBACK}:{PORT:04X} 00000000:0000 0A "  # proc_pid_net(5)
        return state in Path(f"/proc/{self.pid}/net/tcp").read_text()

    def is_ready(self) -> bool:
        """Tell whether it says so."""
        if not self.listens():
            return False
        done = self.attempt("python3", "-c", ASK, str(PORT), "/readyz")
        return done.stdout == "200\nready\n"

    def scrape(self) -> Exposition:
        """Scrape, and check what holds for every scrape and from one to the next."""
        status, text = self.ask()
        assert status == 200, text
        found = Exposition(text)
        found.check_law()
        found.check_series()
        if self._last:
            found.check_growth(self._last)
        self._last = found
        return found


def wait_for(happened: Callable[[], Any], what: str) -> None:
    """Return when it has happened; what is asked takes processes, so not too often."""
    wait_until(lambda: happened() or time.sleep(PAUSE), what)


@contextlib.contextmanager
def machine(trees: Sequence[Path], place: Path | None = None) -> Iterator[Machine]:
    """Boot a machine; what it changes of its files stays in place/upper, or nowhere."""
    with contextlib.ExitStack() as undo:
        if place is None:
            place = Path(undo.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        cgroup = undo.enter_context(_cgroup())
        own = ("--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net")
        said = undo.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            (
                *("sh", "-c", INTO, str(cgroup)),
                *("setpriv", "--pdeathsig=KILL", "unshare", *own, "--fork", "--kill-child"),
                *(str(BOOT), ":".join(map(str, trees)), str(place), str(cgroup.parent)),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        undo.callback(process.wait)
        undo.callback(process.kill)
        try:
            made = Machine(_first(process))
            wait_for(lambda: _has_booted(made, process), "systemd has booted")
        except (ProcessLookupError, ValueError, FileNotFoundError):
            said.seek(0)
            raise AssertionError(said.read().decode()) from None
        yield made


def _first(process: subprocess.Popen[bytes]) -> int:
    """Return the pid of a machine's first process, seen from here."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: process.poll() is not None or children.read_text(), "it has begun")
    return int(children.read_text())


def _has_booted(made: Machine, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise ProcessLookupError
    return made.attempt("systemctl", "is-system-running").stdout in {"running\n", "degraded\n"}


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    """Make a version 2 cgroup; all that is in it must have ended when the block ends."""
    root = next(mount.point for mount in mounts(MOUNTINFO) if mount.kind == "cgroup2")
    place = Path(root, f"netatop-machine-{os.getpid()}-{os.urandom(4).hex()}")
    place.mkdir()
    try:
        yield place
    finally:
        wait_until(lambda: _removed(place), f"{place} is gone")


def _removed(place: Path) -> bool:
    """Remove what is there, the deepest first; tell whether all is gone."""
    for folder, _, _ in os.walk(place, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not place.exists()
