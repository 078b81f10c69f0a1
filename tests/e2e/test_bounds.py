# SPDX-License-Identifier: Apache-2.0
"""More processes than may have series, and a ranking that changes all the time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e import program, workers
from tests.traffic import forks
from tests.workload import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.exposition import Exposition

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

CROWD: Final = Path(forks.__file__).with_name("crowd.c")
PROCESSES: Final = 5000
LIMIT: Final = 500
SCRAPES: Final = 12
SENT_TO: Final = 701
"""Processes that get something between two scrapes."""
SERIES: Final = 20
"""Of one process, at most: 16 of packets and bytes, 3 of TCP, and what is known of it."""


@contextlib.contextmanager
def crowd(folder: Path, name: str, processes: int) -> Iterator[dict[int, int]]:
    """Run so many processes that receive; their ports by pid."""
    built = forks.compile_in(folder, name, CROWD)
    running = subprocess.Popen(
        [built, str(processes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert running.stdout
        said = running.stdout.read(8 * processes)
        yield dict(struct.iter_unpack("=II", said))
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate(timeout=PATIENCE)


def send(chance: random.Random, ports: dict[int, int], received: dict[int, Counter[str]]) -> None:
    """Send some of them datagrams, a few of them very many, and keep account."""
    busy = chance.sample(sorted(ports), SENT_TO)
    with contextlib.closing(workers.udp_socket()) as sender:
        for rank, pid in enumerate(busy):
            size = chance.randrange(1, 1400) if rank < 200 else chance.randrange(1, 40)
            for _ in range(chance.randrange(1, 9) if rank < 200 else 1):
                sender.sendto(bytes(size), (program.LOCAL, ports[pid]))
                received[pid] += Counter(packets=1, bytes=workers.HEADERS + size)


def shown(found: Exposition, name: str) -> dict[int, float]:
    """Return the bytes that each process with series has received."""
    series = found.series("netatop_process_receive_bytes_total", process=name, protocol="udp")
    return {int(dict(labels)["pid"]): value for labels, value in series.items()}


def test_five_thousand_over_a_limit_of_five_hundred(name: str, tmp_path: Path) -> None:
    """As many series as promised, each with the value of its whole life; increments add up.

    That none falls and that the increments add up is held by each scrape (Exposition.check_growth
    and check_members); the sender's own account is the witness here.
    """
    chance = random.Random(23)
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(f"limits: {{processes: {LIMIT}}}\n")
    changes = 0
    before: set[int] = set()
    with (
        program.serve("--config.file", str(file)) as exporter,
        crowd(tmp_path, name, PROCESSES) as ports,
    ):
        assert len(ports) == PROCESSES
        received: dict[int, Counter[str]] = {pid: Counter() for pid in ports}
        for _ in range(SCRAPES):
            send(chance, ports, received)
            found = exporter.scrape()
            for unit in ("packets", "bytes"):
                whole = found.sum(f"netatop_group_receive_{unit}_total", group=name, protocol="udp")
                assert whole == sum(count[unit] for count in received.values())
            values = shown(found, name)
            assert len(values) <= LIMIT
            assert found.sum("netatop_series_limit", kind="process") == LIMIT * SERIES + SERIES - 1
            assert values == {pid: received[pid]["bytes"] for pid in values}
            changes += len(values.keys() - before)
            before = set(values)
        assert changes > LIMIT + SCRAPES, "the ranking has changed"
        busy = min(ports.keys() - before)
        with contextlib.closing(workers.udp_socket()) as sender:
            for _ in range(211):
                sender.sendto(bytes(1400), (program.LOCAL, ports[busy]))
        assert busy in shown(exporter.scrape(), name)


def test_a_limit_that_changes(name: str, tmp_path: Path) -> None:
    """By reloading, down and up: no series falls, and nothing is lost between them."""
    chance = random.Random(29)
    file = tmp_path / "netatop-exporter.yml"
    file.write_text("limits: {processes: 50, groups: 100}\n")
    with (
        program.serve("--config.file", str(file)) as exporter,
        crowd(tmp_path, name, SENT_TO) as ports,
    ):
        received: dict[int, Counter[str]] = {pid: Counter() for pid in ports}
        for limit in (50, 7, 0, 600, 30):
            file.write_text(f"limits: {{processes: {limit}, groups: {1 + limit}}}\n")
            exporter.reload()
            for _ in range(2):
                send(chance, ports, received)
                found = exporter.scrape()
                assert len(shown(found, name)) <= limit
                assert found.sum("netatop_process_receive_packets_total") > 0
            traffic = found.traffic("group_", group=name, protocol="udp")
            assert traffic["receive_packets"] == sum(c["packets"] for c in received.values())
