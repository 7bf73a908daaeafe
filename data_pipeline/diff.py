"""What changed between two texts, for people to read: rows of pieces, in both languages down to characters and words.

Lines are compared first, then the units (a CJK character, a word) inside lines that changed. Every step is bounded,
since difflib can be cubic: common beginnings and ends are taken off in linear time, and what is still too large is
listed without order (lines) or shown as a whole (units): about a second for texts of 5 MB. Memory: some copies of both.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from mindllm.text import CJK

SAME, GONE, NEW, NOTE = "same", "gone", "new", "note"
MAX_LINES = 2000  # of each text, in what the two do not begin or end with
MAX_UNITS = 1500  # of a changed stretch
_UNIT_BUDGET = 20_000  # units compared in one diff
_LEAST_COMMON = 0.3  # share of equal units below which two stretches are shown as one gone and one new
_CONTEXT = 1  # unchanged lines shown on either side of a change
_AROUND, _MUCH = 60, 400  # characters shown around a change inside a line; of something gone or new
_UNIT = re.compile(rf"[{CJK}]|[^\W_{CJK}]+ ?|\s+|.", re.DOTALL)


class Piece(NamedTuple):
    """A stretch of text and what became of it: SAME, GONE, NEW; NOTE is a word of ours."""

    kind: str
    text: str


Row = list[Piece]


def diff(before: str, after: str) -> Iterator[Row]:
    """Rows to print under each other, long unchanged stretches folded; nothing for equal texts."""
    if before == after:
        return
    old, new = before.split("\n"), after.split("\n")
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    yield from _same(old[:head], at_start=True)
    yield from _changed(old[head : len(old) - tail], new[head : len(new) - tail])
    yield from _same(old[len(old) - tail :], at_end=True)


def shorten(text: str, limit: int = _MUCH) -> str:
    """`text`, or its beginning and end with the number of characters between them."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} …({len(text) - 2 * half:,} characters)… {text[-half:]}"


def _common(one: Sequence[str], two: Sequence[str]) -> int:
    """Length of the common beginning."""
    for n, (a, b) in enumerate(zip(one, two, strict=False)):
        if a != b:
            return n
    return min(len(one), len(two))


def _same(lines: list[str], at_start: bool = False, at_end: bool = False) -> Iterator[Row]:
    """Unchanged lines: those next to a change, and how many there are between."""
    first, last = (0 if at_start else _CONTEXT), (0 if at_end else _CONTEXT)
    if len(lines) <= first + last + 1:
        yield from ([Piece(SAME, shorten(line))] for line in lines)
        return
    yield from ([Piece(SAME, shorten(line))] for line in lines[:first])
    yield [Piece(NOTE, f"… {len(lines) - first - last:,} lines unchanged …")]
    yield from ([Piece(SAME, shorten(line))] for line in lines[len(lines) - last :])


def _changed(old: list[str], new: list[str]) -> Iterator[Row]:
    if old and new and max(len(old), len(new)) > MAX_LINES:
        yield from _unordered(old, new)
        return
    budget = _UNIT_BUDGET
    for kind, i, j, k, m in SequenceMatcher(None, old, new).get_opcodes():  # autojunk bounds what frequent lines cost
        if kind == "equal":
            yield from _same(old[i:j])
        elif kind != "replace":
            yield from _whole(old[i:j], GONE)
            yield from _whole(new[k:m], NEW)
        else:
            pieces = list(_inside("\n".join(old[i:j]), "\n".join(new[k:m]), budget))
            budget -= sum(len(piece.text) for piece in pieces)
            yield from _rows(pieces)


def _unordered(old: list[str], new: list[str]) -> Iterator[Row]:
    """The lines that only one side has; says so first."""
    gone, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
    note = f"too many changed lines to compare in order ({len(old):,} and {len(new):,}); those on one side only:"
    yield [Piece(NOTE, note)]
    for lines, only, kind in ((old, gone, GONE), (new, come, NEW)):
        for line in lines:
            if only[line] > 0:
                only[line] -= 1
                yield [Piece(kind, shorten(line))]


def _whole(lines: list[str], kind: str) -> Iterator[Row]:
    yield from ([Piece(kind, shorten(line))] for line in lines)


def _inside(old: str, new: str, budget: int) -> Iterator[Piece]:
    """What changed inside a stretch of lines, by units."""
    head = len(os.path.commonprefix((old, new)))
    tail = len(os.path.commonprefix((old[head:][::-1], new[head:][::-1])))
    one, two = old[head : len(old) - tail], new[head : len(new) - tail]
    yield from _around(old[:head], at_start=True)
    units_one, units_two = _few_units(one, budget), _few_units(two, budget)
    matcher = SequenceMatcher(None, units_one, units_two)
    if not one or not two or not units_one or not units_two or matcher.ratio() < _LEAST_COMMON:
        yield from (Piece(kind, shorten(text)) for kind, text in ((GONE, one), (NEW, two)) if text)
    else:
        for kind, i, j, k, m in matcher.get_opcodes():
            if kind == "equal":
                yield from _around("".join(units_one[i:j]))
                continue
            pieces = (Piece(GONE, "".join(units_one[i:j])), Piece(NEW, "".join(units_two[k:m])))
            yield from (piece._replace(text=shorten(piece.text)) for piece in pieces if piece.text)
    yield from _around(old[len(old) - tail :], at_end=True)


def _few_units(text: str, budget: int) -> list[str]:
    """The units of a stretch, or none if there are too many to compare."""
    if len(text) > min(budget, 20 * MAX_UNITS):
        return []
    units = _UNIT.findall(text)
    return units if len(units) <= MAX_UNITS else []


def _around(text: str, at_start: bool = False, at_end: bool = False) -> Iterator[Piece]:
    """An unchanged stretch of changed lines: what stands next to the changes."""
    if not text:
        return
    first, last = (0 if at_start else _AROUND), (0 if at_end else _AROUND)
    hidden = len(text) - first - last
    if hidden <= _AROUND:
        yield Piece(SAME, text)
        return
    yield from (Piece(SAME, text[:first]),) if first else ()
    yield Piece(NOTE, f"…({hidden:,} characters)…")
    yield from (Piece(SAME, text[len(text) - last :]),) if last else ()


def _rows(pieces: list[Piece]) -> Iterator[Row]:
    """Pieces as rows: a new one after each line end."""
    row: Row = []
    for kind, text in pieces:
        first, *rest = text.split("\n")
        row += [Piece(kind, first)] if first else []
        for line in rest:
            row += [] if kind == SAME else [Piece(kind, "⏎")]
            yield row
            row = [Piece(kind, line)] if line else []
    if row:
        yield row
