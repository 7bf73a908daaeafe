"""Writes blocks as text: a blank line between paragraphs, "- " and "1. " for list items, tabs between table cells.

Code keeps its lines and indentation; in a page with code, nothing else begins with four blanks. Cost: linear, some
.05 ms a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from data_pipeline.pages.blocks import Block, Page
from data_pipeline.pages.nodes import PRE

_NEAR = 4  # levels above a block within which its list item, row or cell is looked for
_MAX_CELL = 300  # bytes: a table with longer cells is layout, its cells are paragraphs
_MAX_INDENT = 4  # list levels that are indented


def write(page: Page, blocks: Sequence[Block]) -> str:
    """The text of these blocks of the page, in their order."""
    places = [_Place(page, block) for block in blocks]
    numbers = _item_numbers(page)
    pieces: list[str] = []
    seen: set[int] = set()
    last: _Place | None = None
    for _row, run in groupby(places, key=lambda place: place.row or -1 - id(place)):
        row = list(run)
        for place, text in _lines(row, page, numbers, seen):
            if last is not None:
                pieces.append("\n" if _is_tight(last, place) else "\n\n")
            pieces.append(text)
            last = place
    return "".join(pieces)


class _Place:
    """Where a block stands: the elements of its list item, table row and cell; 0 for none."""

    __slots__ = ("block", "item", "row", "cell")

    def __init__(self, page: Page, block: Block):
        self.block, self.item, self.row, self.cell = block, 0, 0, 0
        element = block.element
        for _ in range(_NEAR):
            if element <= 0:
                return
            tag = page.tags[element]
            if tag == "tr":
                self.row = element
                return
            if tag in ("td", "th"):
                self.cell = element
            elif tag in ("li", "dt", "dd"):
                self.item = self.item or element
                return
            element = page.parents[element]


def _lines(row: list[_Place], page: Page, numbers: dict[int, int], seen: set[int]) -> Iterator[tuple[_Place, str]]:
    """A table row of short cells as one line; else every block as one."""
    cells = {place.cell for place in row}
    if (
        len(row) > 1
        and len(cells) == len(row)
        and all(p.block.size <= _MAX_CELL and "\n" not in p.block.text for p in row)
    ):
        yield row[0], "\t".join(place.block.text for place in row)
        return
    for place in row:
        mark = ""
        if place.item and place.item not in seen:
            seen.add(place.item)
            mark = _item_mark(page, place.item, numbers)
        yield place, mark + place.block.text


def _item_numbers(page: Page) -> dict[int, int]:
    """The place of every item of a numbered list among its siblings, from 1; {} for a page without such lists."""
    numbers: dict[int, int] = {}
    if "ol" not in page.tags:
        return numbers
    counts: dict[int, int] = {}
    for element, tag in enumerate(page.tags):
        if tag == "li":
            parent = page.parents[element]
            counts[parent] = numbers[element] = counts.get(parent, 0) + 1
    return numbers


def _item_mark(page: Page, item: int, numbers: dict[int, int]) -> str:
    """What stands before a list item: indentation by depth, then "- " or its number."""
    if page.tags[item] != "li":
        return ""
    above = [page.tags[e] for e in _ancestors(page, item)]
    depth = min(max(sum(tag in ("ul", "ol") for tag in above) - 1, 0), _MAX_INDENT)
    if page.tags[page.parents[item]] != "ol":
        return "  " * depth + "- "
    return "  " * depth + f"{numbers[item]}. "


def _ancestors(page: Page, element: int) -> Iterator[int]:
    while page.parents[element] > 0:
        element = page.parents[element]
        yield element


def _is_tight(last: _Place, place: _Place) -> bool:
    """Whether two blocks stand on consecutive lines: items, rows, and lines of one paragraph."""
    if PRE in (last.block.kind, place.block.kind):
        return False
    if last.row and place.row:
        return True
    if last.item and place.item:
        return True
    return last.block.paragraph == place.block.paragraph
