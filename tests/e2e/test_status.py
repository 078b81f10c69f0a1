# SPDX-License-Identifier: Apache-2.0
"""`status` of a known workload: each number that /proc/netatop showed, and the new ones."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from exporter.kernel import layouts
from exporter.model import REASONS
from tests.e2e import program, workers
from tests.kernel.lab import cgroup
from tests.workload import CLOSED_PORT, Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SIZE = 43
THEIRS = re.compile(r"(\S+): +(\S+)(?: \((?:unident|overflow): +(\d+)\))?")
"""A line of /proc/netatop."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a cgroup in which nobody else is: what is counted there is known in full."""
    with cgroup() as made:
        yield made


def knock(talk: Connection, datagrams: int) -> None:
    """Send to a port that nobody listens on."""
    with workers.udp_socket() as own:
        for _ in range(datagrams):
            own.sendto(bytes(SIZE), (workers.LOCAL, CLOSED_PORT))
    talk.send("done")


def test_known_workload(name: str, place: Path) -> None:
    """Two processes, one of which has ended, in a cgroup where nothing else is."""
    with (
        program.serve("--cgroup-path", str(place)) as exporter,
        Process(workers.talker, name, SIZE, cgroup=place) as talker,
    ):
        talker.hear()
        talker.tell(23)
        talker.hear()
        with Process(knock, 61, cgroup=place) as knocking:
            assert knocking.hear() == "done"
            knocking.wait()
        exporter.is_ours = False
        exporter.scrape()
        where = ("--web.listen-address", exporter.address)
        done = program.run("status", *where)
        told = program.run("status", "--json", *where)
    assert (done.returncode, done.stderr, told.returncode, told.stderr) == (0, "", 0, "")
    _check_netatop(done.stdout)
    layout = f"{layouts.FINGERPRINT:08x}"
    head = f"netatop-exporter {__version__}, Linux {os.uname().release}, loader core, libbpf "
    assert done.stdout.startswith(head)
    assert done.stdout.splitlines()[0].endswith(f", layout {layout}")
    assert "sockets    0 tcp, 1 udp, 0 icmp, 0 other\n" in done.stdout
    assert "exit list  1 finished processes, 0 made room\n" in done.stdout
    assert "task table 2 of 65536\n" in done.stdout
    facts = json.loads(told.stdout)
    assert (facts["version"], facts["layout"]) == (__version__, layout)
    assert facts["traffic"]["udp"] == {
        "receive_packets": 23,
        "receive_bytes": 23 * (28 + SIZE),
        "transmit_packets": 23 + 61,
        "transmit_bytes": (23 + 61) * (28 + SIZE),
    }
    assert set(facts["unidentified"]) == set(REASONS)
    assert not any(facts["traffic"]["tcp"].values())
    assert facts["exit_list"] == {"processes": 1, "evicted": 0}
    assert facts["tables"] == {"tasks": {"entries": 2, "capacity": 65536}}
    assert {sum(reasons.values()) for reasons in facts["lost"].values()} == {0}


def _check_netatop(text: str) -> None:
    """Look at the part that is for those who knew /proc/netatop."""
    _, _, lines = text.partition("as /proc/netatop:\n")
    found = {}
    for line in lines.splitlines():
        match = THEIRS.fullmatch(line)
        assert match, line
        found[match[1]] = (match[2], match[3])
    assert found == {
        "tcpsndpacks": ("0", "0"),
        "tcprcvpacks": ("0", "0"),
        "udpsndpacks": ("84", "0"),
        "udprcvpacks": ("23", "0"),
        "icmpsndpacks": ("0", None),
        "icmprcvpacks": ("0", None),
        "#sockinfo": ("1", "0"),
        "#taskinfo": ("2", "0"),
        "#taskexit": ("1", None),
        "modversion": (__version__, None),
    }


def test_overflow() -> None:
    """With a table of one task, others are lost: netatop's overflow, of its #taskinfo."""
    with program.serve("--tasks.max", "1") as exporter:
        for _ in range(2):
            with Process(knock, 3) as process:
                process.hear()
        exporter.scrape()
        done = program.run("status", "--web.listen-address", exporter.address)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("#taskinfo"))
    match = THEIRS.fullmatch(line)
    assert match
    assert int(match[3]) >= 1


def test_ready(exporter: program.Program) -> None:
    """Its exit status is the answer, and it prints nothing."""
    where = ("--web.listen-address", exporter.address)
    done = program.run("status", "--ready", *where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
