# SPDX-License-Identifier: Apache-2.0
"""Our text is prometheus_client's, line by line, in both formats; what it remembers is bounded."""

from __future__ import annotations

import gzip
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.exposition import number
from exporter.exposition.family import Family
from exporter.exposition.renderer import Renderer
from exporter.exposition.rendering import Rendering
from exporter.exposition.table import Families, Histogram, Table
from tests.unit import clients

NAMES = ("netatop_a", "netatop_b_bytes", "netatop_c_packets", "netatop_d_e_seconds")
LABELS = ("pid", "process", "group", "protocol", "le_", "Z", "a1")
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=())),  # surrogates, too
    st.text(st.sampled_from('a"\\\n{}=,% \r\0é\U0001f600')),
    st.binary(max_size=8).map(os.fsdecode),  # as file names are given by the kernel
)
NUMBERS = st.one_of(
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(0, 64).map(lambda power: 2**power),
    st.integers(-20, 20).map(lambda power: 10.0**power),
    st.integers(0, 20).map(lambda power: 10**power - 1),
    st.booleans(),
)
HELP = st.text(st.sampled_from('ab"\\\n% '))


@st.composite
def tables(draw: st.DrawFn) -> list[Families]:
    """Make counters, gauges and histograms with any labels, values and numbers."""
    found: list[Families] = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        labels = tuple(draw(st.lists(st.sampled_from(LABELS), unique=True)))
        rows = st.lists(st.tuples(*[VALUES] * len(labels)), max_size=4)
        if draw(st.booleans()):
            kind, width = draw(st.sampled_from(("counter", "gauge"))), draw(st.integers(1, 4))
            families = tuple(
                Family(f"{chr(ord('a') + place)}_{name}", kind, draw(HELP))
                for place in range(width)
            )
            numbers = st.tuples(*[NUMBERS] * width)
            found.append(Table(families, labels, [(row, draw(numbers)) for row in draw(rows)]))
        else:
            bounds = tuple(sorted(draw(st.sets(st.floats(1e-9, 1e20), max_size=4))))
            counts = st.lists(
                st.integers(0, 2**60), min_size=len(bounds) + 1, max_size=len(bounds) + 1
            )
            cumulative = [tuple(itertools.accumulate(draw(counts))) for _ in range(9)]
            histogram = [
                (row, (*counts, counts[-1], draw(NUMBERS)))
                for row, counts in zip(draw(rows), cumulative, strict=False)
            ]
            family = Family(name, "histogram", draw(HELP))
            found.append(Histogram(family, labels, bounds, histogram))
    return found


def clean(found: list[Families]) -> list[Families]:
    """Return them without what can't be encoded, which prometheus_client refuses."""

    def text(value: str) -> str:
        return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in value)

    return [
        table._replace(rows=[(tuple(map(text, row)), numbers) for row, numbers in table.rows])
        for table in found
    ]


@pytest.mark.parametrize("openmetrics", [False, True])
@given(data=st.data())
def test_as_prometheus_client_writes_it(openmetrics: bool, data: st.DataObject) -> None:
    """Also from what it remembers of the last time."""
    found = data.draw(tables())
    expected = clients.render(clean(found), openmetrics=openmetrics).splitlines(keepends=True)
    renderer = Renderer()
    for _ in range(2):
        said = renderer.render(found, openmetrics=openmetrics)
        assert said.splitlines(keepends=True) == expected


@given(value=NUMBERS)
@example(value=2**53)
@example(value=2**53 + 1)
@example(value=10**6)
@example(value=1e6)
@example(value=999_999.5)
@example(value=1e16)
@example(value=-0.0)
@example(value=-1e7)
@example(value=math.nan)
def test_a_number(value: float) -> None:
    """As in Go, with the digits that a float has."""
    table = Table((Family("a", "gauge", ""),), (), [((), (value,))])
    expected = clients.render([table]).splitlines()[-1]
    assert f"a {number.text(value)}".encode() == expected


def test_a_missing_label_is_an_error() -> None:
    """The library would drop the label without a word."""
    table = Table((Family("x", "gauge", "X."),), ("a", "b"), [(("1",), (1,))])
    with pytest.raises(ValueError, match="1 label values for the labels"):
        Renderer().render([table])


@pytest.mark.parametrize("numbers", [(1,), (1, 2, 3)])
def test_a_missing_number_is_an_error(numbers: tuple[int, ...]) -> None:
    """And one too many, for which there is no family."""
    families = (Family("x", "gauge", "X."), Family("y", "gauge", "Y."))
    with pytest.raises(ValueError, match="zip"):
        Renderer().render([Table(families, (), [((), numbers)])])


def crowd(generation: int, size: int) -> list[Families]:
    """Make tables of which no series has been there before."""
    family = Family("a_bytes", "counter", "A.")
    rows = [((str(size * generation + place), "x"), (place,)) for place in range(size)]
    histogram = [((values[0],), (1, 2, 2, 23.5)) for values, _ in rows]
    return [
        Table((family,), ("pid", "process"), rows),
        Histogram(Family("b", "histogram", "B."), ("group",), (1.0,), histogram),
    ]


def remembered(renderer: Renderer) -> int:
    """Return of how many series the text is kept."""
    return sum(map(len, renderer._texts.values()))


def test_memory_ends_with_the_series() -> None:
    """Whoever comes and goes: it remembers those of the last exposition."""
    renderer = Renderer()
    for generation in range(101):
        found = crowd(generation, 53)
        assert renderer.render(found) == clients.render(found)
        assert remembered(renderer) == 2 * 53


def test_memory_of_what_is_not_asked_for() -> None:
    """A scrape for other families leaves it as it is: the next one finds it."""
    renderer, found = Renderer(), crowd(0, 53)
    renderer.render(found)
    renderer.render(found[:1])
    assert remembered(renderer) == 2 * 53


def test_compressed_once() -> None:
    """For all who want it, at the same time."""
    body = b"netatop_tasks 23.0\n" * 4099
    rendering = Rendering(body)
    with ThreadPoolExecutor(7) as pool:
        found: set[Any] = {id(x) for x in pool.map(lambda _: rendering.compressed, range(53))}
    assert len(found) == 1
    assert gzip.decompress(rendering.compressed) == body
