# SPDX-License-Identifier: Apache-2.0
"""Reports as JSON, for programs: a module for each noun, which has a PATH and answers there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.api import exits, groups, hosts, processes, sockets, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.model import Report

ANSWERS: Final[Mapping[str, Callable[[Report, str], bytes]]] = {
    module.PATH: module.answer for module in (exits, groups, hosts, processes, sockets, threads)
}
"""By path: what a report says there, and a query. They raise ConfigError."""
