"""eval.report.figures: valid, reproducible SVG in the page's own colour and font, no ids that clash on one page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.figures import MAX_POINTS, Line, Point, curves, funnel, lines, thinned

LINES = [
    Line("#3b82c4", [Point(1, 25.5, 0.4, True), Point(2, 30.0)], chance=25.0),
    Line("#e08a2e", [Point(1, 2.0)]),
]
FIGURES = {
    "funnel": lambda: funnel(["raw", "clean"], {"zh-Hans": [9, 4], "zh-Hant": [3, 3], "en": [7, 5]}),
    "curves": lambda: curves([(0, 9.0), (1, 5.0), (2, 4.0)], [(1, 5.5)], "tokens, millions"),
    "lines": lambda: lines("lines", LINES, "tokens, millions", "percent"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_valid_reproducible_and_take_the_pages_colour(name: str) -> None:
    before = dict(matplotlib.rcParams)
    svg = FIGURES[name]()
    assert svg == FIGURES[name]()
    assert dict(matplotlib.rcParams) == before
    ElementTree.fromstring(svg)  # raises where it is not well formed
    assert svg.startswith("<svg") and "currentColor" in svg and "#010203" not in svg
    assert "<metadata" not in svg and "DejaVu" not in svg and "<script" not in svg
    assert not re.search(r"\d{4}-\d\d-\d\d", svg)


def test_ids_are_unique_on_one_page_and_references_hit() -> None:
    page = "".join(draw() for draw in FIGURES.values())
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_labels_are_text_as_it_was_given() -> None:
    assert ">zh-Hant</text>" in FIGURES["funnel"]()
    assert ">a$b$c</text>" in funnel(["a$b$c"], {"en": [1]})


def test_nothing_to_draw_is_still_a_figure() -> None:
    for svg in (funnel(["raw"], {"en": [0]}), curves([], [], "steps"), curves([(0, 1.0)], [], "steps")):
        ElementTree.fromstring(svg)


@given(st.integers(0, 5 * MAX_POINTS))
def test_long_curves_are_thinned_to_means(num_points: int) -> None:
    points = [(float(i), 2.0 * i) for i in range(num_points)]
    thin = thinned(points)
    assert len(thin) <= MAX_POINTS and (thin == points if num_points <= MAX_POINTS else thin)
    assert all(y == pytest.approx(2 * x) for x, y in thin)
    assert [x for x, _ in thin] == sorted(x for x, _ in thin)
