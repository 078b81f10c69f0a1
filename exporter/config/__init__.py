# SPDX-License-Identifier: Apache-2.0
"""What the user chose, checked: on the command line (flags) and in a file (settings, document)."""
