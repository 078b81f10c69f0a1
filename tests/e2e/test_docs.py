# SPDX-License-Identifier: Apache-2.0
"""What the documentation gives to copy is copied, run, and does what the page says.

Commands run as they stand, in a place of their own: a home, and namespaces in which 127.0.0.1:10048
is free and nothing of theirs outlives them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Final

import bcrypt
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.config import http, web
from exporter.metrics import COLLECTORS, GROUP
from tests import pages
from tests.e2e import copied, program, terminal
from tests.e2e.certificates import Authority
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.copied import Run
    from tests.e2e.program import Program
    from tests.pages import Block, Command

pytestmark = [pytest.mark.e2e]

DOCS: Final = pages.CHECKOUT / "docs"
OWN: Final = "203.0.113.5"
"""The address of docs/hosts.md that is this host's own."""
WRONG: Final = """\
groups:
  - cmdline: ["("]
limits:
  processes: many
"""
ALL: Final = ("threads", "sockets", "remotes", "hosts", "lifecycle")
PINS: Final = "/sys/fs/bpf/netatop-exporter"
INTERRUPTED: Final = 128 + signal.SIGINT
SHIMS: Final = {
    "netatop-exporter": f'exec "{sys.executable}" -m exporter "$@"',
    "sudo": 'exec "$@"',
}
"""What is installed by that name, in a checkout; and who is root already needs no sudo."""


def found(kind: str, page: Path | None = None) -> list[Block]:
    """Return all blocks of a kind."""
    wanted = (page,) if page else pages.PAGES
    return [block for one in wanted for block in pages.blocks(one) if block.kind == kind]


def commands() -> list[Command]:
    """Return those that are run here, each once, with what a page shows of it."""
    known: dict[str, Command] = {}
    for page in pages.PAGES:
        for command in pages.commands(page):
            if command.text in copied.RUNS and (command.output or command.text not in known):
                known[command.text] = command
    return list(known.values())


class Place:
    """A home, and a network, a /run and a bpf file system that nobody else has."""

    def __init__(self, home: Path, holder: int) -> None:
        self.home, self._holder = home, holder

    def start(self, command: str, said: IO[str]) -> subprocess.Popen[bytes]:
        """Run what is typed; what it says goes into a file."""
        inside = ("nsenter", "-t", str(self._holder), "-n", "-m", "-i", f"--wd={self.home}")
        return subprocess.Popen(
            (*inside, "sh", "-c", command if "|" in command else f"exec {command}"),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "HOME": str(self.home),
                "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
            },
            start_new_session=True,
        )

    def run(self, command: str, status: int = 0) -> str:
        """Run it to its end; return what it has said."""
        with tempfile.TemporaryFile("w+") as said, self.start(command, said) as process:
            process.wait(PATIENCE)
            said.seek(0)
            text = said.read()
        assert process.returncode == status, (command, text)
        assert "Traceback" not in text
        return text

    @contextlib.contextmanager
    def running(self, command: str, until: str) -> Iterator[None]:
        """Run it until it has said this, and in the block; end it by Ctrl-C."""
        log = self.home / "log"
        with log.open("w") as said, self.start(command, said) as process:
            try:

                def has_said() -> bool:
                    assert process.poll() is None, (command, log.read_text())
                    return until in log.read_text()

                wait_until(has_said, f"{command} says {until!r}")
                yield
                os.killpg(process.pid, signal.SIGINT)
                assert process.wait(PATIENCE) in {0, INTERRUPTED}, (command, log.read_text())
            finally:
                process.kill()


@contextlib.contextmanager
def place(home: Path) -> Iterator[Place]:
    """Make one; nothing of it is left."""
    shims = home / "bin"
    shims.mkdir()
    for name, line in SHIMS.items():
        (shims / name).write_text(f"#!/bin/sh\n{line}\n")
        (shims / name).chmod(0o755)
    begin = (
        "ip link set lo up && ip address add "
        f"{OWN}/32 dev lo && mount -t tmpfs tmpfs /run && mount -t bpf bpf /sys/fs/bpf "
        "&& echo there && exec sleep 600"
    )
    holder = subprocess.Popen(
        ("unshare", "--net", "--mount", "--ipc", "sh", "-c", begin),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "there\n"
        yield Place(home, holder.pid)
    finally:
        holder.kill()
        holder.communicate()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the pages speak of: their own blocks, where they have."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "wrong.yml").write_text(WRONG)
    (folder / "netatop-exporter.yml").write_text(found("yaml", DOCS / "groups.md")[0].text)
    authority = Authority(folder)
    authority.issue("server", "DNS:host.example.org")
    for name in ("client", "prometheus"):
        authority.issue(name, "DNS:prometheus.example.org")
    (folder / "password").write_text("23 datagrams")
    [echo] = [text for text in copied.RUNS if text.startswith("echo ")]
    subprocess.run(("sh", "-c", echo), cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def shared(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a place where an exporter serves as docs/web.md has it, and has something to tell."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(home, folder, dirs_exist_ok=True)
    [serve] = [text for text in copied.RUNS if "unix:" in text and " serve " in text]
    counted = " ".join(f"--collector.{name}" for name in ALL)
    with place(folder) as made, made.running(f"{serve} {counted}", "serves unix:"):
        made.run("curl -s http://127.0.0.1:10048/metrics")
        made.run(f"curl -s --interface {OWN} http://127.0.0.1:10048/metrics")
        yield made


def shape(line: str) -> str:
    """Return a line without its numbers, and however wide its columns are."""
    plain = re.sub(r'group="[^"]*"', 'group=""', line)
    return " ".join(re.sub(r"\d[\d.:]*(e[+-]?\d+)?", "0", plain).split())


def expected(command: Command, run: Run, said: str) -> None:
    """Hold what the page shows: line by line the same, but for numbers."""
    documented = [shape(line) for line in command.output if line != "..."]
    if run.head:
        documented = documented[:1]
    actual = [shape(line) for line in said.splitlines()]
    assert actual[: len(documented)] == documented


@pytest.mark.kernel
@pytest.mark.parametrize(
    "command",
    [one for one in commands() if not copied.RUNS[one.text].serves],
    ids=lambda command: command.text,
)
def test_command(shared: Place, command: Command) -> None:
    """It runs as it stands, beside an exporter, and prints what the page shows."""
    run = copied.RUNS[command.text]
    text = command.text
    with subprocess.Popen(("sleep", "600")) as somebody:
        for example, real in run.replaced.items():
            text = text.replace(example, real.format(pid=somebody.pid, checkout=pages.CHECKOUT))
        try:
            if run.until:
                with shared.running(text, run.until):
                    pass
            else:
                expected(command, run, shared.run(text, run.status))
        finally:
            somebody.kill()


@pytest.mark.kernel
@pytest.mark.parametrize(
    "command",
    [one for one in commands() if copied.RUNS[one.text].serves],
    ids=lambda command: command.text,
)
def test_exporter(home: Path, tmp_path: Path, command: Command) -> None:
    """It serves where nobody else does, until Ctrl-C; or removes what such a one has left."""
    run = copied.RUNS[command.text]
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    text = command.text
    for example, real in run.replaced.items():
        text = text.replace(example, real)
    with place(tmp_path) as fresh:
        if run.until:
            with fresh.running(text, "serves http"):
                assert fresh.run(f"curl -s http://127.0.0.1:10048{run.until}") == "ready\n"
            return
        with fresh.running(f"netatop-exporter serve --pin-path {PINS}", "serves http"):
            pass
        assert fresh.run(f"ls {PINS}")
        fresh.run(text)
        if "mount" not in text:
            fresh.run(f"test -e {PINS}", status=1)


@pytest.mark.kernel
def test_screen(exporter: Program) -> None:
    """`top` looks as docs/top.md has it: what stands at the top, titles, keys."""
    top = "netatop-exporter top"
    [shown] = [one.output for one in pages.commands(DOCS / "top.md") if one.text == top]
    with terminal.top(exporter.address, columns=len(shown[1]), rows=len(shown)) as screen:
        screen.expect("PROCESS", "pause")
        looks = shape(shown[0])
        wait_until(lambda: shape(screen.lines[0]) == looks, "it has an answer")
        _, titles, *_, keys = screen.lines
        assert titles.split() == shown[1].split()
        assert keys == shown[-1]
        assert screen.end() == 0


HELD: Final = {
    "dashboards.md": "tests/deploy/test_rules.py::test_configurations_of_page",
    "kubernetes.md": "tests/deploy/test_manifests.py::test_documented_scrape_configuration",
}
"""Pages whose configurations are held with what they belong to."""


NEWER: Final = ("client_allowed_sans", "auth_excluded_paths")
"""Keys that Debian 12's promtool does not know."""


@pytest.mark.parametrize("block", found("yaml"), ids=lambda block: block.name)
def test_configuration(home: Path, tmp_path: Path, block: Block) -> None:
    """It is what it is said to be, to the program that reads it."""
    if block.page.name in HELD:
        return
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "configuration.yml"
    file.write_text(block.text)
    keys = set(yaml.safe_load(block.text))
    if "tls_server_config" in keys:
        assert web.load(str(file)).basic_auth_users
        known = [line for line in block.text.splitlines() if not any(map(line.count, NEWER))]
        file.write_text("\n".join(known))
        promtool("check", "web-config", file)
    elif "tls_config" in keys:
        assert http.load(str(file)).basic_auth
    elif keys == {"params"}:
        params = yaml.safe_load(block.text)["params"]
        assert set(params["collect[]"]) <= {*COLLECTORS}
        scrape(tmp_path, {"job_name": "netatop", "params": params})
    elif keys == {"scrape_configs"}:
        promtool("check", "config", file)
    else:
        done = program.run("check-config", "--config.file", file)
        assert done.returncode == 0, done.stderr


@pytest.mark.kernel
def test_who_may_ask(home: Path, tmp_path: Path) -> None:
    """The files of docs/web.md, of a server and of a client, fit each other."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    asked, scraped, asking = found("yaml", DOCS / "web.md")
    assert "scrape_configs" in scraped.text
    [example] = re.findall(r"\$2y\$\S+", asked.text)
    hashed = bcrypt.hashpw((tmp_path / "password").read_bytes(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(asked.text.replace(example, hashed))
    (tmp_path / "client.yml").write_text(asking.text)
    with program.start("--web.config.file", str(tmp_path / "web.yml")) as exporter:
        wait_until(lambda: " serves https://" in exporter.log, "it serves")
        question = ("status", "--web.listen-address", exporter.address)
        done = program.run(*question, "--http.config.file", tmp_path / "client.yml")
        assert done.returncode == 0, done.stderr
        assert "as /proc/netatop:" in done.stdout
        assert program.run(*question).returncode == 1, "not without"


def test_scrape_configuration_of_readme(tmp_path: Path) -> None:
    """The one line of README.md is all that Prometheus takes."""
    [line] = re.findall(r"`(scrape_configs: [^`]*)`", pages.text(pages.PAGES[0]))
    file = tmp_path / "prometheus.yml"
    file.write_text(line)
    promtool("check", "config", file)


def scrape(folder: Path, job: dict[str, object]) -> None:
    """Hold that Prometheus takes this of a job."""
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    promtool("check", "config", file)


def promtool(*words: str | Path) -> None:
    """Run it; what it says, if it fails, is the failure."""
    done = subprocess.run(("promtool", *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", found("promql"), ids=lambda block: block.name)
def test_queries(tmp_path: Path, block: Block) -> None:
    """Each is one to Prometheus. A line that is indented, or closes, belongs to the one before."""
    queries = re.split(r"\n(?![\s)])", block.text)
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", file)


@pytest.mark.parametrize(
    "block",
    [one for one in found("") if one.text.startswith("netatop_")],
    ids=lambda block: block.name,
)
def test_samples(block: Block) -> None:
    """Lines of an exposition are that."""
    samples = [sample for family in parse_text(f"{block.text}\n") for sample in family.samples]
    assert len(samples) == len(block.text.splitlines())
    assert all(set(sample.labels) == {*GROUP, "protocol"} for sample in samples)
