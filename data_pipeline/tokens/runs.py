"""Runs: up to RUN_TOKENS tokens of encoded documents of one refined shard, sorted, so that they can be merged.

A run is two files: the tokens of its documents end to end (in the type of the shards, an eos after each), and a table
with a row for each (ROW). Documents are sorted by source, then train before valid, then key; so what an output file
takes from a run, a range of keys of one source and split, is one stretch of both files. Documents of equal keys (two
ids in 2^64) stay in the order of the shard. Reads are reads, not memory maps, but for the binary search.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.duplicates.arrays import open_array, save
from mindllm.stage import atomic

RUN_TOKENS = 1 << 24  # memory: twice as much, 4 bytes each, while a run is written
RUN_DOCUMENTS = 1 << 20  # memory: 32 bytes each
BLOCK_TOKENS = 1 << 20  # copied at a time
ROW = np.dtype(  # 32 bytes a document
    {
        "names": ["key", "cluster", "start", "length", "bytes", "language"],
        "formats": ["u8", "u8", "u4", "u4", "u4", "u1"],  # start and length in tokens, the eos included
    },
    align=True,
)
TRAIN, VALID = SPLITS = ("train", "valid")


class Stretch(NamedTuple):
    """Where a source stands in a run: rows [begin, middle) of its table are train, rows [middle, end) valid text.

    run: its files without their suffixes, below the folder of runs.
    """

    run: str
    begin: int
    middle: int
    end: int

    def rows(self, split: str) -> tuple[int, int]:
        """The rows of one split."""
        return (self.begin, self.middle) if split == TRAIN else (self.middle, self.end)


def write_run(
    folder: Path, run: str, tokens: np.ndarray, rows: np.ndarray, sources: np.ndarray, held: np.ndarray
) -> dict[int, Stretch]:
    """Sort documents and write them as a run; {source: where it stands}.

    tokens: in any order.  rows: ROW (num_documents,), `start` says where in `tokens`.  sources: int64 (num_documents,).
    held: bool (num_documents,), valid text.
    """
    order = np.lexsort((rows["key"], held, sources))
    rows, sources, held = rows[order], sources[order], held[order]
    with atomic(_tokens(folder, run)) as temporary, open(temporary, "wb") as file:
        for block, _ in arrange(tokens, rows):
            file.write(block.data)
    rows["start"] = np.cumsum(rows["length"]) - rows["length"]
    save(_table(folder, run), rows)
    found = {}
    for source in np.unique(sources).tolist():
        begin, end = (int(i) for i in np.searchsorted(sources, [source, source + 1]))
        found[source] = Stretch(run, begin, begin + int(np.searchsorted(held[begin:end], True)), end)
    return found


def arrange(tokens: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
    """The documents of `rows` in their order: blocks of tokens, and which rows are in each. `start` is in `tokens`.

    slow: 0.6 us a document. memory: BLOCK_TOKENS, or one document.
    """
    ends = np.cumsum(rows["length"], dtype=np.int64)
    begin = 0
    while begin < len(rows):
        done = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + BLOCK_TOKENS, side="right")))
        starts = rows["start"][begin:end].astype(np.int64)
        stops = starts + rows["length"][begin:end]
        parts = [tokens[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        yield np.concatenate(parts), slice(begin, end)
        begin = end


def read_rows(folder: Path, run: str, begin: int, end: int, low: int, high: int) -> np.ndarray:
    """Those of the rows [begin, end) of a run, sorted by key, whose keys are in [low, high). memory: what they take."""
    table = open_array(_table(folder, run))
    keys = table["key"]  # a view: np.searchsorted would copy it
    first = bisect.bisect_left(keys, low, begin, end)
    last = bisect.bisect_left(keys, high, first, end)
    return np.array(table[first:last])


def read_tokens(folder: Path, run: str, rows: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` with the tokens of rows of a run, in their order; rows that stand together are read together."""
    if not len(rows):
        return
    starts, lengths = rows["start"].astype(np.int64), rows["length"].astype(np.int64)
    cuts = [0, *(np.flatnonzero(starts[1:] != starts[:-1] + lengths[:-1]) + 1).tolist(), len(rows)]
    path, done = _tokens(folder, run), 0
    view = out.view(np.uint8).data
    with open(path, "rb", buffering=0) as file:
        for begin, end in zip(cuts[:-1], cuts[1:], strict=True):
            size = int(lengths[begin:end].sum()) * out.itemsize
            file.seek(int(starts[begin]) * out.itemsize)
            while size:  # one read gives 2 GB at most
                got = file.readinto(view[done : done + size])
                if not got:
                    raise RuntimeError(f"{path}: cut off; delete the stage's folder and run it again")
                done, size = done + got, size - got


def _tokens(folder: Path, run: str) -> Path:
    return folder / f"{run}.tokens"


def _table(folder: Path, run: str) -> Path:
    return folder / f"{run}.npy"
