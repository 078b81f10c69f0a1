# SPDX-License-Identifier: Apache-2.0
"""Certificates, made by openssl for one test."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.workload import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


class Certificate(NamedTuple):
    """Two files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """One that signs; its own certificate is `file`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self.file, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        _openssl(
            *("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", self._key, "-out", self.file),
        )

    def issue(self, name: str, *alternatives: str) -> Certificate:
        """Return a certificate with alternative names as DNS:localhost, IP:127.0.0.1."""
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        _openssl(
            *("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}"),
            *("-CA", self.file, "-CAkey", self._key),
            *(("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", made.key, "-out", made.certificate),
        )
        return made

    def trusting(self, shown: Certificate | None = None) -> ssl.SSLContext:
        """Return what a client uses that trusts this authority; shown: its own certificate."""
        context = ssl.create_default_context(cafile=str(self.file))
        if shown:
            context.load_cert_chain(*shown)
        return context


def _openssl(*words: str | Path) -> None:
    subprocess.run(("openssl", *map(str, words)), check=True, capture_output=True, timeout=PATIENCE)
