# SPDX-License-Identifier: Apache-2.0
"""The pages for people: what is sent at each path, made once, when the program starts.

The live view is files beside this module. It asks the API as any other program does.
"""

from __future__ import annotations

import hashlib
import html
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

INDEX: Final = "/"
PATHS: Final = {
    INDEX: "index.html",
    "/top": "top.html",
    **{
        f"/page/{name}": name
        for name in (
            *("icon.svg", "page.css", "top.css", "theme.js"),
            *("top.js", "details.js", "format.js", "plot.js", "table.js", "views.js"),
        )
    },
}
"""By path: the file."""
KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS: Final[Mapping[str, str]] = {
    # Nothing but these files, and the API. What a program calls itself can't become a script:
    # there are no scripts but files, and the browser refuses to make markup of text at all.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # No Cross-Origin-Opener-Policy: without TLS browsers ignore it, and complain on each page.
    "Cache-Control": "no-cache",  # kept, but asked for each time whether it is still so
}
"""To be sent with each of them."""


class Asset(NamedTuple):
    """What is sent."""

    kind: str
    """Content-Type."""
    body: bytes
    validator: str
    """ETag."""


def assets(metrics: str) -> Mapping[str, Asset]:
    """Return all of them by path; metrics: the path of the metrics."""
    return {path: _asset(name, metrics) for path, name in PATHS.items()}


def _asset(name: str, metrics: str) -> Asset:
    body = resources.files(__name__).joinpath(name).read_bytes()
    kind = name.rpartition(".")[2]
    if kind == "html":
        for word, value in (("VERSION", __version__), ("METRICS", metrics.lstrip("/"))):
            body = body.replace(b"{%s}" % word.encode(), html.escape(value).encode())
    return Asset(KINDS[kind], body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
