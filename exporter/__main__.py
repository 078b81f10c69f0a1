# SPDX-License-Identifier: Apache-2.0
"""`python -m exporter` is `netatop-exporter`."""

import sys

from exporter.cli import main

sys.exit(main())
