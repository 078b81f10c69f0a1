# SPDX-License-Identifier: Apache-2.0
"""A real pseudo-terminal, and what a terminal emulator shows of what is written to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyte

from tests.e2e import program
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ALTERNATE = (b"\x1b[?1049h", b"\x1b[?1049l")
"""How a program takes the whole screen, and gives it back (xterm's control sequences)."""
CURSOR_SHOWN = b"\x1b[?25h"


class Terminal:
    """A program on a terminal."""

    def __init__(self, *words: str, columns: int, rows: int, **more: str) -> None:
        self._ours, theirs = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        """All that was ever written."""
        self._lock = threading.Lock()
        self.resize(columns, rows)
        self.modes = self._modes(theirs)
        self._theirs = theirs
        """Kept open, as a shell would: the modes can be looked at after the program's end."""
        self.process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd="/",
            env=program.environment(TERM="xterm-256color", **more),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while part := os.read(self._ours, 1 << 16):
                with self._lock:
                    self.written += part
                    self._stream.feed(part)

    def _modes(self, fd: int) -> Any:
        return termios.tcgetattr(fd)

    @property
    def is_as_before(self) -> bool:
        """Tell whether the terminal is as the program has found it."""
        begun, ended = (self.written.rfind(sequence) for sequence in ALTERNATE)
        return (
            self._modes(self._theirs) == self.modes
            and ended >= begun
            and self.written.rfind(CURSOR_SHOWN) >= self.written.rfind(b"\x1b[?25l")
        )

    def expect_as_before(self) -> None:
        """Wait until it is: what is written is read a moment later."""
        wait_until(lambda: self.is_as_before, "the terminal is as the program has found it")

    @property
    def lines(self) -> list[str]:
        """Return what stands on the screen."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """Return it as one text."""
        return "\n".join(self.lines)

    def resize(self, columns: int, rows: int) -> None:
        """Make it so large; the program is told by a signal."""
        with self._lock:
            fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
            self._screen.resize(rows, columns)

    def press(self, keys: str) -> None:
        """Write what a keyboard would."""
        os.write(self._ours, keys.encode())

    def expect(self, *words: str) -> str:
        """Wait until all of these stand on the screen, and return the screen."""
        try:
            wait_until(lambda: all(word in self.text for word in words), "they are shown")
        except TimeoutError:
            message = f"{words} not in:\n{self.text}"
            raise AssertionError(message) from None
        return self.text

    def row(self, word: str) -> list[str]:
        """Wait for a line with this word, and return the words of the line."""

        def found() -> list[str]:
            return next((words for line in self.lines if word in (words := line.split())), [])

        wait_until(found, f"{word} in a line of its own")
        return found() or self.row(word)  # it may be drawn anew meanwhile

    def expect_row(self, word: str, *others: str) -> None:
        """Wait until a line with this word has others, in this order."""
        try:
            wait_until(lambda: [w for w in self.row(word) if w in others] == [*others], word)
        except TimeoutError:
            message = f"{word} without {others} in:\n{self.text}"
            raise AssertionError(message) from None

    @property
    def is_stopped(self) -> bool:
        """Tell whether the program is stopped, as by job control."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def hang_up(self) -> None:
        """Close the terminal."""
        for fd in (self._theirs, self._ours):
            os.close(fd)
        self._theirs = self._ours = -1  # whoever opens something next has these numbers

    def end(self, keys: str = "q") -> int:
        """Press keys, and return the exit status."""
        self.press(keys)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for fd in (self._ours, self._theirs):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def top(
    address: str, *words: str, columns: int = 120, rows: int = 30, **more: str
) -> Iterator[Terminal]:
    """Run `top` on a terminal of its own."""
    command = (*program.COMMAND, "top", "--web.listen-address", address, *words)
    terminal = Terminal(*command, columns=columns, rows=rows, **more)
    try:
        yield terminal
    finally:
        terminal.close()
