# SPDX-License-Identifier: Apache-2.0
"""How an exporter is asked that is not open to everybody: the file of --http.config.file.

The format is that of Prometheus' HTTP clients, as promtool has it under the same flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.config import document
from exporter.config.kinds import FILE, Conflict, Secret, Section, Switch, Text, option, word

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """A user and his password."""

    username: str = option(Text("the name of a user", word), "The user.", "")
    password: str = option(Secret("a password", word), "His password.", "")
    password_file: str = option(FILE, "The file that holds it.", "")

    def conflicts(self) -> Iterator[Conflict]:
        """Tell of what is missing, or there twice."""
        if bool(self.password) == bool(self.password_file):
            what = "both password and password_file" if self.password else "no password"
            yield Conflict((), what, "one of password_file and password")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsClient:
    """TLS; files are named from the directory of this file on."""

    ca_file: str = option(FILE, "The CA of the server's certificate. Default: the host's.", "")
    cert_file: str = option(FILE, "The certificate that is shown.", "")
    key_file: str = option(FILE, "Its private key.", "")
    server_name: str = option(
        Text("a name", word), "The name in the server's certificate. Default: the address'.", ""
    )
    insecure_skip_verify: bool = option(
        Switch(), "Whether any certificate of the server does.", False
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Tell of what is missing."""
        if bool(self.cert_file) != bool(self.key_file):
            yield Conflict((), "one of cert_file and key_file", "both or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """The whole file."""

    basic_auth: BasicAuth | None = option(Section(BasicAuth), "User and password.", None)
    tls_config: TlsClient | None = option(Section(TlsClient), "TLS. Left out: plain HTTP.", None)


ROOT: Final = Section(Http)


def load(path: str) -> Http:
    """Read the file. Raises ConfigError, with a line for each mistake."""
    return document.read(path, ROOT)
