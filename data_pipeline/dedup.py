"""Removes exact and near duplicates (verb dedup): one copy of each stays. Five passes, all on disk, no index in memory:

sketch every document (data_pipeline.minhash); find exact copies; sort once a band for pairs, whose similarity is
checked; connect pairs to clusters and choose what stays; rewrite the shards. In a cluster documents are taken by number
of units, then by order: each stays unless it is similar enough to one that stays, so a chain of small changes never
swallows unlike texts. Documents without units are never copies; a text in Simplified and in Traditional Chinese is two
texts. Files in work/ are complete or absent: a killed stage goes on from there. Disk: 650 bytes a document.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import minhash, workers
from data_pipeline.clean import KEPT, StageShard, Stats, dropped_row, finish, stage_shards
from data_pipeline.config import DataConfig, DedupConfig
from data_pipeline.parquet import DROPPED_SCHEMA, SCHEMA, count_documents, read_documents, write_rows
from mindllm.config import UserError
from mindllm.stage import Stage, atomic, read_json, require, write_json

CHARACTERS_PER_BATCH, DOCUMENTS_PER_BATCH = 100_000, 1000
PEAK_BYTES = 90  # memory: a document, measured at the worst moment (the sort of exact hashes); a band takes 50
HEAD = np.dtype([("exact", "<u8", 2), ("num_units", "<i8")])
DECISION = np.dtype([("best", "<i8"), ("kept", "<i8"), ("similarity", "<f8"), ("exact", "?")])
NAMES = pa.schema([("ordinal", pa.int64()), ("id", pa.string())])
CLUSTERS = pa.schema(
    [("id", pa.string()), ("kept_id", pa.string()), ("similarity", pa.float64()), ("kind", pa.string())]
)


@dataclass(frozen=True)
class Part:
    """One shard of clean/: its documents have the ordinals first ... first + count - 1 among all documents."""

    shard: StageShard
    first: int
    count: int


def dedup(config: DataConfig) -> int:
    """Exact and near duplicates (MinHash): the best copy of each stays."""
    before = require(config.folder("clean"), "python -m data_pipeline clean CONFIG")
    settings = {"dedup": asdict(config.dedup), "signature_version": minhash.ALGORITHM_VERSION}
    stage = Stage(config.folder("dedup"), "dedup", settings, {"clean": before["hash"]})
    if stage.start(config.force):
        parts = list_parts(stage_shards(config.folder("clean")))
        work, clusters = stage.folder / "work", stage.folder / "clusters" / "clusters.parquet"
        if not (clusters.exists() and all(path.exists() for p in parts for path in _results(p, stage.folder))):
            print(estimate(parts, config.dedup), flush=True)
            decide(parts, config.dedup, work, clusters, config.workers())
        stats = workers.run(functools.partial(filter_shard, out=stage.folder), parts, config.workers(), "dedup: filter")
        shutil.rmtree(work, ignore_errors=True)
        finish(stage, stats)
    return 0


def list_parts(shards: Sequence[StageShard]) -> list[Part]:
    """The shards with the ordinals of their documents, from the Parquet footers."""
    counts = [count_documents(s.path) for s in shards]
    if sum(counts) >= 2**31:  # scipy numbers the nodes of a graph with 32 bits
        raise UserError(
            f"{sum(counts):,} documents are more than dedup takes (2^31); split the sources over several runs"
        )
    return [Part(s, sum(counts[:i]), counts[i]) for i, s in enumerate(shards)]


def estimate(parts: Sequence[Part], settings: DedupConfig) -> str:
    """What the stage is going to need, as a line to print."""
    total = sum(p.count for p in parts)
    disk = total * (HEAD.itemsize + DECISION.itemsize + 8 * settings.bands + 4 * settings.num_hashes)
    memory = total * PEAK_BYTES + 8 * settings.num_hashes * min(total, minhash.ROWS_AT_ONCE)
    head = f"dedup: {total:,} documents in {len(parts)} shards"
    return f"{head}; needs {disk / 1e6:,.1f} MB of disk while it runs, {memory / 1e6:,.1f} MB of memory to sort them"


def decide(parts: Sequence[Part], settings: DedupConfig, work: Path, clusters: Path, num_workers: int) -> None:
    """Passes 1 to 4: leaves work/decisions.npy, work/names.arrow and `clusters`; what is there is not made again."""
    workers.run(functools.partial(sketch_part, work=work, settings=settings), parts, num_workers, "dedup: sketch")
    store = Store(work, parts)
    if not (work / "decisions.npy").exists():
        _save(work / "decisions.npy", find_decisions(store, settings))
    decisions = np.load(work / "decisions.npy", mmap_mode="r")
    if not (work / "names.arrow").exists():
        write_names(work / "names.arrow", parts, decisions["best"])
    if not clusters.exists():
        write_clusters(clusters, decisions, Names(work / "names.arrow"))


def sketch_part(part: Part, work: Path, settings: DedupConfig) -> None:
    """Sketch one shard into work/{heads,keys,signatures}/. memory: one batch, and one row group of the shard."""
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "heads": (HEAD, (part.count,)),
        "keys": ("<u8", (settings.bands, part.count)),  # a band's keys lie together: each pass reads only its own
        "signatures": ("<u4", (part.count, settings.num_hashes)),
    }
    paths = {kind: work / kind / f"{part.shard.name}.npy" for kind in shapes}
    if all(path.exists() for path in paths.values()):
        return
    with contextlib.ExitStack() as stack:
        heads, keys, signatures = (stack.enter_context(_new_array(paths[k], *shapes[k])) for k in shapes)
        end = 0
        for texts in _batches(d.text for d in read_documents(part.shard.path, ("text",))):
            found = minhash.sketch(texts, settings.num_hashes, settings.shingle_units, settings.seed)
            rows = slice(end, end := end + len(texts))
            heads["exact"][rows], heads["num_units"][rows] = found.exact, found.num_units
            keys[:, rows] = minhash.band_keys(found.signatures, settings.bands, settings.rows)
            signatures[rows] = found.signatures
        assert end == part.count, f"{part.shard.path}: {end} documents, its footer says {part.count}"


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= CHARACTERS_PER_BATCH or len(batch) == DOCUMENTS_PER_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextlib.contextmanager
def _new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """An array that is written through to disk and appears under its name only when the block ends well."""
    with atomic(path) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.dtype(dtype), shape)
        yield array
        array.flush()


def _save(path: Path, array: np.ndarray) -> None:
    with _new_array(path, array.dtype, array.shape) as file:
        file[...] = array


class Store:
    """The sketches of all shards, addressed by ordinal. Files are opened when read: the system limits open ones."""

    def __init__(self, work: Path, parts: Sequence[Part]):
        self.work, self._parts = work, parts
        self._firsts = np.array([p.first for p in parts], dtype=np.int64)
        self.total = sum(p.count for p in parts)

    def _open(self, kind: str, part: Part) -> np.ndarray:
        return np.load(self.work / kind / f"{part.shard.name}.npy", mmap_mode="r")

    def heads(self) -> np.ndarray:
        """HEAD (total,): exact hash and number of units of every document."""
        out = np.zeros(self.total, dtype=HEAD)
        for part in self._parts:
            out[part.first : part.first + part.count] = self._open("heads", part)
        return out

    def band(self, band: int) -> np.ndarray:
        """uint64 (total,): every document's key in one band."""
        out = np.zeros(self.total, dtype=np.uint64)
        for part in self._parts:
            out[part.first : part.first + part.count] = self._open("keys", part)[band]
        return out

    def signatures(self, ordinals: np.ndarray) -> np.ndarray:
        """uint32 (len(ordinals), num_hashes). slow: a random read a row where the files are not in the page cache."""
        numbers = np.searchsorted(self._firsts, ordinals, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        pieces = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        out: np.ndarray | None = None
        for rows in pieces:
            part = self._parts[numbers[rows[0]]]
            found = self._open("signatures", part)[ordinals[rows] - part.first]
            out = np.empty((len(ordinals), found.shape[1]), dtype=found.dtype) if out is None else out
            out[rows] = found
        assert out is not None, "signatures of no documents were asked for"
        return out


def find_decisions(store: Store, settings: DedupConfig) -> np.ndarray:
    """DECISION (total,): for each document the best of its cluster, the kept one it copies (or itself), and why."""
    heads = store.heads()
    num_units = heads["num_units"].copy()
    originals = minhash.find_originals(heads["exact"], num_units)
    del heads  # memory: 24 bytes a document
    task = functools.partial(find_pairs, store=store, originals=originals, num_units=num_units, settings=settings)
    files = workers.run(task, range(settings.bands), 1, "dedup: bands")  # one at a time: each needs memory for all keys
    labels = minhash.connect(store.total, (np.load(file) for file in files))
    members, first = minhash.by_quality(labels, num_units)
    decisions = np.zeros(store.total, dtype=DECISION)
    decisions["best"] = decisions["kept"] = np.arange(store.total)
    decisions["best"][members] = members[np.maximum.accumulate(np.where(first, np.arange(len(members)), 0))]
    closest, reached = minhash.choose(members, first, store.signatures, settings.threshold)
    decisions["kept"][members], decisions["similarity"][members] = closest, reached
    decisions = decisions[originals]  # an exact copy shares the fate of its original
    decisions["exact"] = (decisions["kept"] == originals) & (originals != np.arange(store.total))
    decisions["similarity"][decisions["exact"]] = 1
    return decisions


def find_pairs(band: int, store: Store, originals: np.ndarray, num_units: np.ndarray, settings: DedupConfig) -> Path:
    """Write the pairs that agree in one band and are similar: int64 (k, 2), ordinals. Exact copies sit out."""
    path = store.work / f"pairs-{band:03d}.npy"
    if path.exists():
        return path
    members = np.flatnonzero((originals == np.arange(store.total)) & (num_units > 0))

    def similar(pairs: np.ndarray) -> np.ndarray:
        chunks = np.split(members[pairs], range(minhash.ROWS_AT_ONCE, len(pairs), minhash.ROWS_AT_ONCE))
        values = [minhash.similarity(store.signatures(c[:, 0]), store.signatures(c[:, 1])) for c in chunks]
        return np.concatenate(values) >= settings.threshold

    found = [np.zeros((0, 2), dtype=np.int64), *minhash.candidate_pairs(store.band(band)[members], similar)]
    _save(path, members[np.concatenate(found)])
    return path


def write_names(path: Path, parts: Sequence[Part], best: np.ndarray) -> None:
    """The ids of all documents that are not alone in their cluster, by ordinal: a file that every process can map."""
    shared = best != np.arange(len(best))
    shared[best[shared]] = True
    with atomic(path) as temporary, pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, NAMES) as writer:
        for part in parts:
            rows = np.flatnonzero(shared[part.first : part.first + part.count])
            if len(rows):
                ids = pq.read_table(part.shard.path, columns=["id"])["id"].take(pa.array(rows))
                writer.write_table(pa.table({"ordinal": rows + part.first, "id": ids}, schema=NAMES))


class Names:
    """Ordinal to id, from the file of write_names. memory: 8 bytes an entry; the ids stay on disk."""

    def __init__(self, path: Path):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._ordinals, self._ids = table["ordinal"].to_numpy(), table["id"]

    def __call__(self, ordinal: int) -> str:
        """The id of a document that is not alone in its cluster."""
        return str(self._ids[int(np.searchsorted(self._ordinals, ordinal))])


def write_clusters(path: Path, decisions: np.ndarray, names: Names) -> None:
    """Every dropped document, the one that is kept for it, and how similar they are."""
    with write_rows(path, CLUSTERS) as file:
        for ordinal in np.flatnonzero(decisions["kept"] != np.arange(len(decisions))).tolist():
            _, kept, similarity, exact = decisions[ordinal].tolist()
            row = {"id": names(ordinal), "kept_id": names(kept), "similarity": similarity}
            file.add({**row, "kind": "exact" if exact else "near"})


def _results(part: Part, out: Path) -> tuple[Path, Path]:
    """Where one shard's kept documents and counts go; both there: the shard is done."""
    return out / f"{part.shard.name}.parquet", out / "stats" / f"{part.shard.name}.json"


def filter_shard(part: Part, out: Path) -> Stats:
    """Write one shard's kept and dropped documents; a kept one names the best of its cluster in meta["cluster"].

    Files appear in the order dropped, counts, kept, as in clean: a kept shard on disk means that all three are there.
    """
    kept_path, counts_path = _results(part, out)
    if kept_path.exists() and counts_path.exists():
        return Stats(read_json(counts_path))
    decisions = np.load(out / "work" / "decisions.npy", mmap_mode="r")[part.first : part.first + part.count]
    names = Names(out / "work" / "names.arrow")
    stats = Stats()
    with write_rows(kept_path, SCHEMA) as kept:
        with write_rows(out / "dropped" / f"{part.shard.name}.parquet", DROPPED_SCHEMA) as dropped:
            documents = zip(read_documents(part.shard.path), decisions, strict=True)
            for ordinal, (document, decision) in enumerate(documents, part.first):
                best, copy_of, _, exact = decision.tolist()
                reason = KEPT if copy_of == ordinal else "dedup:exact" if exact else "dedup:near"
                stats.add(document, reason)
                if reason == KEPT:
                    document.meta["cluster"] = document.id if best == ordinal else names(best)
                    kept.add_document(document)
                else:
                    dropped.add(dropped_row(document, reason))
        write_json(counts_path, stats.counts)
    return stats
