# SPDX-License-Identifier: Apache-2.0
"""What runs on a usual host: real processes that talk with each other, each in its own manner."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.e2e import workers
from tests.workload import PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

BEAT: Final = 0.2
"""Seconds between two requests."""
REQUEST: Final = struct.Struct("!I")


class Talk(NamedTuple):
    """Who asks whom for how much."""

    server: str
    client: str
    up: int
    """Bytes a second to the server, about."""
    down: int
    period: float
    """Seconds in which it comes and goes."""
    swing: float
    """0: steady, 1: from nothing to the double."""


TALKS: Final = (
    Talk("nginx", "haproxy", 210_000, 3_900_000, 61, 0.55),
    Talk("postgres", "gunicorn", 170_000, 1_300_000, 37, 0.7),
    Talk("redis-server", "celery", 310_000, 420_000, 23, 0.35),
    Talk("minio", "restic", 2_300_000, 61_000, 97, 0.95),
    Talk("node_exporter", "prometheus", 900, 97_000, 15, 1.0),
    Talk("sshd", "ssh", 5_300, 31_000, 11, 0.9),
    Talk("registry", "containerd", 3_100, 770_000, 71, 1.0),
    Talk("dnsmasq", "systemd-resolve", 1_900, 5_300, 29, 0.5),
    Talk("mosquitto", "telegraf", 23_000, 1_700, 17, 0.2),
    Talk("slapd", "sssd_be", 1_300, 4_100, 43, 0.8),
)
USERS: Final = {"nginx": 33, "haproxy": 33, "gunicorn": 33, "node_exporter": 65534}
"""Where it is not root; these are there on any Debian."""


def serve(talk: Connection, name: str, uid: int) -> None:
    """Answer one client: as many bytes as it asks for."""
    _become(name, uid)
    with socket.create_server((workers.LOCAL, 0)) as listener:
        talk.send(listener.getsockname()[1])
        client, _ = listener.accept()
        with client:
            client.settimeout(PATIENCE)
            while header := client.recv(REQUEST.size, socket.MSG_WAITALL):
                (wanted,) = REQUEST.unpack(header)
                sent = REQUEST.unpack(client.recv(REQUEST.size, socket.MSG_WAITALL))[0]
                while sent:
                    sent -= len(client.recv(min(sent, 1 << 16)))
                client.sendall(bytes(wanted))


def ask(talk: Connection, wanted: Talk, uid: int, port: int, phase: float) -> None:
    """Ask again and again, more and less, until told to stop."""
    _become(wanted.client, uid)
    chance = random.Random(wanted.client)
    with socket.create_connection((workers.LOCAL, port), PATIENCE) as server:
        talk.send("asking")
        while not talk.poll(BEAT):
            wave = math.sin(2 * math.pi * (time.monotonic() / wanted.period + phase))
            factor = BEAT * max(0.0, 1 + wanted.swing * wave) * chance.uniform(0.6, 1.4)
            up, down = int(wanted.up * factor), int(wanted.down * factor)
            server.sendall(REQUEST.pack(down) + REQUEST.pack(up) + bytes(up))
            while down:
                down -= len(server.recv(min(down, 1 << 18)))


def come_and_go(talk: Connection) -> None:
    """Start processes that send something and end, well or not, until told to stop."""
    workers.call_myself("rsyslogd")
    names = ("curl", "git", "rsync", "apt-get")
    chance = random.Random(23)
    with workers.udp_socket() as sink:
        threading.Thread(target=_drain, args=(sink,), daemon=True).start()
        while not talk.poll(0.7):
            name, status = chance.choice(names), chance.choice((0, 0, 0, 0, 22, -signal.SIGKILL))
            datagrams, seconds = chance.randrange(3, 97), chance.uniform(0.05, 0.5)
            child = os.fork()
            if child == 0:
                workers.call_myself(name)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    for _ in range(datagrams):
                        sender.sendto(bytes(chance.randrange(97, 1009)), sink.getsockname())
                time.sleep(seconds)
                if status < 0:
                    os.kill(os.getpid(), -status)
                os._exit(status)
            os.waitpid(child, 0)


def _drain(sink: socket.socket) -> None:
    sink.settimeout(None)
    with contextlib.suppress(OSError):
        while True:
            sink.recv(1 << 16)


def _become(name: str, uid: int) -> None:
    if uid:
        os.setgid(uid)
        os.setuid(uid)
    workers.call_myself(name)


@contextlib.contextmanager
def around(place: Path) -> Iterator[None]:
    """Have them all run, in a cgroup."""
    with contextlib.ExitStack() as stack:
        for number, talk in enumerate(TALKS):
            uid = USERS.get(talk.server, 0)
            server = stack.enter_context(Process(serve, talk.server, uid, cgroup=place))
            port = server.hear()
            uid = USERS.get(talk.client, 0)
            phase = number / len(TALKS)
            client = stack.enter_context(Process(ask, talk, uid, port, phase, cgroup=place))
            client.hear()
        stack.enter_context(Process(come_and_go, cgroup=place))
        yield
