# SPDX-License-Identifier: Apache-2.0
"""Refusals name the flag, what was found and what is accepted."""

from __future__ import annotations

import pytest

from exporter.config import flags
from exporter.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port", "printed", "reachable"),
    [
        ("127.0.0.1:10048", "127.0.0.1", 10048, "127.0.0.1:10048", "127.0.0.1:10048"),
        ("[::1]:9", "::1", 9, "[::1]:9", "[::1]:9"),
        (":10048", "", 10048, ":10048", "localhost:10048"),
        ("localhost:0", "localhost", 0, "localhost:0", "localhost:0"),
    ],
)
def test_addresses(text: str, host: str, port: int, printed: str, reachable: str) -> None:
    """As Prometheus' exporters take them."""
    address = flags.address(text)
    assert address == (host, port, "")
    assert str(address) == printed
    assert address.reachable == reachable


@pytest.mark.parametrize(
    "text",
    ["", "10048", "host", "host:", "host:x", "host:65536", "::1:80", "[::1]", "a:1:2", "h:-1"],
)
def test_bad_addresses(text: str) -> None:
    """The message helps without the manual."""
    with pytest.raises(ConfigError) as caught:
        flags.address(text)
    assert repr(text) in str(caught.value)
    assert "127.0.0.1:10048" in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "text", ["", "metrics", "/", "/a b", "/healthz", "/readyz", "/a?b", "/ä", "//a", "/a/"]
)
def test_bad_paths(text: str) -> None:
    """A path that another page has, or that no URL holds."""
    with pytest.raises(ConfigError, match=r"--web\.telemetry-path"):
        flags.telemetry_path(text)


def test_good_path() -> None:
    """It comes back as it is."""
    assert flags.telemetry_path("/a/b-c.d") == "/a/b-c.d"


@pytest.mark.parametrize("text", ["", "0", "11", "x", "-1", "1.5", "1e1", "٣", "9" * 99])
def test_bad_numbers(text: str) -> None:
    """Both ends of the range are in the message."""
    with pytest.raises(ConfigError, match=r"--tasks\.max: found .* from 1 to 10"):
        flags.whole("--tasks.max", 1, 10, text)


@pytest.mark.parametrize("number", [1, 10])
def test_good_numbers(number: int) -> None:
    """The ends of the range belong to it."""
    assert flags.whole("--tasks.max", 1, 10, str(number)) == number
