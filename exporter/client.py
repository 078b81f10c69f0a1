# SPDX-License-Identifier: Apache-2.0
"""Asks the exporter that runs on this host."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.errors import ConfigError, ServeError

if TYPE_CHECKING:
    import ssl
    from typing import Self

    from exporter.config.flags import Address, Flags
    from exporter.config.http import BasicAuth, TlsClient

TIMEOUT_SECONDS: Final = 10
LIMIT_BYTES: Final = 1 << 28
REFUSALS: Final = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class StatusError(ServeError):
    """It has answered, but not with what was asked for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Asks one exporter."""

    @classmethod
    def of(cls, chosen: Flags) -> Self:
        """Return who asks the one that the flags name. Raises ConfigError."""
        return cls(chosen.listen_address, chosen.http_config_file)

    def __init__(self, address: Address, config_file: str | None = None) -> None:
        """config_file: how, if not by plain HTTP. Raises ConfigError."""
        self._address = address
        self._headers: dict[str, str] = {}
        self._context: ssl.SSLContext | None = None
        self._server_name = "localhost"
        if config_file:
            self._configure(Path(config_file))

    def url(self, path: str) -> str:
        """Return how people write where it asks."""
        if self._address.path:
            return f"{self._address} ({path})"
        scheme = "https" if self._context else "http"
        return f"{scheme}://{self._address.reachable}{path}"

    def fetch(self, path: str) -> str:
        """Return what a running exporter answers. Raises ServeError."""
        try:
            with contextlib.closing(self._connection()) as connection:
                connection.request("GET", path, headers=self._headers)
                answer = connection.getresponse()
                text = answer.read(LIMIT_BYTES)
        except OSError as error:
            reason = getattr(error, "verify_message", "") or error.strerror or str(error)
            raise ServeError(self._nobody(path, reason)) from error
        except http.client.HTTPException as error:
            raise ServeError(self._nobody(path, repr(error))) from error
        if answer.status == HTTPStatus.OK:
            return text.decode(errors="replace")
        said = text.decode(errors="replace").strip()
        if answer.status == HTTPStatus.MISDIRECTED_REQUEST:
            message = f"{self.url(path)}: {said}"
            raise StatusError(message, answer.status)
        if answer.status in REFUSALS:
            message = (
                f"{self.url(path)}: {said or answer.reason} (HTTP status {answer.status}); name "
                "user, password and certificate in a file, with --http.config.file"
            )
            raise StatusError(message, answer.status)
        reason = f"HTTP status {answer.status}, {answer.reason}"
        raise StatusError(self._nobody(path, reason), answer.status)

    def _connection(self) -> http.client.HTTPConnection:
        return _Connection(self._address, self._context, self._server_name)

    def _nobody(self, path: str, reason: str) -> str:
        return (
            f"no exporter answers at {self.url(path)}: {reason}; start one with "
            "'netatop-exporter serve', or name its address with --web.listen-address"
        )

    def _configure(self, path: Path) -> None:
        from exporter.config import http as config  # noqa: PLC0415 (few need it, and YAML)

        chosen = config.load(str(path))
        try:
            if chosen.basic_auth:
                self._headers["Authorization"] = _basic(chosen.basic_auth, path.parent)
            if chosen.tls_config:
                self._context = _context(chosen.tls_config, path.parent)
                host = self._address.reachable.rpartition(":")[0].strip("[]")
                place = "localhost" if self._address.path else host
                self._server_name = chosen.tls_config.server_name or place
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", "") or getattr(error, "strerror", "") or error
            message = (
                f"{path}: {reason}; accepted are files that can be read, in PEM for tls_config"
            )
            raise ConfigError(message) from error


def _basic(chosen: BasicAuth, folder: Path) -> str:
    password = chosen.password or (folder / chosen.password_file).read_text().rstrip("\r\n")
    pair = base64.b64encode(f"{chosen.username}:{password}".encode())
    return f"Basic {pair.decode()}"


def _context(chosen: TlsClient, folder: Path) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 (few need it)

    made = ssl.create_default_context(cafile=folder / chosen.ca_file if chosen.ca_file else None)
    if chosen.cert_file:
        made.load_cert_chain(folder / chosen.cert_file, folder / chosen.key_file)
    if chosen.insecure_skip_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


class _Connection(http.client.HTTPConnection):
    """A connection to any kind of address, with TLS or without; no proxy has a part in it."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, server_name: str) -> None:
        self._place = address.path
        host, _, port = (
            ("localhost", "", "0") if address.path else address.reachable.rpartition(":")
        )
        super().__init__(host.strip("[]"), int(port), timeout=TIMEOUT_SECONDS)
        self._context, self._server_name = context, server_name

    def connect(self) -> None:
        """Connect."""
        if self._place:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(self._place)
        else:
            super().connect()
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server_name)
