"""The text that tokenizers are measured on: documents drawn by language and source, unseen by ours where there are any.

A tokenizer looks better on the text that it was learned from. Which documents those were follows from its meta.json
(the same keyed hash, mindllm/tokenizer/sample.py), so the draw leaves them out wherever enough others are left, and
says where not. Each language of a source gives the documents of lowest keyed hash until `bytes_per_cell` are reached:
the same ones in any order of the shards. Cost: two passes over the text columns, 1 us a document and 500 MB/s;
memory: the hashes of the documents drawn, and 256 documents.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from mindllm.config import UserError
from mindllm.hashing import mix
from mindllm.stage import read_json
from mindllm.text import LANGUAGES
from mindllm.tokenizer.config import ADOPTED
from mindllm.tokenizer.sample import batches, is_drawn, key_of

MAX_DOCUMENT_BYTES = 300_000  # of a document that is measured: one book must not be all of a sample
MIN_UNSEEN = 0.1  # of the bytes wanted: with less unseen text, documents that a tokenizer has seen are drawn, too
_BATCH = 256  # documents read at once
_OWN = 0x756E7365656E  # keeps this draw apart from every other draw by seed, such as the tokenizer's own

Seen = Callable[[str, str, str], bool]  # (id, language, source): was a tokenizer learned from this document?


class Cell(NamedTuple):
    """What numbers are by: one language of one source."""

    language: str
    source: str


class Learned(NamedTuple):
    """What a tokenizer was learned from, in words; and if from documents of ours, which ones."""

    words: str
    seen: Seen | None = None


@dataclass
class Lowest:
    """The fewest documents of lowest hash that have at least `limit` bytes together (all of them where they have less).

    This is a property of the set of documents: their order does not matter, and memory is that of what is kept.
    """

    limit: int
    total: int = 0
    _heap: list[tuple[int, int]] = field(default_factory=list)  # (-hash, bytes): the highest hash first

    def add(self, hash: int, size: int) -> None:
        """Take a document in, and let go of what is no longer needed."""
        if self.total >= self.limit and hash > self.highest:
            return
        heapq.heappush(self._heap, (-hash, size))
        self.total += size
        while self.total - self._heap[0][1] >= self.limit:
            self.total -= heapq.heappop(self._heap)[1]

    @property
    def highest(self) -> int:
        """The highest hash that is kept; -1 where there is nothing."""
        return -self._heap[0][0] if self._heap else -1


@dataclass
class Draw:
    """Which documents are measured. limits: highest hash by cell, in the order of LANGUAGES, then by source.

    unseen: cells whose documents no tokenizer of ours was learned from, as far as is known.  num_bytes: of the draw.
    """

    limits: dict[Cell, int]
    unseen: frozenset[Cell]
    num_bytes: int
    seed: int


def draw(folder: str | Path, bytes_per_cell: int, seed: int, seen: Sequence[Seen] = ()) -> Draw:
    """Choose documents of every language and source, in one pass. Raises UserError where there is no text at all."""
    everything: dict[Cell, Lowest] = {}
    unseen: dict[Cell, Lowest] = {}
    totals: dict[Cell, int] = {}
    for batch in _read(folder):
        sizes = pc.binary_length(batch.column("text")).to_pylist()
        for cell, id, size in zip(*_keys(batch), sizes, strict=True):
            size, hash = min(size, MAX_DOCUMENT_BYTES), _hash(id, seed)
            totals[cell] = totals.get(cell, 0) + size
            everything.setdefault(cell, Lowest(bytes_per_cell)).add(hash, size)
            if not any(was_seen(id, *cell) for was_seen in seen):
                unseen.setdefault(cell, Lowest(bytes_per_cell)).add(hash, size)
    if not any(totals.values()):
        raise UserError(f"{folder}: no text to measure tokenizers on")
    good = frozenset(c for c, kept in unseen.items() if kept.total >= MIN_UNSEEN * min(bytes_per_cell, totals[c]))
    order = sorted((c for c, total in totals.items() if total), key=lambda c: (LANGUAGES.index(c.language), c.source))
    kept = {cell: (unseen if cell in good else everything)[cell] for cell in order}
    num_bytes = sum(lowest.total for lowest in kept.values())
    return Draw({cell: lowest.highest for cell, lowest in kept.items()}, good, num_bytes, seed)


def read(folder: str | Path, drawn: Draw, seen: Sequence[Seen] = ()) -> Iterator[tuple[Cell, list[str]]]:
    """The texts of the documents drawn, a few of one cell at a time, each cut to MAX_DOCUMENT_BYTES."""
    for batch in _read(folder):
        cells, ids = _keys(batch)
        found: dict[Cell, list[int]] = {}
        for row, (cell, id) in enumerate(zip(cells, ids, strict=True)):
            if _hash(id, drawn.seed) <= drawn.limits.get(cell, -1):
                if cell not in drawn.unseen or not any(was_seen(id, *cell) for was_seen in seen):
                    found.setdefault(cell, []).append(row)
        texts = batch.column("text")
        for cell, rows in found.items():
            yield cell, [cut(texts[row].as_py()) for row in rows]


def cut(text: str) -> str:
    """At most MAX_DOCUMENT_BYTES of the text, whole characters."""
    if len(text) * 4 <= MAX_DOCUMENT_BYTES:
        return text
    return text.encode()[:MAX_DOCUMENT_BYTES].decode(errors="ignore")


def learned_from(what: str, hash: str) -> Learned:
    """What the tokenizer `what` was learned from, beside the documents of this content hash."""
    meta = read_json(Path(what) / "meta.json")
    if not isinstance(meta, dict) or meta.get("stage") != "tokenizer":
        return Learned("not known")
    if (meta.get("config") or {}).get("kind") == ADOPTED:
        return Learned("not known")
    if meta["inputs"].get("documents") != hash:
        return Learned("other documents than these")
    keys = meta["counts"].get("sample")
    if not keys:
        return Learned("these documents; which of them is not recorded", lambda id, language, source: True)
    shares, seed = {key: row["share"] for key, row in keys.items()}, meta["config"]["seed"]

    def seen(id: str, language: str, source: str) -> bool:
        key = key_of(language, source, shares)
        return key is not None and is_drawn(id, shares[key], seed)

    whole = all(share >= 1 for share in shares.values())
    text = "all of these documents" if whole else "a sample of these documents, left out here where others are left"
    return Learned(f"{text} (languages: {', '.join(shares)})", seen)


def _read(folder: str | Path) -> Iterator[pa.RecordBatch]:
    return batches(sorted(Path(folder).glob("*.parquet")), ("id", "lang", "source", "text"), _BATCH)


def _keys(batch: pa.RecordBatch) -> tuple[list[Cell], list[str]]:
    langs, sources = batch.column("lang").to_pylist(), batch.column("source").to_pylist()
    known = (lang if lang in LANGUAGES else "other" for lang in langs)
    return list(map(Cell, known, sources)), batch.column("id").to_pylist()


def _hash(id: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(id.encode(), seed=mix(seed, _OWN))
