"""Keys to pairs, pairs to components, and what to keep of each: the pure part of deduplication, in numpy.

The order that decides what stays: documents of earlier runs, then most units, then lowest number. In a component
documents are taken in this order: each stays unless it is similar enough to one that stays, so every drop has a
witness, and a long chain of small changes is cut. Cost: a sort a band; see `connect` and `choose` for theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

MAX_LEADERS = 16  # documents of one bucket that others are compared with, at most
ROWS_AT_ONCE = 1 << 15  # memory: signatures of members at a time, 16 MB at 128 hashes; a multiple of BLOCK
BLOCK = 256  # members of one component that are compared at a time
NODES_AT_ONCE = 1 << 20
MAX_KEPT = 1 << 16  # kept documents of one component that others are compared with: the latest ones
_FEW, _COLUMNS = 32, 4096  # how count_equal goes about it: rows; columns that fit a processor's cache


def sharing(keys: np.ndarray) -> np.ndarray:
    """The places of keys (n,) that are there more than once, in ascending order of keys; equal ones as they stood.

    memory: 21 bytes a key: order, half an order while sorting, sorted keys, marks.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    shared = np.zeros(len(keys), dtype=bool)
    shared[1:] = ordered[1:] == ordered[:-1]
    shared[:-1] |= shared[1:]
    del ordered
    return order[shared]


def find_copies(keys: np.ndarray, second: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
    """int64 (2, k): every document but the first with the same (key, second), ascending; and that first one."""
    order = np.lexsort((ordinals, second, keys))
    keys, second, ordinals = keys[order], second[order], ordinals[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (keys[1:] != keys[:-1]) | (second[1:] != second[:-1])
    originals = np.repeat(ordinals[first], _lengths(first))
    table = np.stack([ordinals, originals]).astype(np.int64)[:, ~first]
    return table[:, np.argsort(table[0])]


def _lengths(first: np.ndarray) -> np.ndarray:
    """Lengths of the runs that begin where `first` is true."""
    return np.diff(np.append(np.flatnonzero(first), len(first)))


def candidate_pairs(keys: np.ndarray, similar: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """Pairs (k, 2) of places with equal keys that `similar` (pairs -> bool) confirms. Equal keys stand together.

    Those with one key are a bucket. All are compared with its first; those unlike it with the first of what is left,
    and so on, MAX_LEADERS times: unlike pages of one template share buckets, too, and must not hide copies behind them.
    memory: 40 bytes a key.
    """
    order = np.arange(len(keys))
    for _ in range(MAX_LEADERS):
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        pairs = np.stack([np.repeat(order[first], _lengths(first)), order], axis=1)[~first]
        if len(pairs) == 0:
            return
        good = similar(pairs)
        yield pairs[good]
        order, keys = pairs[~good, 1], keys[~first][~good]


def connect(total: int, pairs: Iterable[np.ndarray]) -> np.ndarray:
    """int64 (total,): for each of `total` nodes the lowest node of its component; `pairs`: arrays (k, 2), one by one.

    Union-find on whole batches: of two roots with a pair the higher one is hung below the lower one, then all paths are
    cut short, until no pair has two roots; a handful of rounds. memory: 8 bytes a node, 50 a pair of the batch.
    """
    parents = np.arange(total, dtype=np.int64)
    for batch in pairs:
        ends = batch
        while len(ends):
            ends = _roots(parents, ends)
            ends = ends[ends[:, 0] != ends[:, 1]]
            np.minimum.at(parents, ends.max(axis=1, initial=0), ends.min(axis=1, initial=total))
        _roots(parents, batch)  # keeps paths short for the batches to come
    for start in range(0, total, NODES_AT_ONCE):  # in order: what is below a node lies before it, and is final
        _roots(parents, np.arange(start, min(start + NODES_AT_ONCE, total)))
    return parents


def _roots(parents: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The roots of nodes, which hang right below them afterwards. Paths are doubled: n nodes take log(n) steps."""
    while True:
        above = parents[nodes]
        higher = parents[above]
        if np.array_equal(above, higher):
            return above
        parents[nodes] = higher


def ranked(components: np.ndarray, fixed: np.ndarray, num_units: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
    """The order of members: component by component, in each the one that is to stay first."""
    return np.lexsort((ordinals, -num_units, ~fixed, components))


def choose(
    first: np.ndarray, fixed: np.ndarray, signatures: Callable[[slice], np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """For members as `ranked` orders them: the place of the kept one each is closest to (its own: kept), and how close.

    first: where components begin.  fixed: members that stay.  signatures: reads (n, num_hashes) of consecutive members.
    slow: members x kept of a component, 15 ns each at 128 hashes (20,000 unlike pages of a template: 3 s); from
    MAX_KEPT kept ones on, only the latest count, which are the nearest in length.
    """
    closest, reached = np.arange(len(first)), np.ones(len(first))
    kept: _Kept | None = None
    for span in _spans(first):
        rows = signatures(span)
        borders = sorted({0, *np.flatnonzero(first[span]).tolist()})
        for start, stop in zip(borders, [*borders[1:], len(rows)], strict=True):
            if first[span.start + start]:
                kept = _Kept(rows.shape[1])
            assert kept is not None, "members begin with a component"
            for low in range(start, stop, BLOCK):
                high = min(low + BLOCK, stop)
                places = slice(span.start + low, span.start + high)
                closest[places], reached[places] = kept.judge(rows[low:high], fixed[places], places.start, threshold)
    return closest, reached


def _spans(first: np.ndarray) -> Iterator[slice]:
    """Consecutive members to read at a time: whole components, or ROWS_AT_ONCE of a larger one, from its beginning."""
    begins = [*np.flatnonzero(first).tolist(), len(first)]
    start = 0
    for begin, end in zip(begins[:-1], begins[1:], strict=True):
        if end - start > ROWS_AT_ONCE and begin > start:
            yield slice(start, begin)
            start = begin
        while end - start > ROWS_AT_ONCE:
            yield slice(start, start + ROWS_AT_ONCE)
            start += ROWS_AT_ONCE
    if len(first) > start:
        yield slice(start, len(first))


class _Kept:
    """The latest MAX_KEPT kept documents of one component. memory: twice their signatures, 64 MB at 128 hashes."""

    def __init__(self, num_hashes: int):
        self._columns = np.empty((num_hashes, 4), dtype=np.uint32)  # a signature a column: see count_equal
        self._places: list[int] = []

    def judge(self, rows: np.ndarray, fixed: np.ndarray, begin: int, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """For the next members, whose places begin at `begin`: what `choose` says of them."""
        num_hashes = len(self._columns)
        closest, counts = self._closest(rows)
        inside = count_equal(rows, rows.T) if len(rows) > 1 else np.zeros((1, 1), dtype=np.int64)
        stays: list[int] = []
        for row, stays_anyway in enumerate(fixed.tolist()):
            if stays:
                near = inside[row, stays]
                place = int(np.argmax(near))
                if near[place] > counts[row]:
                    closest[row], counts[row] = begin + stays[place], near[place]
            if stays_anyway or counts[row] / num_hashes < threshold:
                stays.append(row)
                closest[row], counts[row] = begin + row, num_hashes
        self._add(rows[stays], [begin + row for row in stays])
        return closest, counts / num_hashes

    def _closest(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place of the first of the kept documents that are closest to each row, and in how many entries they agree."""
        closest, counts = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), -1)
        for start in range(0, len(self._places), _COLUMNS):
            stop = min(start + _COLUMNS, len(self._places))
            near = count_equal(rows, self._columns[:, start:stop])
            best = np.argmax(near, axis=1)
            values = near[np.arange(len(rows)), best]
            better = values > counts
            closest[better] = np.array(self._places[start:stop])[best[better]]
            counts[better] = values[better]
        return closest, counts

    def _add(self, rows: np.ndarray, places: list[int]) -> None:
        forgotten = max(0, len(self._places) + len(places) - MAX_KEPT)
        if forgotten:
            self._columns[:, : len(self._places) - forgotten] = self._columns[:, forgotten : len(self._places)]
            del self._places[:forgotten]
        used = len(self._places)
        self._places += places
        if len(self._places) > self._columns.shape[1]:
            larger = np.empty((len(self._columns), 2 * len(self._places)), dtype=np.uint32)
            larger[:, :used] = self._columns[:, :used]
            self._columns = larger
        self._columns[:, used : len(self._places)] = rows.T


def count_equal(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n, k) numbers of equal entries of rows (n, num_hashes) and columns (num_hashes, k): signatures, uint32.

    Many are compared entry by entry, in whole arrays of bytes: six times as fast as row by row.
    """
    if len(rows) <= _FEW and columns.shape[1] <= _FEW:
        return np.count_nonzero(rows[:, :, None] == columns[None], axis=1)
    shape = len(rows), columns.shape[1]
    counts = np.zeros(shape, dtype=np.uint8 if len(columns) < 256 else np.uint32)
    equal = np.empty(shape, dtype=bool)
    for entry, column in zip(np.ascontiguousarray(rows.T), columns, strict=True):
        np.equal(entry[:, None], column[None], out=equal)
        np.add(counts, equal.view(np.uint8), out=counts)
    return counts
