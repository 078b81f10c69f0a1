# SPDX-License-Identifier: Apache-2.0
"""What is chosen on the command line; every refusal says what would be accepted."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final, NamedTuple

from exporter.errors import ConfigError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 10048
DEFAULT_ADDRESS: Final = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
RESERVED: Final = (
    *("/healthz", "/readyz", "/-/healthy", "/-/ready", "/-/reload"),
    *("/api/v1/exits", "/api/v1/groups", "/api/v1/processes", "/api/v1/sockets", "/api/v1/threads"),
    *("/api/v1/hosts", "/api/v1/connections", "/api/v1/openapi.json"),
    "/top",
)
RESERVED_BELOW: Final = ("/api/v1/top/", "/page/")
"""Whatever begins so."""
NETATOP_BPF: Final = "/run/netatop-bpf-socket"
"""Where atop looks for netatop-bpf."""
MAX_TASKS: Final = 1 << 24
LOADERS: Final = ("auto", "core", "bcc")

UNIX: Final = "unix:"
"""Begins the address of a socket that has a name in the file system."""

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]+)")


class Address(NamedTuple):
    """Where the web server listens."""

    host: str = ""
    """Empty: every address, of both families."""
    port: int = 0
    path: str = ""
    """Of a Unix socket, which has neither host nor port."""

    def __str__(self) -> str:
        """Return it as it is written in a URL, or after --web.listen-address."""
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> str:
        """Return an address that a client on this host can use."""
        return str(self) if self.host or self.path else f"localhost:{self.port}"


class Flags(NamedTuple):
    """Everything that can be chosen there."""

    listen_address: Address = Address(DEFAULT_HOST, DEFAULT_PORT)
    """Whom a command asks."""
    listen_addresses: tuple[Address, ...] = (Address(DEFAULT_HOST, DEFAULT_PORT),)
    """Where `serve` listens."""
    systemd_socket: bool = False
    web_config_file: str | None = None
    http_config_file: str | None = None
    telemetry_path: str = "/metrics"
    allowed_hosts: tuple[str, ...] = ()
    max_requests: int = 100
    cgroup_path: str | None = None
    max_tasks: int = 65536
    threads: bool = False
    sockets: bool = False
    remotes: bool = False
    hosts: bool = False
    lifecycle: bool = False
    netfilter: bool = True
    loader: str = "auto"
    compat_netatop: bool = False
    compat_netatop_bpf: str | None = None
    pin_path: str | None = None
    max_exits: int = 1000
    config_file: str | None = None
    enable_lifecycle: bool = False
    keep_capabilities: bool = False


def address(text: str) -> Address:
    """Parse HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH. Raises ConfigError."""
    if text.startswith(UNIX):
        return Address(path=socket_path("--web.listen-address: unix:", text.removeprefix(UNIX)))
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"]) if match else -1
    if match is None or not 0 <= port <= 65535:
        message = (
            f"--web.listen-address: found {text!r}; accepted are HOST:PORT, [IPV6]:PORT and :PORT "
            f"with a port from 0 to 65535, for instance {DEFAULT_ADDRESS}, and unix:/PATH"
        )
        raise ConfigError(message)
    return Address(match["six"] or match["host"] or "", port)


def directory(flag: str, kind: str, text: str) -> str:
    """Check the name of a directory of some kind. Raises ConfigError."""
    if not text:
        message = f"{flag}: found ''; accepted is a directory of {kind}"
        raise ConfigError(message)
    return text


def command(flag: str, text: str) -> str:
    """Check a command name: the kernel keeps 15 bytes of one. Raises ConfigError."""
    if not 0 < len(text.encode(errors="surrogateescape")) < 16:
        message = f"{flag}: found {text!r}; accepted is a command name of 1 to 15 bytes"
        raise ConfigError(message)
    return text


def file(flag: str, text: str) -> str:
    """Check the name of a file. Raises ConfigError."""
    if not text:
        message = f"{flag}: found ''; accepted is the name of a file"
        raise ConfigError(message)
    return text


def host(flag: str, text: str) -> str:
    """Check a name as a header `Host` has it, without a port. Raises ConfigError."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", text):
        message = f"{flag}: found {text!r}; accepted is a name without a port, as host.example.org"
        raise ConfigError(message)
    return text


def socket_path(flag: str, text: str) -> str:
    """Check the name of a socket file: the kernel keeps 107 bytes of one. Raises ConfigError."""
    if not text.startswith("/") or not len(os.fsencode(text)) < 108:
        message = f"{flag}: found {text!r}; accepted is an absolute path of up to 107 bytes"
        raise ConfigError(message)
    return text


def is_reserved(path: str) -> bool:
    """Tell whether something else is there."""
    return path in RESERVED or path.startswith(RESERVED_BELOW)


def telemetry_path(text: str) -> str:
    """Check the path of the metrics. Raises ConfigError."""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) or is_reserved(text):
        message = (
            f"--web.telemetry-path: found {text!r}; accepted is a path like /metrics that is not "
            f"{', '.join(RESERVED)} or below {', '.join(RESERVED_BELOW)}"
        )
        raise ConfigError(message)
    return text


def seconds(flag: str, low: float, high: float, text: str) -> float:
    """Parse a time, with decimals or without. Raises ConfigError."""
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text) or not low <= float(text) <= high:
        message = f"{flag}: found {text!r}; accepted are seconds from {low:g} to {high:g}"
        raise ConfigError(message)
    return float(text)


def network(flag: str, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parse an address, or a prefix as 10.0.0.0/8; mapped into IPv6, IPv4. Raises ConfigError."""
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        message = (
            f"{flag}: found {text!r}; accepted is an address of IPv4 or IPv6, or a prefix as "
            "10.0.0.0/8"
        )
        raise ConfigError(message) from None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped and found.prefixlen >= 96:
        return ipaddress.ip_network((mapped, found.prefixlen - 96))
    return found


def whole(flag: str, low: int, high: int, text: str) -> int:
    """Parse a whole number in a range. Raises ConfigError."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
        message = f"{flag}: found {text!r}; accepted is a whole number from {low} to {high}"
        raise ConfigError(message)
    return int(text)
