"""Finds the items of an index in documents, many documents at a time.

Seeds say where an item may be: as many of them as it takes inside a stretch twice as long as the item. There its small
n-grams are compared; the share of them that the stretch holds decides. So long books do not collect an item from all
over, unrelated text with a phrase in common stays below, and copies with errors stay above.
Cost: 3 MB/s a core with the fifteen benchmarks, most of it for comparing what shares a seed. Memory: some 300 bytes a
character of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eval.contamination.grams import Grams, Units
from eval.contamination.index import SEARCHED, SEED_BYTES, SMALL_SIZE, Index

BATCH_CHARACTERS = 100_000  # memory: 30 MB, and fits caches
LONG = 46  # small n-grams outside templates (those of wide letters count twice), as in a sentence of 50 letters: of a
# text with fewer, more than min_share has to be there
_SLACK = 16  # units: letters of choices, other choices in between
_STRETCHES = 3  # of a document, compared with an item: a solution may repeat the words of its question
_MIN_SEED_SHARE = 0.03  # of an item's seeds, but at least 2 if it has MANY
_MANY = 16
_LINES_BELOW = 10  # in which the answer of a question has to stand that is a line by itself, that line included


class Found(NamedTuple):
    """An item's text in a document of the batch: which document, which entry, the share of its small n-grams, and the
    units of the document, counted from its first, in which the seeds stand."""

    document: int
    entry: int
    share: float
    begin: int
    end: int


class _Candidate(NamedTuple):
    """Units [low, high) of the batch, inside a document, that may hold an entry; its seeds begin in [first, last]."""

    document: int
    entry: int
    low: int
    high: int
    first: int
    last: int


def search(index: Index, texts: Sequence[str], min_share: float) -> list[Found]:
    """The entries that `texts` hold, by document, then entry.

    min_share: of a text of size LONG or more; of a shorter one more, all of one without any.
    """
    units = Units(texts)
    candidates = list(_candidates(index, units))
    found = {(hit.document, hit.entry): hit for hit in _lines(index, texts)}
    if candidates:
        small = units.letters.grams(SMALL_SIZE)
        for candidate in candidates:
            low, high = units.letter_starts[[candidate.low, candidate.high]].tolist()
            share = _share(index.smalls_of(candidate.entry), small, low, high)
            if share >= needed_share(int(index.entries["size"][candidate.entry]), min_share):
                start = int(units.starts[candidate.document])
                seeds = (candidate.first - start, candidate.last - start + 1)
                hit = Found(candidate.document, candidate.entry, share, *seeds)
                best = found.setdefault(hit[:2], hit)
                found[hit[:2]] = hit if hit.share > best.share else best
    return [found[place] for place in sorted(found)]


def needed_share(size: int, min_share: float) -> float:
    """The share that a text of this size (ENTRY) needs: from 1 for none, falling evenly to min_share at LONG."""
    return min_share + (1 - min_share) * max(0.0, 1 - size / LONG)


def _seeds(index: Index, units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Where seeds of the index begin in the units, and the entry of each; by place."""
    grams = units.grams(SEED_BYTES)
    maybe = index.maybe(grams.hashes)
    begins, hashes = grams.begins[maybe], grams.hashes[maybe]
    first = np.searchsorted(index.keys, hashes, side="left")
    count = np.searchsorted(index.keys, hashes, side="right") - first
    offsets = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(begins, count), index.owners[np.repeat(first, count) + offsets].astype(np.int64)


def _candidates(index: Index, units: Units) -> Iterator[_Candidate]:
    """Stretches of units that hold as many seeds of an entry as it takes."""
    places, owners = _seeds(index, units)
    if not len(places):
        return
    documents = np.searchsorted(units.starts, places, side="right") - 1
    order = np.lexsort((places, owners, documents))
    places, owners, documents = places[order], owners[order], documents[order]
    group = np.cumsum(np.append(0, (owners[1:] != owners[:-1]) | (documents[1:] != documents[:-1])))
    entries = index.entries[owners]
    reach = 2 * entries["units"].astype(np.int64) + _SLACK
    line = group * (len(units) + int(reach.max()) + 1) + places  # groups so far apart that none reaches the next
    stop = np.searchsorted(line, line + reach, side="right")
    count = stop - np.arange(len(places))
    needed = np.where(entries["seeds"] < _MANY, 1, np.maximum(2, np.ceil(_MIN_SEED_SHARE * entries["seeds"])))
    good = np.flatnonzero((count >= needed) & (entries["state"] == SEARCHED))
    cell = group * (int(line[-1]) + 1) + line // reach  # of places so near that one stretch may reach them all
    best = good[np.lexsort((good, -count[good], cell[good]))]  # of each cell the fullest, the first of those
    best = best[_rank(cell[best]) == 0]
    best = best[np.lexsort((best, -count[best], group[best]))]
    for i in best[_rank(group[best]) < _STRETCHES].tolist():
        document, last = int(documents[i]), int(places[stop[i] - 1])
        low = max(int(units.starts[document]), last - int(reach[i]))
        high = min(int(units.starts[document + 1]), int(places[i]) + int(reach[i]))
        yield _Candidate(document, int(owners[i]), low, high, int(places[i]), last)


def _rank(groups: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... in every run of equal values."""
    begins = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[: len(groups)])
    return np.arange(len(groups)) - np.repeat(begins, np.diff(np.append(begins, len(groups))))


def _share(wanted: np.ndarray, small: Grams, low: int, high: int) -> float:
    """The share of `wanted` among the small n-grams in letters [low, high)."""
    first, last = np.searchsorted(small.begins, [low, high])
    there = small.hashes[first:last][small.ends[first:last] <= high]
    return float(np.isin(wanted, there).mean()) if len(wanted) else 0.0


def _lines(index: Index, texts: Sequence[str]) -> Iterator[Found]:
    """Entries without seeds whose question is a whole line of a document, and whose answer ends a line soon after.

    Without the answer a heading ("Concrete") would be an item. memory: the units of all lines once more.
    """
    if not len(index.lines):
        return
    lines = [(document, line) for document, text in enumerate(texts) for line in text.split("\n")]
    units = Units([line for _, line in lines])
    hashes = units.stretches(units.starts[:-1], units.starts[1:])
    first_line = np.searchsorted([document for document, _ in lines], np.arange(len(texts) + 1))
    for place in np.flatnonzero(np.isin(hashes, index.lines)).tolist():
        document = lines[place][0]
        ends = _line_ends(units, place, min(place + _LINES_BELOW, int(first_line[document + 1])))
        low, high = (int(np.searchsorted(index.lines, hashes[place], side=side)) for side in ("left", "right"))
        begin, end = (units.starts[[place, place + 1]] - units.starts[first_line[document]]).tolist()
        for entry in index.line_owners[low:high][np.isin(index.line_ends[low:high], ends)].tolist():
            yield Found(document, entry, 1.0, begin, end)


def _line_ends(units: Units, first: int, stop: int) -> np.ndarray:
    """uint64: the hashes of all that lines [first, stop) end with: their last unit, their last two ..."""
    begins = np.arange(units.starts[first], units.starts[stop])
    ends = np.repeat(units.starts[first + 1 : stop + 1], np.diff(units.starts[first : stop + 1]))
    return units.stretches(begins, ends)
