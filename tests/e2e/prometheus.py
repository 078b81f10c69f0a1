# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus, with data of its own, that scrapes one exporter; and promtool."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import urllib.parse
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.e2e.program import LOCAL, free_port, listens
from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION: Final = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: netatop
    static_configs: [{{targets: ['{target}']}}]
"""


class Point(NamedTuple):
    """A sample as it is stored."""

    time: float
    value: float


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._port = port

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOCAL, self._port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def is_ready(self) -> bool:
        """Tell whether it answers queries."""
        if not listens(self._port):
            return False
        try:
            return self._get("/-/ready")[0] == 200
        except OSError:
            return False

    def ask(self, path: str, **arguments: object) -> Any:
        """Return the data of an answer of its API."""
        status, body = self._get(f"/api/v1/{path}?{urllib.parse.urlencode(arguments)}")
        assert status == 200, body
        return json.loads(body)["data"]

    def query(self, expression: str, **arguments: object) -> list[dict[str, Any]]:
        """Return the result of an instant query, series by series."""
        found: list[dict[str, Any]] = self.ask("query", query=expression, **arguments)["result"]
        return found

    def value(self, expression: str) -> float:
        """Return the one value of a query; 0 if there is none."""
        found = self.query(expression)
        assert len(found) <= 1
        return float(found[0]["value"][1]) if found else 0.0

    def points(self, selector: str) -> list[Point]:
        """Return all stored samples of the one series that the selector matches."""
        (found,) = self.all_points(selector)
        return found

    def all_points(self, selector: str) -> list[list[Point]]:
        """Return all stored samples of the series that the selector matches."""
        found = self.query(f"{selector}[10m]")
        return [[Point(time, float(value)) for time, value in one["values"]] for one in found]


def prometheus(
    target: str, folder: Path, more: str = ""
) -> contextlib.AbstractContextManager[Prometheus]:
    """Run Prometheus, which scrapes the target every second and keeps its data in the folder.

    more: lines of the scrape configuration.
    """
    return configured(CONFIGURATION.format(target=target) + more, folder)


@contextlib.contextmanager
def configured(text: str, folder: Path, *flags: str, port: int = 0) -> Iterator[Prometheus]:
    """Run Prometheus with this configuration and these flags; its data are in the folder."""
    port = port or free_port()
    configuration = folder / "prometheus.yml"
    configuration.write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            (
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={LOCAL}:{port}",
                *flags,
            ),
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        server = Prometheus(port)

        def is_ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            return server.is_ready()

        wait_until(is_ready, "Prometheus is ready")
        yield server
        assert process.poll() is None, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def lint(exposition: str) -> str:
    """Return what `promtool check metrics` finds fault with: nothing, if all is well."""
    done = subprocess.run(
        ("promtool", "check", "metrics"),
        input=exposition,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = done.stdout + done.stderr
    return f"exit status {done.returncode}: {said}" if done.returncode or said else ""
