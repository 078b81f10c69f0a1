# SPDX-License-Identifier: Apache-2.0
"""Asks the exporter that runs on this host."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final

from exporter.errors import ServeError

if TYPE_CHECKING:
    from exporter.config.flags import Address

TIMEOUT_SECONDS: Final = 10
LIMIT_BYTES: Final = 1 << 28


def fetch(address: Address, path: str) -> str:
    """Return what a running exporter answers. Raises ServeError."""
    url = f"http://{address.reachable}{path}"
    # A proxy of the environment has no part in this: the exporter is on this host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            text: bytes = answer.read(LIMIT_BYTES)
    except (OSError, http.client.HTTPException) as error:
        http_error = isinstance(error, http.client.HTTPException)
        reason = repr(error) if http_error else getattr(error, "reason", error)
        message = (
            f"no exporter answers at {url}: {reason}; start one with 'netatop-exporter serve', or "
            "name its address with --web.listen-address"
        )
        raise ServeError(message) from error
    return text.decode(errors="replace")
