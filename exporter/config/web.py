# SPDX-License-Identifier: Apache-2.0
"""Everything that can be said in the file of --web.config.file: TLS, who may ask, headers.

The format is that of Prometheus' exporter-toolkit (docs/web-configuration.md, 0.16), so that one
file serves all exporters of a host. What can't be done here is refused, never passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.config import document
from exporter.config.kinds import (
    FILE,
    Conflict,
    Lines,
    Names,
    Secret,
    Section,
    Several,
    Switch,
    Text,
    Whole,
    one_of,
    option,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSIONS: Final = ("TLS12", "TLS13")
NO_CERTIFICATE: Final = "NoClientCert"
IF_GIVEN: Final = "VerifyClientCertIfGiven"
REQUIRED: Final = "RequireAndVerifyClientCert"
CLIENT_AUTH: Final = (NO_CERTIFICATE, IF_GIVEN, REQUIRED)
CIPHERS: Final[Mapping[str, str]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""Go's names of what Go itself recommends for TLS 1.2 (crypto/tls, CipherSuites), and OpenSSL's."""
FIXED_CIPHERS: Final = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""Of TLS 1.3: they can't be chosen, in Go neither, and stand in lists nevertheless."""
CURVES: Final[Mapping[str, str]] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Those that may be set, and the values of each; none: any."""
DURATION: Final = re.compile(r"(?:(\d{1,9})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?")


def _any(text: str) -> str:
    return text


def _user(text: str) -> str:
    """Take no colon, which ends the name in what a client sends (RFC 7617, section 2)."""
    if not text or ":" in text:
        raise ValueError
    return text


def _bcrypt(text: str) -> str:
    """Take what can be compared in time: bcrypt ends at 31, but 17 takes ten seconds already."""
    if not re.fullmatch(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}", text):
        raise ValueError
    return text


def _header(text: str) -> str:
    if text not in HEADERS:
        raise ValueError
    return text


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError
    return text


def _duration(text: str) -> float:
    """Parse as Go does, from milliseconds to minutes: what a limit of requests may need."""
    match = DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not match or not any(match.groups()):
        raise ValueError
    minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    return minutes * 60 + seconds + milliseconds / 1000


PEM: Final = Lines("text in PEM", word, minLength=1)
BCRYPT: Final = Secret("a bcrypt hash of cost 4 to 16, as htpasswd -nBC 10 makes it", _bcrypt)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsServer:
    """TLS; files are named from the directory of this file on."""

    cert_file: str = option(FILE, "The server's certificate, and those between it and the CA.", "")
    key_file: str = option(FILE, "Its private key.", "")
    cert: str = option(PEM, "The same as cert_file, in place.", "")
    key: str = option(PEM, "The same as key_file, in place.", "")
    client_auth_type: str = option(
        one_of(*CLIENT_AUTH), "Whether a client has to show a certificate.", NO_CERTIFICATE
    )
    client_ca_file: str = option(FILE, "The CA of clients' certificates.", "")
    client_ca: str = option(PEM, "The same, in place.", "")
    client_allowed_sans: tuple[str, ...] = option(
        Several(Text("a subject alternative name", word)),
        "The client's certificate has one of these subject alternative names.",
        (),
    )
    min_version: str = option(one_of(*VERSIONS), "The oldest version of TLS.", "TLS12")
    max_version: str = option(one_of(*VERSIONS), "The newest version of TLS.", "TLS13")
    cipher_suites: tuple[str, ...] = option(
        Several(one_of(*CIPHERS, *FIXED_CIPHERS)),
        "Cipher suites of TLS 1.2, the best first, under Go's names.",
        (),
    )
    prefer_server_cipher_suites: bool = option(
        Switch(), "Whether the server's order decides, not the client's.", True
    )
    curve_preferences: tuple[str, ...] = option(
        Several(one_of(*CURVES)), "The elliptic curve: one, under Go's name.", ()
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Tell of what is missing, or there twice."""
        for name in ("cert", "key"):
            text, file = getattr(self, name), getattr(self, f"{name}_file")
            if bool(text) == bool(file):
                what = f"both {name} and {name}_file" if text else f"no {name}_file"
                yield Conflict((), what, f"one of {name}_file and {name}")
        if self.client_ca and self.client_ca_file:
            yield Conflict(("client_ca",), "client_ca_file too", "one of them")
        has_ca = bool(self.client_ca or self.client_ca_file)
        if has_ca != self.checks_clients:
            what = f"{self.client_auth_type} {'with' if has_ca else 'without'} a client CA"
            verifying = f"{IF_GIVEN} or {REQUIRED} with client_ca_file"
            yield Conflict(("client_auth_type",), what, f"{verifying}, or {NO_CERTIFICATE} alone")
        if self.client_allowed_sans and self.client_auth_type != REQUIRED:
            place = ("client_allowed_sans",)
            yield Conflict(place, f"it with {self.client_auth_type}", f"it with {REQUIRED}")
        if self.min_version > self.max_version:
            yield Conflict(("min_version",), "a later one than max_version", "an earlier one")
        if len(self.curve_preferences) > 1:
            yield Conflict(("curve_preferences",), "several curves", "one: more can't be set here")

    @property
    def checks_clients(self) -> bool:
        """Tell whether clients' certificates are looked at."""
        return self.client_auth_type != NO_CERTIFICATE


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer:
    """What is said in HTTP."""

    http2: bool = option(Switch(), "Whether HTTP/2 is spoken: it is not.", False)
    headers: tuple[tuple[str, str], ...] = option(
        Names(Text(f"one of {', '.join(HEADERS)}", _header), Text("the value of a header", _any)),
        "Headers that every answer has; an empty one is left out.",
        (),
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Tell of values that a header has not."""
        if self.http2:
            yield Conflict(("http2",), "true", "false: here is HTTP/1.1 alone")
        for name, value in self.headers:
            if value and HEADERS[name] and value not in HEADERS[name]:
                yield Conflict(("headers", name), repr(value), " or ".join(HEADERS[name]))
            if not value.isascii():
                yield Conflict(("headers", name), repr(value), "ASCII")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """A token bucket."""

    interval: float = option(
        Text("a time as 100ms, 1s or 1m30s; 0: no limit", _duration),
        "A request is permitted each such time.",
        0.0,
    )
    burst: int = option(Whole(0, 1_000_000), "So many may come at once.", 0)

    def conflicts(self) -> Iterator[Conflict]:
        """Tell of a bucket without room: nobody would ever be let in."""
        if self.interval and not self.burst:
            yield Conflict(("burst",), "no room for a request", "1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """The whole file."""

    tls_server_config: TlsServer | None = option(
        Section(TlsServer), "TLS. Left out: plain HTTP.", None
    )
    http_server_config: HttpServer = option(
        Section(HttpServer), "What is said in HTTP.", HttpServer()
    )
    basic_auth_users: tuple[tuple[str, str], ...] = option(
        Names(Text("the name of a user, without a colon", _user), BCRYPT),
        "Users and the bcrypt hashes of their passwords. Without any, everybody may ask.",
        (),
    )
    auth_excluded_paths: tuple[str, ...] = option(
        Several(Text("a path", _path, pattern="^/")),
        "Paths that need neither a user nor a client's certificate.",
        (),
    )
    rate_limit: RateLimit = option(
        Section(RateLimit), "How many requests are answered in all.", RateLimit()
    )


ROOT: Final = Section(Web)


def load(path: str) -> Web:
    """Read the file. Raises ConfigError, with a line for each mistake."""
    return document.read(path, ROOT)
