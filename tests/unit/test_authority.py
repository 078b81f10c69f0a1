# SPDX-License-Identifier: Apache-2.0
"""Under which names the server may be asked on loopback addresses."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from exporter.web import authority

if TYPE_CHECKING:
    from pathlib import Path

OWN = frozenset({"here", "here.example.org"})


@pytest.mark.parametrize(
    "host",
    [
        *("", "localhost", "LocalHost:1", "localhost.", "grafana.localhost:10048"),
        *("here", "HERE.example.org:10048", "here.example.org."),
        *("127.0.0.1", "127.0.0.1:10048", "192.0.2.1", "[::1]", "[2001:db8::1]:10048"),
    ],
)
def test_accepted(host: str) -> None:
    """Addresses, localhost and the host's own names, with a port or without."""
    assert authority.refusal(host, OWN) == ""


@pytest.mark.parametrize(
    "host",
    [
        *("a", "hostile.example.org", "hostile.example.org:10048", "example.org", "here.example"),
        *("localhost.example.org", "127.0.0.1.example.org", "[::1].example.org", "nothere"),
        *("x.here.example.org", "notlocalhost", "0x7f.1", "127.0.0.1:1:1", ":1", "10048x", "é"),
    ],
)
def test_refused(host: str) -> None:
    """Every other name, however like one of those it is."""
    assert authority.refusal(host, OWN).startswith(f"Host: found {host!r}; accepted on a loopback")


def test_a_long_name_is_not_shown_whole() -> None:
    """A client may send 16 KiB of it."""
    assert len(authority.refusal("a" * 16_000, OWN)) < 250


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (("127.0.0.1", 1), True),
        (("127.8.8.8", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("192.0.2.1", 1), False),
        (("::ffff:192.0.2.1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        ("/run/netatop-exporter.sock", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback(name: object, expected: bool) -> None:
    """A socket's near end, as Python names it: IPv4, IPv6, both in one, and Unix."""
    assert authority.is_loopback(name) is expected


def test_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What /etc/hosts has for loopback addresses, in all the ways in which it can be written."""
    hosts = tmp_path / "hosts"
    hosts.write_bytes(
        b"# 127.0.0.1 comment\n\n127.0.0.1\tlocalhost  loop # more\n127.0.1.1 Here.Example.org\n"
        b"::1 six\n192.0.2.1 away\nnonsense name\n127.0.0.9\n127.0.0.3 \xe9tage\n"
    )
    monkeypatch.setattr(authority, "HOSTS", hosts)
    found = authority.own_names(["Proxy.example.org."])
    given = {"localhost", "loop", "here.example.org", "six", "proxy.example.org", "\ufffdtage"}
    assert found == given | {socket.gethostname().lower()}
    monkeypatch.setattr(authority, "HOSTS", tmp_path / "none")
    assert authority.own_names(()) == {socket.gethostname().lower()}
