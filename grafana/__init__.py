# SPDX-License-Identifier: Apache-2.0
"""The dashboards, as code; `python -m grafana` writes their JSON. Not a part of the exporter."""
