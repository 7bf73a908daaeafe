"""Texts to MinHash sketches, sketches to pairs, pairs to clusters and what to keep of each: the pure part of dedup.

A document is the set of its shingles (runs of `shingle_units` units: Chinese characters, English words). Equal entries
of two signatures estimate the Jaccard similarity |A and B| / |A or B| of their sets (Broder 1997). A band is `rows`
entries; documents that agree in one are candidates: 1 - (1 - J^rows)^bands of all pairs of similarity J (Leskovec et
al., Mining of Massive Datasets, 3.4), which is .77 at .75, .99 at .85 and 1.00 at .92 for 14 bands of 8.
Cost: about 100 MB/s of text a core for sketches; a sort of all documents a band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from rensa import RMinHash
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mindllm.text import unit_hashes_many

ALGORITHM_VERSION = int(RMinHash.ALGORITHM_VERSION)  # signatures of different versions must never be compared
MAX_LEADERS = 16  # documents of one bucket that others are compared with, at most
ROWS_AT_ONCE = 1 << 15  # memory: signatures compared at a time, 16 MB at 128 hashes

_ODD = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio times 2^64: odd, so multiplying by it loses nothing
_MIX = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


class Sketches(NamedTuple):
    """What is remembered of n documents: exact (n, 2) and num_units (n,) uint64, signatures (n, num_hashes) uint32."""

    exact: np.ndarray
    num_units: np.ndarray
    signatures: np.ndarray


def sketch(texts: Sequence[str], num_hashes: int, shingle_units: int, seed: int) -> Sketches:
    """Sketches of a batch of texts; each row depends on its own text only. Without units, a signature is all ones.

    memory: 100 bytes a character of the batch, and 40 bytes a signature entry (rensa hands out Python integers).
    """
    hashes, offsets = unit_hashes_many(texts)
    flat, rows = shingle_hashes(hashes, offsets, shingle_units)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, rows.astype(np.uint64), num_hashes, seed)
    signatures = np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), num_hashes)
    return Sketches(_exact(hashes, offsets), np.diff(offsets).astype(np.uint64), signatures)


def _exact(hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n, 2) uint64: XXH3-128 of each document's unit hashes: spaces, line ends, case, punctuation do not count."""
    data = memoryview(hashes.astype("<u8", copy=False).tobytes())
    digests = [xxhash.xxh3_128_digest(data[8 * a : 8 * b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)


def shingle_hashes(hashes: np.ndarray, offsets: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `size` units inside each document, and their offsets (num_documents + 1,).

    A document of fewer units is one shingle of all of them; one without units has none. The hash of a run u is
    mix(sum u[j] * ODD^(size-1-j) mod 2^64); units that a short document lacks count as 0.
    """
    padded = np.concatenate([hashes, np.zeros(size - 1, dtype=np.uint64)])
    total, counts = len(hashes), np.diff(offsets)
    windows = padded[:total].copy()
    for j in range(1, size):
        windows *= _ODD
        windows += padded[j : j + total]
    _hash_short(windows, hashes, offsets, size)
    inside = np.ones(total, dtype=bool)
    for j in range(1, size):  # the last size-1 starts run over the end (of a short document: all starts but its first)
        inside[offsets[1:][counts > j] - j] = False
    starts = np.zeros(len(offsets), dtype=np.int64)
    np.cumsum(np.minimum(counts, np.maximum(counts - size + 1, 1)), out=starts[1:])
    return _mix(windows[inside]), starts


def _hash_short(windows: np.ndarray, hashes: np.ndarray, offsets: np.ndarray, size: int) -> None:
    """Replace the first window of every document shorter than `size`: it must not see the next document."""
    counts = np.diff(offsets)
    short = np.flatnonzero((counts > 0) & (counts < size))
    value = np.zeros(len(short), dtype=np.uint64)
    for j in range(size):
        value *= _ODD
        has = counts[short] > j
        value[has] += hashes[offsets[short[has]] + j]
    windows[offsets[short]] = value


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread every bit over the word, in place (a sum of products alone leaves low bits that know only low bits)."""
    values ^= values >> _HALF
    values *= _MIX
    values ^= values >> _HALF
    return values


def band_keys(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """(bands, n) uint64: one hash a band and document, over entries band*rows ... band*rows+rows-1 of the signature."""
    entries = signatures[:, : bands * rows].reshape(-1, bands, rows).astype(np.uint64)
    keys = np.zeros(entries.shape[:2], dtype=np.uint64)
    for row in range(rows):
        keys = _mix((keys + entries[:, :, row]) * _ODD)
    return np.ascontiguousarray(keys.T)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of signatures along the last axis; standard error sqrt(J * (1 - J) / num_hashes)."""
    return np.count_nonzero(a == b, axis=-1) / a.shape[-1]


def find_originals(exact: np.ndarray, num_units: np.ndarray) -> np.ndarray:
    """int64 (n,): the first document with the same exact hash (itself, where there is none before it).

    Documents without units all have one hash and yet nothing in common: each is its own original.
    """
    order = np.lexsort((exact[:, 1], exact[:, 0]))  # stable: equal ones stay in document order
    ordered = exact[order]
    first = np.ones(len(order), dtype=bool)
    np.any(ordered[1:] != ordered[:-1], axis=1, out=first[1:])
    originals = np.empty_like(order)
    originals[order] = np.repeat(order[first], _lengths(first))
    empty = np.flatnonzero(num_units == 0)
    originals[empty] = empty
    return originals


def _lengths(first: np.ndarray) -> np.ndarray:
    """Lengths of the runs that begin where `first` is true."""
    return np.diff(np.append(np.flatnonzero(first), len(first)))


def candidate_pairs(keys: np.ndarray, similar: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """Pairs (k, 2) of row numbers with equal keys that `similar` (pairs -> bool) confirms, lower row first.

    Rows with one key are a bucket. All are compared with its first; those unlike it with the first of what is left, and
    so on, MAX_LEADERS times: unlike pages of one template share buckets, too, and must not hide the copies behind them.
    memory: 30 bytes a row: order, sorted keys, half an order while sorting, marks.
    """
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    shared = np.zeros(len(keys), dtype=bool)
    shared[1:] = keys[1:] == keys[:-1]
    shared[:-1] |= shared[1:]
    order, keys = order[shared], keys[shared]
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
    """int32 (total,): a component number for every document; `pairs` are arrays (k, 2), taken one by one."""
    labels = np.arange(total, dtype=np.int32)
    for batch in pairs:
        if len(batch):
            ends = labels[batch[:, 0]], labels[batch[:, 1]]
            graph = coo_matrix((np.ones(len(batch), dtype=bool), ends), shape=(total, total))
            labels = connected_components(graph, directed=False)[1][labels]
    return labels


def by_quality(labels: np.ndarray, num_units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Documents not alone in their component, best first (most units, then lowest number), and where each begins."""
    members = np.flatnonzero(np.bincount(labels)[labels] > 1)
    members = members[np.lexsort((members, -num_units[members], labels[members]))]
    first = np.ones(len(members), dtype=bool)
    first[1:] = np.diff(labels[members]) != 0
    return members, first


def choose(
    members: np.ndarray, first: np.ndarray, signatures: Callable[[np.ndarray], np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """For members as by_quality orders them: the kept document each is closest to (itself: kept), and the similarity.

    Greedy: a document goes only when similar enough to one that stays, so every drop has a witness. `signatures` reads
    rows by document number. slow: members x kept of a component; felt where a template has thousands of unlike pages.
    """
    closest, reached = members.copy(), np.ones(len(members))
    kept: list[int] = []
    rows = np.empty((0, 0), dtype=np.uint32)
    for start in range(0, len(members), ROWS_AT_ONCE):
        found = signatures(members[start : start + ROWS_AT_ONCE])
        for place, row in enumerate(found, start):
            if first[place]:
                kept, rows = [], rows[:0]
            near = similarity(rows[: len(kept)], row) if kept else np.zeros(1)
            best = int(np.argmax(near))
            if near[best] >= threshold:
                closest[place], reached[place] = kept[best], near[best]
                continue
            if len(kept) == len(rows):  # grow by doubling
                rows = np.concatenate([rows.reshape(-1, len(row)), np.empty((max(len(rows), 4), len(row)), np.uint32)])
            rows[len(kept)] = row
            kept.append(int(members[place]))
    return closest, reached
