# SPDX-License-Identifier: Apache-2.0
"""What the file of --web.config.file means for connections and requests, as it is now.

The file and those that it names are looked at with each connection and each request: a certificate
that is renewed, or a user that is removed, needs no restart and no signal. While they can't be
read, nobody is let in.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.config import web
from exporter.config.web import Web
from exporter.errors import ConfigError
from exporter.web import tls
from exporter.web.access import Bucket, Users

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    Marks = tuple[tuple[int, ...], ...]

log = logging.getLogger(__name__)

GONE: Final = (0,)


class Policy:
    """One reading of the file, or none: plain HTTP for everybody."""

    def __init__(self, chosen: Web, context: ssl.SSLContext | None = None) -> None:
        self.chosen = chosen
        self.context = context
        """What wraps connections; None: nothing does."""
        self.users = Users(dict(chosen.basic_auth_users)) if chosen.basic_auth_users else None
        self.bucket = Bucket(chosen.rate_limit)
        self.headers = tuple(pair for pair in chosen.http_server_config.headers if pair[1])
        self.excluded = frozenset(chosen.auth_excluded_paths)
        self.is_broken = False
        """The file can't be used any more: nobody may ask."""

    @property
    def is_open(self) -> bool:
        """Tell whether who can connect may ask, whatever the name under which he does."""
        return self.context is None and self.users is None

    def close(self) -> None:
        """End what runs for it."""
        if self.users:
            self.users.close()


class Policies:
    """The file, read again whenever something has changed. Not safe for threads."""

    def __init__(self, path: str | None) -> None:
        """Read it for the first time. Raises ConfigError."""
        self._path = Path(path) if path else None
        self._files: tuple[Path, ...] = ()
        self._marks: Marks = ()
        self._policy = Policy(Web()) if self._path is None else self._read(self._path)

    @property
    def scheme(self) -> str:
        """Return http or https."""
        return "https" if self._policy.context else "http"

    def current(self) -> Policy:
        """Return what holds now."""
        if self._path and _marks(self._files) != self._marks:
            before = self._policy
            try:
                self._policy = self._read(self._path)
            except ConfigError as error:
                _complain(error, self._path)
                self._policy = Policy(Web(), before.context)
                self._policy.is_broken = True
            else:
                log.info("%s: applied", self._path)
            before.close()
        return self._policy

    def close(self) -> None:
        """End what runs for it."""
        self._policy.close()

    def _read(self, path: Path) -> Policy:
        # Marked before they are read: what changes in between is seen the next time.
        self._files = (path,)
        self._marks = _marks(self._files)
        chosen = web.load(str(path))
        server = chosen.tls_server_config
        if server is None:
            return Policy(chosen)
        files = tuple(tls.files(server, path.parent))
        self._marks += _marks(files)
        self._files += files
        try:
            context = tls.context(server, path.parent, excepts=bool(chosen.auth_excluded_paths))
        except ConfigError as error:
            message = f"{path}: {error}"
            raise ConfigError(message) from error
        return Policy(chosen, context)


def _complain(error: ConfigError, path: Path) -> None:
    for line in str(error).splitlines():
        log.error("%s", line)
    log.error("nobody is let in until %s is good again", path)


def _marks(files: Iterable[Path]) -> Marks:
    """Return what tells whether files have changed."""
    return tuple(_mark(file) for file in files)


def _mark(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return GONE
    return found.st_mtime_ns, found.st_ino, found.st_size
