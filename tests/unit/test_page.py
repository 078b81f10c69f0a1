# SPDX-License-Identifier: Apache-2.0
"""What is sent for the pages: all files, nothing that the policy would refuse, validators."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from exporter import __version__, page
from exporter.config import flags

FOLDER = Path(page.__file__).parent
ASSETS = page.assets("/metrics")
PAGES = ("/", "/top")


class Links(HTMLParser):
    """What a page refers to, and what it must not have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forbidden: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        found = dict(attributes)
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        self.scripts += tag == "script"
        if tag in {"style", "base"} or (tag == "script" and "src" not in found):
            self.forbidden.append(tag)
        self.forbidden += [name for name in found if name == "style" or name.startswith("on")]


def test_all_files() -> None:
    """Each file beside the module has a path; each path can't be that of the metrics."""
    files = {path.name for path in FOLDER.iterdir() if path.suffix not in {".py", ""}}
    assert {*page.PATHS.values()} == files
    assert all(map(flags.is_reserved, page.PATHS.keys() - {"/"}))


@pytest.mark.parametrize("path", PAGES)
def test_links(path: str) -> None:
    """Relative, so that a proxy may serve all of it below a path; and nothing is inline."""
    found = Links(ASSETS[path].body.decode())
    assert found.forbidden == []
    for link in found.links:
        assert not link.startswith(("http", "//"))
        target = "/" + link.removeprefix("./").lstrip("/")
        assert target in ASSETS or flags.is_reserved(target) or target == "/metrics", link


def test_index_has_no_scripts() -> None:
    """It can be read by any browser."""
    assert Links(ASSETS["/"].body.decode()).scripts == 0


@pytest.mark.parametrize("path", [p for p in page.PATHS if p.endswith(".js")])
def test_scripts(path: str) -> None:
    """Import what is there, and never make markup of text."""
    text = ASSETS[path].body.decode()
    for name in re.findall(r'from "\./([^"]+)"', text):
        assert f"/page/{name}" in ASSETS
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@pytest.mark.parametrize("path", [p for p in page.PATHS if p.endswith(".css")])
def test_styles(path: str) -> None:
    """Nothing from elsewhere."""
    assert not re.search(r"url\(|@import", ASSETS[path].body.decode())


def test_words() -> None:
    """The version, and the path of the metrics, whatever it is."""
    body = page.assets("/a/b-c.d")["/"].body.decode()
    assert f"Version {__version__}" in body
    assert 'href="a/b-c.d"' in body
    assert "{" not in body


def test_validators() -> None:
    """Another one for another body."""
    found = {asset.validator for asset in ASSETS.values()}
    assert len(found) == len(ASSETS)
    assert page.assets("/m")["/"].validator != ASSETS["/"].validator
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', validator) for validator in found)


def test_policy() -> None:
    """Nothing inline, nothing from elsewhere, nothing around it."""
    policy = page.HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    for rule in (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"),
        *("img-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    ):
        assert rule in policy.split("; ")
