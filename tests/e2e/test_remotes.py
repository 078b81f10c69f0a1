# SPDX-License-Identifier: Apache-2.0
"""Groups by class of remote address: real packets to addresses of several classes."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e import program, workers
from tests.workload import Process

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from tests.e2e.exposition import Exposition

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

FILE: Final = """
remotes: true
address_classes:
- {name: wide, addresses: [127.7.0.0/16]}
- {name: one, addresses: [127.7.7.7]}
"""
SIZE: Final = 41
SHARES: Final = {"127.0.0.1": 3, "127.7.1.1": 5, "127.7.7.7": 7, "127.7.7.8": 11, "127.8.0.1": 13}
CLASSES: Final = {"loopback": 3 + 13, "wide": 5 + 11, "one": 7}


def spread(talk: Connection, name: str) -> None:
    """Send from one socket to addresses of several classes, when told."""
    workers.call_myself(name)
    with (
        contextlib.closing(workers.udp_socket()) as sender,
        contextlib.ExitStack() as stack,
    ):
        sinks = {}
        for address in SHARES:
            sinks[address] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sinks[address].bind((address, 0))
        talk.send("ready")
        while talk.recv():
            for round_ in range(max(SHARES.values())):
                for address, datagrams in SHARES.items():
                    if round_ < datagrams:
                        sender.sendto(bytes(SIZE), sinks[address].getsockname())
            talk.send("sent")


def transmitted(found: Exposition, name: str) -> dict[str, float]:
    """Return the packets that a group has transmitted, by class."""
    series = found.series("netatop_group_remote_transmit_packets_total", group=name)
    return {dict(labels)["remote"]: value for labels, value in series.items()}


def test_classes(tmp_path: Path, name: str) -> None:
    """The longest prefix decides, packet by packet; each scrape holds that no class is left out."""
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(FILE, encoding="utf-8")
    none = dict.fromkeys(("internet", "loopback", "lan", "wide", "one", "other"), 0)
    with (
        program.serve("--config.file", str(file), "--web.enable-lifecycle") as exporter,
        Process(spread, name) as process,
    ):
        process.hear()
        for times in (1, 2, 3):
            process.tell("go")
            process.hear()
            found = exporter.scrape()
            expected = {what: times * packets for what, packets in CLASSES.items()}
            assert transmitted(found, name) == none | expected
        size = found.sum("netatop_group_remote_transmit_bytes_total", group=name, remote="one")
        assert size == 3 * CLASSES["one"] * (workers.HEADERS + SIZE)
        file.write_text(FILE.replace("127.7.7.7", "127.7.7.8"), encoding="utf-8")
        answer = exporter.ask("/-/reload", "POST")
        assert answer.status == 500
        assert b"accepted without a restart are the same" in answer.body
        assert transmitted(exporter.scrape(), name) == none | expected


def test_built_in_classes(name: str) -> None:
    """By a flag alone."""
    with (
        program.serve("--collector.remotes") as exporter,
        Process(workers.talker, name, SIZE) as talker,
    ):
        talker.hear()
        talker.tell(23)
        talker.hear()
        assert transmitted(exporter.scrape(), name) == {
            "internet": 0,
            "loopback": 23,
            "lan": 0,
            "other": 0,
        }


def test_off_by_default(name: str) -> None:
    """Packets cost less without."""
    with program.serve() as exporter, Process(workers.talker, name, SIZE) as talker:
        talker.hear()
        talker.tell(23)
        talker.hear()
        assert not exporter.scrape().series("netatop_group_remote_transmit_packets_total")
