"""Texts to MinHash sketches: what deduplication remembers of a document (clusters.py goes on from there).

A document is the set of its shingles (runs of `shingle_units` units: Chinese characters, English words). Equal entries
of two signatures estimate the Jaccard similarity |A and B| / |A or B| of their sets (Broder 1997; rensa fills the
entries by fast similarity sketching, arXiv 1704.04370: as exact as independent hashes or more so, at less work). A band
is `rows` entries; documents that agree in one are candidates: 1 - (1 - J^rows)^bands of all pairs of similarity J
(Leskovec et al., Mining of Massive Datasets, 3.4), which is .77 at .75, .99 at .85 and 1.00 at .92 for 14 bands of 8.
Cost: 100 to 200 MB/s of Chinese, 50 to 150 of English text a core; short documents are the slow ones.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from rensa import RMinHash, RMinHashDigestMatrix

from mindllm.text import unit_hashes_many

ALGORITHM_VERSION = int(RMinHash.ALGORITHM_VERSION)  # signatures of different versions must never be compared
UNITS_VERSION = (
    1  # of our own part: units (mindllm.text), their hashes, shingle_hashes; raised when one of them changes
)

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

    memory: 50 bytes a character of the batch, and 40 bytes a signature entry (rensa hands out Python integers).
    """
    hashes, offsets = unit_hashes_many(texts)
    flat, rows = shingle_hashes(hashes, offsets, shingle_units)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, rows.astype(np.uint64), num_hashes, seed)
    return Sketches(
        exact_hashes(hashes, offsets[:-1], offsets[1:]),
        np.diff(offsets).astype(np.uint64),
        _entries(matrix, num_hashes),
    )


def _entries(matrix: RMinHashDigestMatrix, num_hashes: int) -> np.ndarray:
    """(n, num_hashes) uint32. rensa hands out lists of Python integers; numpy reads them three times slower."""
    packed = array("I")
    for entries in matrix.to_rows():
        packed.fromlist(entries)
    return np.frombuffer(packed, dtype=np.uint32).reshape(-1, num_hashes)


def exact_hashes(hashes: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """(n, 2) uint64: XXH3-128 of the unit hashes of n texts: spaces, line ends, case, punctuation do not count."""
    data = memoryview(hashes.astype("<u8", copy=False).tobytes())
    spans = zip((8 * starts).tolist(), (8 * stops).tolist(), strict=True)
    digests = [xxhash.xxh3_128_digest(data[start:stop]) for start, stop in spans]
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
    if len(short) == 0:
        return
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
