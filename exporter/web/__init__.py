# SPDX-License-Identifier: Apache-2.0
"""The web server: /metrics, the page, the API behind it, and who may ask."""
