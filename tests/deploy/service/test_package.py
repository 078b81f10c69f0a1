# SPDX-License-Identifier: Apache-2.0
"""The Debian package in a booted Debian: installed, upgraded under traffic, removed, purged."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import TYPE_CHECKING, Final

import pytest
from packaging.requirements import Requirement

from exporter import __version__
from exporter.model import DIRECTIONS, pick
from tests.deploy.service.conftest import install
from tests.deploy.service.machine import CONFIG, PINS, SERVICE, wait_for
from tests.deploy.service.talker import LENGTH, check, talker
from tests.deploy.service.tree import CHECKOUT
from tests.network import run, run_json
from tests.witness import Rule, witness

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.service.machine import Machine

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

NAME: Final = "netatop-exporter"
NOT_OURS: Final = (
    *("/etc/.pwd.lock", "/etc/group-", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-"),
    *("/var/cache/ldconfig", "/var/lib/dpkg/", "/var/lib/systemd/", "/var/log/journal"),
    "/var/log/dpkg.log",
    "/root/package.deb",
)
"""What any package and any service may leave: backups of lists, dpkg's and systemd's own."""
TALK: Final = tuple(
    Rule(True, "udp", direction, f"meta l4proto udp meta length {LENGTH}")
    for direction in DIRECTIONS
)
"""Of all packets in the machine those of the talker: by their length."""
FILES: Final = ("find", "/etc", "/lib", "/opt", "/root", "/srv", "/usr", "/var", "-xdev", "-print")


def _files(made: Machine) -> set[str]:
    return {name for name in made.run(*FILES).splitlines() if not name.startswith(NOT_OURS)}


def _held(made: Machine, kind: str) -> set[int]:
    """Return the ids that the service's process has open (proc_pid_fdinfo(5))."""
    word = {"prog": "prog_id", "map": "map_id", "link": "link_id"}[kind]
    found = set()
    for file in made.path(f"/proc/{made.show('MainPID')}/fdinfo").iterdir():
        lines = (line.partition(":\t") for line in file.read_text().splitlines())
        found |= {int(value) for name, _, value in lines if name == word}
    return found


def _there(kind: str) -> set[int]:
    return {entry["id"] for entry in run_json("bpftool", "--json", kind, "list")}


def test_version() -> None:
    """The changelog of the package, and so its version, is that of the program."""
    said = run("dpkg-parsechangelog", "--file=deploy/debian/changelog", "--show-field=Version")
    assert said.strip() == __version__


def test_dependencies() -> None:
    """All that pyproject.toml asks for is bundled in a fitting version, or is Debian's."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["top"]]
    place = CHECKOUT / "deploy/debian"
    bundled = dict(
        re.findall(r"^([\w-]+)==(\S+)$", (place / "bundled.txt").read_text(), re.MULTILINE)
    )
    control = (place / "control").read_text()
    for wanted in map(Requirement, asked):
        name = wanted.name.lower().removeprefix("py")
        if wanted.name in bundled:
            assert bundled[wanted.name] in wanted.specifier, wanted
        else:
            [least] = re.findall(rf"^ python3-{name} \(>= (\S+)\),$", control, re.MULTILINE)
            assert least in wanted.specifier, wanted


def test_lintian(package: Path) -> None:
    """Nothing that Debian calls an error, but for what is overridden with a reason."""
    done = subprocess.run(
        ("lintian", "--allow-root", "--fail-on=error", str(package)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_upgrade(bare: Machine, earlier: Path, package: Path) -> None:
    """From a version with other tables, under traffic: every packet and byte is counted, once."""
    with witness(bare, TALK) as nft:
        install(bare, earlier)
        assert bare.is_ready()
        with talker(bare) as talk:
            talk.send_more()
            before = bare.scrape()
            install(bare, package)
            assert __version__ in bare.run("dpkg-query", "--show", NAME)
            assert bare.is_ready()
            talk.send_more()
            sent = talk.stop()
            after = bare.scrape()
        counted = nft.read()
    after.check_growth(before)
    check(after, sent)
    for direction in DIRECTIONS:
        assert pick(counted, "udp", direction, "packets") == sent
        assert pick(counted, "udp", direction, "bytes") == sent * LENGTH
    assert "moving the totals of another version" in bare.journal()


def test_own_choices(service: Machine, package: Path) -> None:
    """What an administrator has changed stays: the configuration, a service that is disabled."""
    text = "limits: {processes: 1009}\n"
    service.write(CONFIG, text)
    service.run("systemctl", "disable", "--now", SERVICE)
    install(service, package)
    assert service.path(CONFIG).read_text() == text
    assert service.attempt("systemctl", "is-enabled", SERVICE).stdout == "disabled\n"


def test_removed_and_purged(bare: Machine, service: Machine) -> None:
    """Nothing stays in the kernel when it is removed, and nothing at all when it is purged."""
    service.scrape()
    held = {kind: _held(service, kind) for kind in ("prog", "map", "link")}
    assert all(len(ids) >= 8 for ids in held.values()), held
    service.run("systemctl", "kill", "--signal=KILL", SERVICE)  # in the middle of a restart
    service.run("dpkg", "--remove", NAME)
    assert not service.path(PINS).exists()
    assert service.path(CONFIG).exists()
    for kind, ids in held.items():
        wait_for(lambda kind=kind, ids=ids: not ids & _there(kind), f"no {kind} of it is there")
    assert service.attempt("pgrep", "-f", "netatop").stdout == ""
    service.run("dpkg", "--purge", NAME)
    assert _files(service) == _files(bare)
    users = "/etc/passwd"
    assert service.path(users).read_text() == bare.path(users).read_text()
    assert not service.path("/var/log/netatop-exporter").exists()
