# SPDX-License-Identifier: Apache-2.0
"""Who is using the network on this host: a Prometheus exporter on eBPF socket accounting."""

__version__ = "0.1.0"
