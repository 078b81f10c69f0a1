# SPDX-License-Identifier: Apache-2.0
"""`top`: a live table of who is using the network, asked of the exporter that runs on this host.

All but the screen is made of pure functions, and needs no library.
"""
