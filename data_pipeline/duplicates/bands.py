"""Pass 2 of dedup: tasks that each take one range of keys of one band out of every shard, and leave copies or pairs.

Keys are hashes, so equal ranges hold about equally many; there are so many ranges that a task gets about rows_per_task
documents. First the exact hash: of equal documents the first is the original, and the copies sit out the bands. Then
the bands: documents with one key are candidates, and what their signatures confirm is a pair. All documents with one
key are in one range, so what is found does not depend on how many ranges there are.
memory: TASK_BYTES a document of the range (documents that share one key are in one task, however many there are).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.config import DedupConfig
from data_pipeline.duplicates import clusters, minhash
from data_pipeline.duplicates.arrays import open_array, save, write_array
from data_pipeline.duplicates.sketches import Part, Store, load_store

PAIRS_AT_ONCE = 1 << 15  # memory: 32 MB of signatures at 128 hashes
TASK_BYTES = 75  # memory: a document of a range, where all have copies; where few have some: 31


@dataclass(frozen=True)
class BandTask:
    """Keys from number * 2^64 / num_ranges to the next such border, of one band."""

    band: int
    number: int
    num_ranges: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"band {self.band}, range {self.number + 1} of {self.num_ranges}"

    def path(self, folder: Path) -> Path:
        """Where the result goes: another number of ranges is other files."""
        return folder / f"{self.num_ranges:05d}" / f"{self.band:03d}-{self.number:05d}.npy"

    def slice_of(self, keys: np.ndarray) -> slice:
        """The places of the range in ascending keys."""
        start, stop = (self._place(keys, number) for number in (self.number, self.number + 1))
        return slice(start, stop)

    def _place(self, keys: np.ndarray, number: int) -> int:
        """Of the border before range `number`; the last border is 2^64, which no key can have."""
        if number == self.num_ranges:
            return len(keys)
        return int(np.searchsorted(keys, np.uint64((number << 64) // self.num_ranges)))


def list_tasks(bands: Sequence[int], total: int, rows_per_task: int) -> list[BandTask]:
    """The tasks of some bands over `total` documents."""
    num_ranges = max(1, -(-total // rows_per_task))
    return [BandTask(band, number, num_ranges) for band in bands for number in range(num_ranges)]


def gather(task: BandTask, parts: Sequence[Part], skip_copies: bool) -> tuple[np.ndarray, np.ndarray]:
    """keys (uint64) and ordinals (int64) of all documents in the range; equal keys in the order of their ordinals."""
    keys, ordinals = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    for part in parts:
        mapped = open_array(Path(part.index) / "keys.npy")[task.band]
        places = task.slice_of(mapped)
        found = mapped[places]
        rows = open_array(Path(part.index) / "rows.npy")[task.band, places].astype(np.int64)
        if skip_copies:
            bits = np.load(Path(part.index) / "originals.npy")
            stays = np.unpackbits(bits, count=part.count).astype(bool)[rows]
            found, rows = found[stays], rows[stays]
        keys.append(np.array(found))
        ordinals.append(rows + part.first)
    merged = np.concatenate(keys)
    keys.clear()
    return merged, np.concatenate(ordinals)


def find_copies(task: BandTask, work: Path) -> Path:
    """Write the exact copies in a range of the exact hashes' first halves: int64 (2, k), ascending: copy, original."""
    path = task.path(work / "copies")
    if not path.exists():
        store = load_store(work)
        keys, ordinals = gather(task, store.parts, skip_copies=False)
        order = clusters.sharing(keys)
        keys, ordinals = keys[order], ordinals[order]
        second = store.read("heads", ordinals)["exact"][:, 1] if len(ordinals) else keys
        save(path, clusters.find_copies(keys, second, ordinals))
    return path


def place_copies(part: Part, files: Sequence[Path]) -> None:
    """Note one shard's exact copies: copies.npy int64 (2, k) as above, originals.npy: a bit a row, 0 for a copy."""
    copies, originals = Path(part.index) / "copies.npy", Path(part.index) / "originals.npy"
    if copies.exists() and originals.exists():
        return
    found = [np.zeros((2, 0), dtype=np.int64)]
    for file in files:
        table = open_array(file)
        found.append(table[:, slice(*np.searchsorted(table[0], [part.first, part.first + part.count]))])
    table = np.concatenate(found, axis=1)
    table = table[:, np.argsort(table[0], kind="stable")]
    stays = np.ones(part.count, dtype=bool)
    stays[table[0] - part.first] = False
    save(copies, table)
    save(originals, np.packbits(stays))


def find_pairs(task: BandTask, work: Path, settings: DedupConfig) -> Path:
    """Write the pairs that agree in a band, in one range of its keys, and are similar: int64 (k, 2), ordinals.

    A pair is looked at in every band in which it agrees: to know that an earlier band has had it, its signatures would
    have to be read, which is what costs.
    """
    path = task.path(work / "pairs")
    if path.exists():
        return path
    store = load_store(work)
    keys, ordinals = gather(task, store.parts, skip_copies=True)
    order = clusters.sharing(keys)
    keys, ordinals = keys[order], ordinals[order]
    with write_array(path, np.int64, (2,)) as append:

        def similar(pairs: np.ndarray) -> np.ndarray:
            return _similar(ordinals[pairs], store, settings.threshold)

        for pairs in clusters.candidate_pairs(keys, similar):
            append(ordinals[pairs])
    return path


def _similar(pairs: np.ndarray, store: Store, threshold: float) -> np.ndarray:
    """Whether ordinals (k, 2) are similar. Taken in the order of their first, so that reads go through the shards once.

    slow: random reads, a signature a pair and one a bucket.
    """
    good = np.zeros(len(pairs), dtype=bool)
    order = np.argsort(pairs[:, 0], kind="stable")
    for start in range(0, len(order), PAIRS_AT_ONCE):
        chosen = order[start : start + PAIRS_AT_ONCE]
        numbers, places = np.unique(pairs[chosen], return_inverse=True)
        signatures = store.read("signatures", numbers)
        places = places.reshape(-1, 2)
        for few in np.array_split(np.arange(len(chosen)), max(1, len(chosen) >> 10)):  # memory: two copies of few only
            values = minhash.similarity(signatures[places[few, 0]], signatures[places[few, 1]])
            good[chosen[few]] = values >= threshold
    return good
