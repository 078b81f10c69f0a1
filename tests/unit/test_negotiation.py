# SPDX-License-Identifier: Apache-2.0
"""Formats by Accept header."""

from __future__ import annotations

import pytest

from exporter.negotiation import wants_gzip, wants_openmetrics

PROMETHEUS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;"
    "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS, True),
        ("", False),
        ("*/*", False),
        ("text/html", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("APPLICATION/OpenMetrics-Text", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text; version=2.0.0", False),
        ("application/openmetrics-text; version=abc", False),
        ("application/openmetrics-text; q=0", False),
        ("application/openmetrics-text; q=0.4, text/plain; q=0.5", False),
        ("application/openmetrics-text; q=0.5, text/plain; q=0.5", True),
        ("application/openmetrics-text; q=x", False),
        ("application/openmetrics-text; q=7", False),
        (";;,,=;q", False),
    ],
)
def test_openmetrics(accept: str, *, openmetrics: bool) -> None:
    """The highest quality wins; rubbish gets the text format."""
    assert wants_openmetrics(accept) is openmetrics


@pytest.mark.parametrize(
    ("header", "gzip"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
    ],
)
def test_gzip(header: str, *, gzip: bool) -> None:
    """Only for those who say that they can read it."""
    assert wants_gzip(header) is gzip
