# SPDX-License-Identifier: Apache-2.0
"""TLS as the file of --web.config.file has it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.config import web
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.config.web import TlsServer

VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def files(chosen: TlsServer, folder: Path) -> Iterator[Path]:
    """Yield the files that it names; relative names are those of the configuration's folder."""
    for name in (chosen.cert_file, chosen.key_file, chosen.client_ca_file):
        if name:
            yield folder / name


def context(chosen: TlsServer, folder: Path, *, excepts: bool) -> ssl.SSLContext:
    """Return what wraps connections. Raises ConfigError.

    excepts: there are paths that need no client's certificate, so that none is demanded before the
    request is read.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = VERSIONS[chosen.min_version]
    made.maximum_version = VERSIONS[chosen.max_version]
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _choose_ciphers(made, chosen)
    for curve in chosen.curve_preferences:
        made.set_ecdh_curve(web.CURVES[curve])
    made.set_alpn_protocols(["http/1.1"])
    _load_certificate(made, chosen, folder)
    if chosen.checks_clients:
        _load_authority(made, chosen, folder)
        is_required = chosen.client_auth_type == web.REQUIRED and not excepts
        made.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    return made


def _choose_ciphers(made: ssl.SSLContext, chosen: TlsServer) -> None:
    if chosen.prefer_server_cipher_suites:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        made.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    names = [web.CIPHERS[name] for name in chosen.cipher_suites if name in web.CIPHERS]
    if names:
        made.set_ciphers(":".join(names))
    elif chosen.cipher_suites:  # those of TLS 1.3 alone
        made.minimum_version = ssl.TLSVersion.TLSv1_3


def _load_certificate(made: ssl.SSLContext, chosen: TlsServer, folder: Path) -> None:
    """Load certificate and key; what is in place goes through files that have no name."""
    opened: list[int] = []
    try:
        certificate = folder / chosen.cert_file if chosen.cert_file else _file(chosen.cert, opened)
        key = folder / chosen.key_file if chosen.key_file else _file(chosen.key, opened)
        made.load_cert_chain(certificate, key, password=_refuse)
    except (OSError, ValueError) as error:
        shown = f"{chosen.cert_file or 'cert'} and {chosen.key_file or 'key'}"
        message = (
            f"tls_server_config: {shown}: {_reason(error)}; accepted are a certificate and its "
            "private key in PEM, the key not encrypted"
        )
        raise ConfigError(message) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _load_authority(made: ssl.SSLContext, chosen: TlsServer, folder: Path) -> None:
    try:
        if chosen.client_ca:
            made.load_verify_locations(cadata=chosen.client_ca)
        else:
            made.load_verify_locations(folder / chosen.client_ca_file)
    except (OSError, ValueError) as error:
        message = (
            f"tls_server_config: {chosen.client_ca_file or 'client_ca'}: {_reason(error)}; "
            "accepted are certificates in PEM"
        )
        raise ConfigError(message) from error


def _file(text: str, opened: list[int]) -> Path:
    """Return a name for text that must not come to a disk."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    opened.append(descriptor)
    os.write(descriptor, text.encode())
    return Path(f"/proc/self/fd/{descriptor}")


def _refuse() -> str:
    """Be asked for a password: OpenSSL would ask the terminal otherwise."""
    message = "the key is encrypted"
    raise ValueError(message)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
