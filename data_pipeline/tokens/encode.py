"""Encodes a refined shard: its documents become token ids, in sorted runs (runs.py), and a small summary.

A document's key, by which it is sorted, is a keyed hash of its id; whether it is held out follows from a keyed hash of
its duplicate cluster. The two are keyed differently: without a cluster both hash the id, and the keys of training text
must be spread over all numbers. Cost: the tokenizer, and 5 us a document. Memory: 200 MB, and the tokenizer's.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from data_pipeline.clean import StageShard
from data_pipeline.config import ShardConfig
from data_pipeline.tokens import runs
from data_pipeline.tokens.runs import ROW, SPLITS, write_run
from mindllm.hashing import mix
from mindllm.shard_files import check_ids, token_dtype
from mindllm.stage import read_json, write_json
from mindllm.text import LANGUAGES, language_group
from mindllm.tokenizer import Tokenizer, load_tokenizer

RUNS = "runs"  # below the work folder
SUMMARY = "summary.json"
COLUMNS = ["text", "id", "lang", "source", "meta"]
BATCH = 128  # documents encoded at a time: of the largest size (20 MB), 2.5 GB
_KEY = 3  # what sets the seed of keys apart from that of clusters
_OTHER = LANGUAGES.index("other")


def source_name(source: str, lang: str, by_language: bool) -> str:
    """The training source of a document: its own, or split by language (web-zh, web-en, web-other)."""
    return f"{source}-{language_group(lang)}" if by_language else source


def document_key(id: str, seed: int) -> int:
    """64 bits that say where in its source a document stands."""
    return xxhash.xxh3_64_intdigest(id.encode(), seed=_key_seed(seed))


@functools.lru_cache(maxsize=8)
def _key_seed(seed: int) -> int:
    return mix(seed, _KEY)


def cluster_hash(cluster: str, seed: int) -> int:
    """64 bits that decide about a duplicate cluster, so that near-duplicates stay together."""
    return xxhash.xxh3_64_intdigest(cluster.encode(), seed=seed)


def valid_limit(fraction: float) -> int:
    """Clusters whose hashes are below are held out."""
    return int(fraction * 2.0**64)


@functools.lru_cache(maxsize=1)
def tokenizer_of(folder: str, fingerprint: str) -> Tokenizer:
    """The tokenizer, loaded once a process: what it has looked up before speeds up the next shard."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != fingerprint:
        raise RuntimeError(f"{folder}: the tokenizer has changed while it was in use")
    return tokenizer


def encode_shard(
    shard: StageShard, tokenizer: str, fingerprint: str, work: Path, settings: ShardConfig
) -> dict[str, Any]:
    """Write work/runs/<shard>/, summary.json last (complete); the summary.

    {source: {"train": [documents, tokens, squares of their lengths], "valid": the same, "lowest" and "highest": hashes
    of its clusters, "stretches": [Stretch, ...]}}
    """
    folder = work / RUNS / shard.name
    summary: dict[str, Any] | None = read_json(folder / SUMMARY)
    if summary is None:
        shutil.rmtree(folder, ignore_errors=True)
        encoder = _Encoder(tokenizer_of(tokenizer, fingerprint), work / RUNS, shard.name, settings)
        summary = encoder.encode(shard.path)
        write_json(folder / SUMMARY, summary)
    return summary


class _Encoder:
    """The documents of one shard, gathered until they make a run."""

    def __init__(self, tokenizer: Tokenizer, folder: Path, name: str, settings: ShardConfig):
        self._tokenizer, self._folder, self._name, self._settings = tokenizer, folder, name, settings
        self._dtype = token_dtype(tokenizer.vocab_size)
        self._eos = np.array([tokenizer.eos_id], dtype=np.uint32)
        self._codes: dict[str, int] = {}  # of sources, in the order in which they are met
        self._summary: dict[str, Any] = {}
        self._num_runs = 0
        self._clear()

    def encode(self, path: Path) -> dict[str, Any]:
        """All of it; the summary."""
        for batch in _read(path):
            tokens, rows, sources = self._encode(batch)
            full = self._num_tokens + len(tokens) > runs.RUN_TOKENS
            if self._num_tokens and (full or self._num_documents + len(rows) > runs.RUN_DOCUMENTS):
                self._write()
            rows["start"] += np.uint32(self._num_tokens)
            self._parts.append((tokens, rows, sources))
            self._num_tokens += len(tokens)
            self._num_documents += len(rows)
        if self._num_documents:
            self._write()
        return dict(sorted(self._summary.items()))

    def _clear(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._num_tokens = self._num_documents = 0

    def _encode(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens end to end, ROWs, and the codes of sources (int64) of some documents."""
        texts, ids, langs, sources, metas = (batch.column(name).to_pylist() for name in COLUMNS)
        seed = self._settings.seed
        encoded = self._tokenizer.encode_batch(texts)
        rows = np.zeros(len(texts), dtype=ROW)
        rows["key"] = [document_key(id, seed) for id in ids]
        rows["cluster"] = [cluster_hash(_cluster(meta, id), seed) for meta, id in zip(metas, ids, strict=True)]
        rows["length"] = [len(document) + 1 for document in encoded]
        rows["start"] = np.cumsum(rows["length"]) - rows["length"]
        rows["bytes"] = pc.binary_length(batch.column("text")).to_numpy(zero_copy_only=False)
        rows["language"] = [LANGUAGES.index(lang) if lang in LANGUAGES else _OTHER for lang in langs]
        named = (source_name(s, lang, self._settings.by_language) for s, lang in zip(sources, langs, strict=True))
        codes = np.array([self._codes.setdefault(name, len(self._codes)) for name in named], dtype=np.int64)
        tokens = np.concatenate([part for document in encoded for part in (document, self._eos)])
        check_ids(tokens, self._tokenizer.vocab_size, self._tokenizer.folder)
        return tokens.astype(self._dtype), rows, codes

    def _write(self) -> None:
        """What has been gathered, as one run."""
        tokens, rows, sources = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        self._clear()
        held = rows["cluster"] < np.uint64(valid_limit(self._settings.valid_fraction))
        found = write_run(self._folder, f"{self._name}/{self._num_runs:05d}", tokens, rows, sources, held)
        self._num_runs += 1
        for name, code in self._codes.items():
            if code in found:
                mine = sources == code
                add_up(self._summary, name, summarise(rows[mine], held[mine]) | {"stretches": [found[code]]})


def summarise(rows: np.ndarray, held: np.ndarray) -> dict[str, Any]:
    """Of ROWs of one source, and which are held out (bool): what encode_shard says, without the stretches."""
    lengths = rows["length"].astype(np.int64)
    parts = (lengths[~held], lengths[held])
    counts = {
        split: [len(part), int(part.sum()), int((part * part).sum())] for split, part in zip(SPLITS, parts, strict=True)
    }
    return {**counts, "lowest": int(rows["cluster"].min()), "highest": int(rows["cluster"].max())}


def add_up(total: dict[str, Any], name: str, summary: dict[str, Any]) -> None:
    """Add the summary of a source to those of all, in place. The lists of stretches keep their order."""
    old = total.get(name)
    if old is None:
        total[name] = {**summary, "stretches": list(summary["stretches"])}
        return
    for split in SPLITS:
        old[split] = [a + b for a, b in zip(old[split], summary[split], strict=True)]
    old["lowest"], old["highest"] = min(old["lowest"], summary["lowest"]), max(old["highest"], summary["highest"])
    old["stretches"] += summary["stretches"]


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of a refined shard, the columns that matter here. memory: a row group, and a batch."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=BATCH, columns=COLUMNS)


def _cluster(meta: str, id: str) -> str:
    """The duplicate cluster of a document: what dedup has noted, else itself."""
    return str(json.loads(meta).get("cluster", id)) if '"cluster"' in (meta or "") else id
