# SPDX-License-Identifier: Apache-2.0
"""One module for each command, whose `run` does it; cli.py imports the one that is wanted."""
