# SPDX-License-Identifier: Apache-2.0
"""Who may ask: users by their passwords, clients by the names in their certificates, how often.

A password is compared by bcrypt, which takes its time by design: one after the other, in a thread
of its own, and once; what came of it is kept. Names that are not known take as long as others: the
hash of some other user is computed for them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import concurrent.futures
import contextlib
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from exporter.config import web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.config.web import RateLimit, Web

KEPT: Final = 256
"""Outcomes that are remembered, right ones and wrong ones each."""
WAITING: Final = 16
"""Passwords that may wait to be compared: more come from somebody who tries them out."""
MOST_BYTES: Final = 72
"""Of a password; bcrypt takes no notice of the rest."""


class BusyError(Exception):
    """Too many passwords wait to be compared."""


class Users:
    """Those of one configuration."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = dict(hashes)
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        """Kept apart, so that trying does not make us forget who has been let in."""
        self._waiting = 0
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "bcrypt")

    async def admit(self, authorization: str) -> bool:
        """Tell whether a header names a user and his password. Raises BusyError."""
        pair = credentials(authorization)
        if pair is None:
            return False
        user, password = pair
        mark = self._digest(b":".join((user, password)))
        for outcomes, verdict in ((self._right, True), (self._wrong, False)):
            if mark in outcomes:
                outcomes.move_to_end(mark)
                return verdict
        if self._waiting >= WAITING:
            raise BusyError
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._worker, self._compare, user, password)
        finally:
            self._waiting -= 1
        outcomes = self._right if found else self._wrong
        outcomes[mark] = None
        if len(outcomes) > KEPT:
            outcomes.popitem(last=False)
        return found

    def _compare(self, user: bytes, password: bytes) -> bool:
        import bcrypt  # noqa: PLC0415 (a megabyte that few need)

        named = user.decode(errors="surrogateescape")
        known = named in self._hashes
        if not known:  # always the same one for the same name: another cost would tell
            number = int.from_bytes(self._digest(user)[:8], "big")
            named = sorted(self._hashes)[number % len(self._hashes)]
        fits = len(password) <= MOST_BYTES and b"\0" not in password
        tried = password if fits else password.replace(b"\0", b"")[:MOST_BYTES]
        with contextlib.suppress(ValueError):
            return bcrypt.checkpw(tried, self._hashes[named].encode()) and known and fits
        return False

    def _digest(self, data: bytes) -> bytes:
        return hmac.digest(self._secret, data, hashlib.sha256)

    def close(self) -> None:
        """End the thread, when it has nothing more to do."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """Return user and password of an Authorization header (RFC 7617); None: there are none."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


class Bucket:
    """A token bucket: how many requests may come, and how fast."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._at = time.monotonic()

    def take(self) -> bool:
        """Tell whether one more may be answered."""
        if not self._limit.interval:
            return True
        now = time.monotonic()
        self._tokens += (now - self._at) / self._limit.interval
        self._tokens = min(self._tokens, float(self._limit.burst))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def names(certificate: Mapping[str, Any] | None) -> frozenset[str] | None:
    """Return the subject alternative names of a client's certificate; None: it has shown none."""
    if not certificate:
        return None
    return frozenset(value for _, value in certificate.get("subjectAltName", ()))


def may_connect(chosen: Web, certificate: frozenset[str] | None) -> str:
    """Return why a client's certificate does not do; empty: it does."""
    server = chosen.tls_server_config
    if not server or server.client_auth_type != web.REQUIRED:
        return ""
    if certificate is None:
        return "a client's certificate is needed"
    if server.client_allowed_sans and certificate.isdisjoint(server.client_allowed_sans):
        return "none of the certificate's names is among client_allowed_sans"
    return ""
