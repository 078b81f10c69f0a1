# SPDX-License-Identifier: Apache-2.0
"""What netatop-bpf's clients are sent, in a real stream of the kernel."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from exporter import netatop_bpf
from exporter.netpertask import RECORD


def test_structs_are_whole() -> None:
    """With the smallest buffer the reader finds the queue empty often, but never half a struct."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        records = [RECORD.pack(pid, 1, b"p", *range(8)) for pid in range(1, 4099)]
        sender = threading.Thread(target=netatop_bpf.say, args=(ours, b"".join(records)))
        sender.start()
        found = [theirs.recv(RECORD.size) for _ in records]
        sender.join()
        assert found == records


def test_reader_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that can't be sent in time is given up, also if a little of it is read at times."""
    monkeypatch.setattr(netatop_bpf, "STALL_SECONDS", 0.25)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        began = time.monotonic()
        threading.Timer(0.1, theirs.recv, (9999,)).start()
        with pytest.raises(TimeoutError):
            netatop_bpf.say(ours, bytes(1 << 20))
        assert 0.2 < time.monotonic() - began < 5
