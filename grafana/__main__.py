# SPDX-License-Identifier: Apache-2.0
"""Write the JSON of all dashboards, into grafana/dashboards or the directory that is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana import exits, exporter, fleet, group, host
from grafana.board import as_json

HERE = Path(__file__).parent / "dashboards"


def main() -> None:
    """Write one file for each."""
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for module in (fleet, host, group, exits, exporter):
        found = as_json(module.BOARD)
        text = json.dumps(found, indent=1, ensure_ascii=False)
        (place / f"{module.BOARD.uid}.json").write_text(text + "\n", encoding="utf-8")


main()
