"""Pass 1 of dedup, and its store on disk: for every shard its sketches, its ids, and the keys of each band, sorted.

A shard's folder holds heads.npy (exact hash, number of units), signatures.npy and names.arrow, a row a document, and
the index: keys.npy (bands + 1, k) ascending in each band, rows.npy the rows they belong to, for the k documents that
have units. So a range of keys of one band is one slice of every shard's file. The last "band" is the first half of the
exact hash. What earlier runs kept (earlier.py) has such folders, too; only their index is made anew.
Cost: the sketching itself (minhash), and a sort of each shard a band. Disk: see estimate.py.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipeline.config import DedupConfig
from data_pipeline.duplicates import minhash
from data_pipeline.duplicates.arrays import open_array, read_blocks, read_rows, write_array
from data_pipeline.parquet import read_documents
from mindllm.stage import atomic, read_json, write_json

CHARACTERS_PER_BATCH, DOCUMENTS_PER_BATCH = 100_000, 1000
ROWS_AT_ONCE = 1 << 14  # memory: signatures read at a time, 8 MB at 128 hashes
INDEX_BYTES = 32_000_000  # memory: keys of one shard that are sorted at a time; a single band may need more
HEAD = np.dtype([("exact", "<u8", 2), ("num_units", "<i8")])
NAMES_PER_BATCH = 1000  # rows of a record batch of names.arrow: all but the last one have so many
BATCHES_MAPPED = 1000  # of names, at a time


@dataclass(frozen=True)
class Part:
    """One shard: its documents have the ordinals first ... first + count - 1 among all documents.

    path: the shard's Parquet file; empty for documents of an earlier run, which are `fixed`: they stay whatever comes.
    run: that earlier run's folder.
    store: folder of its sketches and names.  index: folder of its keys, and of what later passes note about it.
    """

    name: str
    path: str
    store: str
    index: str
    first: int
    count: int
    fixed: bool = False
    run: str = ""


class Store:
    """The sketches and names of all shards, addressed by ordinal. Files are open only while they are read."""

    name = "the whole run"  # for messages

    def __init__(self, parts: Sequence[Part]):
        self.parts = list(parts)
        self._firsts = np.array([p.first for p in parts], dtype=np.int64)
        self.total = sum(p.count for p in parts)
        self.num_fixed = sum(p.count for p in parts if p.fixed)  # they come first
        self._batch = functools.lru_cache(BATCHES_MAPPED)(self._map_batch)

    def read(self, kind: str, ordinals: np.ndarray) -> np.ndarray:
        """Rows of heads or signatures for ordinals in any order. slow: a random read for each that lies alone."""
        wanted, back = np.unique(ordinals, return_inverse=True)
        pieces = [
            read_rows(Path(part.store) / f"{kind}.npy", wanted[rows] - part.first) for part, rows in self._split(wanted)
        ]
        assert pieces, f"{kind} of no documents were asked for"
        return np.concatenate(pieces)[back]

    def _split(self, ordinals: np.ndarray) -> Iterator[tuple[Part, slice]]:
        """The parts that ascending ordinals lie in, and which of them lie there."""
        numbers = np.searchsorted(self._firsts, ordinals, side="right") - 1  # the last of those that begin there: the
        cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(ordinals)]  # others have no documents
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            yield self.parts[int(numbers[start])], slice(start, stop)

    def names(self, ordinals: np.ndarray, column: str) -> list[str]:
        """The "id" or the "cluster" of documents; a cluster that is not noted is the document's own id."""
        numbers = np.searchsorted(self._firsts, ordinals, side="right") - 1
        found = []
        for number, row in zip(numbers.tolist(), (ordinals - self._firsts[numbers]).tolist(), strict=True):
            batch = self._batch(number, row // NAMES_PER_BATCH)
            place = column if column in batch.schema.names else "id"
            found.append(str(batch.column(place)[row % NAMES_PER_BATCH]))
        return found

    def runs(self, ordinals: np.ndarray) -> list[str]:
        """The folder of the earlier run that documents are from; "" for those of this one."""
        numbers = np.searchsorted(self._firsts, ordinals, side="right") - 1
        return [self.parts[number].run for number in numbers.tolist()]

    def _map_batch(self, number: int, batch: int) -> pa.RecordBatch:
        path = Path(self.parts[number].store) / "names.arrow"
        with pa.memory_map(str(path)) as file:  # the batch holds the map open as long as it is used
            return pa.ipc.open_file(file).get_batch(batch)


def save_store(work: Path, parts: Sequence[Part]) -> None:
    """Note the parts in work/parts.json, so that tasks need only the folder."""
    write_json(work / "parts.json", [asdict(p) for p in parts])


def load_store(work: Path) -> Store:
    """The store that save_store noted."""
    return Store([Part(**row) for row in read_json(work / "parts.json")])


def sketch_part(part: Part, settings: DedupConfig) -> None:
    """Sketch one shard, if it is not an earlier run's, and sort its keys. What is there is not made again."""
    store, index = Path(part.store), Path(part.index)
    if not part.fixed and not all((store / n).exists() for n in ("names.arrow", "heads.npy", "signatures.npy")):
        _sketch(part, settings)
    if not all((index / name).exists() for name in ("keys.npy", "rows.npy")):
        _index(part, settings)


def _sketch(part: Part, settings: DedupConfig) -> None:
    """Write heads, signatures and names. memory: one batch, and one row group of the shard."""
    store, count = Path(part.store), 0
    with (
        write_names(store / "names.arrow", ("id",)) as add_names,
        write_array(store / "heads.npy", HEAD) as add_heads,
        write_array(store / "signatures.npy", "<u4", (settings.num_hashes,)) as add_signatures,
    ):
        for batch in batches((d.text, d.id) for d in read_documents(Path(part.path), ("text", "id"))):
            texts, ids = [text for text, _ in batch], [id for _, id in batch]
            found = minhash.sketch(texts, settings.num_hashes, settings.shingle_units, settings.seed)
            heads = np.zeros(len(batch), dtype=HEAD)
            heads["exact"], heads["num_units"] = found.exact, found.num_units
            add_heads(heads)
            add_signatures(found.signatures)
            add_names([ids])
            count += len(batch)
        assert count == part.count, f"{part.path}: {count} documents, its footer says {part.count}"


def batches(rows: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """(text, id) rows by CHARACTERS_PER_BATCH and DOCUMENTS_PER_BATCH."""
    batch: list[tuple[str, str]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row[0])
        if size >= CHARACTERS_PER_BATCH or len(batch) == DOCUMENTS_PER_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


AddNames = Callable[[Sequence[Sequence[str]]], None]


@contextlib.contextmanager
def write_names(path: Path, columns: Sequence[str]) -> Iterator[AddNames]:
    """Hands out `add(lists)`, a list of strings a column; the Arrow file appears if the block ends well."""
    schema = pa.schema([(name, pa.string()) for name in columns])
    waiting: list[list[str]] = [[] for _ in columns]

    with atomic(path) as temporary, pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:

        def write(count: int) -> None:
            writer.write_batch(pa.record_batch([pa.array(c[:count], pa.string()) for c in waiting], schema=schema))
            for column in waiting:
                del column[:count]

        def add(lists: Sequence[Sequence[str]]) -> None:
            for column, values in zip(waiting, lists, strict=True):
                column.extend(values)
            while len(waiting[0]) >= NAMES_PER_BATCH:
                write(NAMES_PER_BATCH)

        yield add
        if waiting[0]:
            write(len(waiting[0]))


def _index(part: Part, settings: DedupConfig) -> None:
    """Write keys and rows, band after band. Documents without units are copies of nothing: they have no keys."""
    heads = open_array(Path(part.store) / "heads.npy")
    filled = np.flatnonzero(heads["num_units"] > 0).astype(np.uint32)
    with (
        write_array(Path(part.index) / "keys.npy", "<u8", filled.shape) as add_keys,
        write_array(Path(part.index) / "rows.npy", "<u4", filled.shape) as add_rows,
    ):
        for keys in _all_keys(part, heads, filled, settings):
            order = np.argsort(keys, kind="stable")  # memory: 20 bytes a document of the shard, and INDEX_BYTES
            add_keys(keys[order][None])
            add_rows(filled[order][None])


def _all_keys(part: Part, heads: np.ndarray, filled: np.ndarray, settings: DedupConfig) -> Iterator[np.ndarray]:
    """The keys (k,) of each band, then the exact hash's first half. Signatures are read once a group of bands."""
    group = max(1, INDEX_BYTES // (8 * max(1, part.count)))
    for start in range(0, settings.bands, group):
        stop = min(start + group, settings.bands)
        keys, end = np.empty((stop - start, part.count), dtype=np.uint64), 0
        for block in read_blocks(Path(part.store) / "signatures.npy", ROWS_AT_ONCE):
            entries = block[:, start * settings.rows : stop * settings.rows]
            keys[:, end : end + len(block)] = minhash.band_keys(entries, stop - start, settings.rows)
            end += len(block)
        yield from (band[filled] for band in keys)
    yield heads["exact"][filled, 0]
