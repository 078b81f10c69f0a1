# SPDX-License-Identifier: Apache-2.0
"""The kernel side: bytes, pointers and errno stay in here; a Tracer comes out."""
