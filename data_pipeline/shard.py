"""Clean text to token shards (verb shard): encode every document, hold some out by duplicate cluster, permute, pack.

Two passes: each refined shard is encoded to its own token file (one task a shard), then the documents of each source
and split are gathered in keyed order, so that a training context does not hold one site after the other. Memory: 70
bytes a document and one file buffer; disk: the tokens twice until the work folder is removed at the end.
"""

from __future__ import annotations

import functools
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from rich.console import Console
from rich.table import Table

from data_pipeline import workers
from data_pipeline.clean import StageShard, stage_shards
from data_pipeline.config import DataConfig, ShardConfig
from data_pipeline.parquet import read_documents
from mindllm.config import UserError
from mindllm.hashing import mix
from mindllm.mixture import Permutation
from mindllm.shards import Shards, ShardWriter
from mindllm.stage import Stage, atomic, read_json, require
from mindllm.text import language_group
from mindllm.tokenizer import Tokenizer, load_tokenizer

WORK = ".work"  # no source can have this name
OPEN_SHARDS = 500  # of encoded shards, each a file: systems allow some 1000
_BATCH = 256  # documents encoded at a time


def shard(config: DataConfig) -> int:
    """Clean text to token shards: shards/<source>/{train,valid}."""
    refined = require(config.folder("refine"), "python -m data_pipeline refine CONFIG")
    tokenizer = load_tokenizer(config.shard.tokenizer)
    settings = {k: v for k, v in asdict(config.shard).items() if k != "tokenizer"}
    inputs = {"refine": refined["hash"], "tokenizer": tokenizer.fingerprint}
    stage = Stage(config.folder("shards"), "shards", settings, inputs)
    if not stage.start(config.force):
        return 0
    shards = stage_shards(config.folder("refine"))
    task = functools.partial(
        encode_shard, tokenizer=config.shard.tokenizer, out=stage.folder / WORK, settings=config.shard
    )
    encoded = workers.run_all(task, shards, config.workers, "shards")
    metas = gather(encoded, stage.folder, tokenizer, config.shard)
    shutil.rmtree(stage.folder / WORK, ignore_errors=True)
    total = sum(meta["tokens"] for meta in metas.values())
    text_bytes = sum(meta["bytes"] for meta in metas.values())
    stage.finish(**{"in": text_bytes, "out": total, "unit": "bytes -> tokens", "sources": _summary(metas)})
    _print(metas)
    return 0


def encode_shard(shard: StageShard, tokenizer: str, out: Path, settings: ShardConfig) -> Path:
    """Encode one refined shard into its own folder of token shards plus documents.npz (written last: complete)."""
    folder = out / shard.name
    if (folder / "documents.npz").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    model = load_tokenizer(tokenizer)
    writer = ShardWriter(folder, model.vocab_size, model.eos_id, model.fingerprint)
    sources: list[str] = []
    clusters: list[int] = []
    sizes: list[int] = []
    batch: list[str] = []
    for document in read_documents(shard.path):
        sources.append(source_name(document.source, document.lang, settings.by_language))
        clusters.append(cluster_hash(str(document.meta.get("cluster", document.id)), settings.seed))
        sizes.append(len(document.text.encode()))
        batch.append(document.text)
        if len(batch) == _BATCH:
            _encode(model, writer, batch, sizes)
            batch = []
    _encode(model, writer, batch, sizes)
    writer.finish()
    with atomic(folder / "documents.npz") as path, open(path, "wb") as file:
        np.savez(
            file,
            sources=np.array(sources, dtype=np.str_),
            clusters=np.array(clusters, dtype=np.uint64),
            sizes=np.array(sizes, dtype=np.int64),
        )
    return folder


def _encode(model: Tokenizer, writer: ShardWriter, batch: list[str], sizes: list[int]) -> None:
    start = len(sizes) - len(batch)
    for offset, ids in enumerate(model.encode_batch(batch)):
        writer.add(ids, sizes[start + offset])


def source_name(source: str, lang: str, by_language: bool) -> str:
    """The training source of a document: its own, or split by language (web-zh, web-en, web-other)."""
    return f"{source}-{language_group(lang)}" if by_language else source


def cluster_hash(cluster: str, seed: int) -> int:
    """64 bits that decide about a duplicate cluster, so that near-duplicates stay together."""
    return xxhash.xxh3_64_intdigest(cluster.encode(), seed=seed)


def held_out(tables: list[dict[str, np.ndarray]], names: list[str], settings: ShardConfig) -> np.ndarray:
    """The hashes (uint64) of the clusters that are validation text: those below valid_fraction of all 64-bit numbers.

    A source of several clusters that is too small to have one there gives its lowest, so that it can be validated too.
    """
    chosen: list[np.ndarray] = []
    for name in names:
        hashes = np.unique(np.concatenate([t["clusters"][t["sources"] == name] for t in tables]))
        few = int(len(hashes) > 1 and settings.valid_fraction > 0)
        below = int(np.searchsorted(hashes, np.uint64(settings.valid_fraction * 2.0**64)))
        chosen.append(hashes[: max(below, few)])
    return np.unique(np.concatenate(chosen))


def gather(encoded: list[Path], out: Path, tokenizer: Tokenizer, settings: ShardConfig) -> dict[str, dict[str, Any]]:
    """Write shards/<source>/{train,valid} from the encoded shards; what is complete stays. {"source/split": meta}."""
    tables = [_load_table(folder) for folder in encoded]
    names = sorted({str(name) for table in tables for name in np.unique(table["sources"])})
    if not names:
        raise UserError("shards: no document is left after cleaning; look at the reasons in */stats.json")
    metas: dict[str, dict[str, Any]] = {}
    valid = held_out(tables, names, settings)
    for name in names:
        for split in ("train", "valid"):
            wanted = [np.isin(t["clusters"], valid, invert=split == "train") & (t["sources"] == name) for t in tables]
            chosen = [np.flatnonzero(rows) for rows in wanted]
            if sum(map(len, chosen)):
                folder = out / name / split
                meta = read_json(folder / "meta.json") or _write(folder, encoded, tables, chosen, tokenizer, settings)
                metas[f"{name}/{split}"] = meta
    return metas


def _load_table(folder: Path) -> dict[str, np.ndarray]:
    """What encode_shard notes: sources (str), clusters (uint64) and sizes (int64), all of shape (documents,)."""
    with np.load(folder / "documents.npz", allow_pickle=False) as file:
        return dict(file)


def _write(
    folder: Path,
    encoded: list[Path],
    tables: list[dict[str, np.ndarray]],
    chosen: list[np.ndarray],
    tokenizer: Tokenizer,
    settings: ShardConfig,
) -> dict[str, Any]:
    """One source and split, its documents in keyed order."""
    where = np.concatenate([np.full(len(rows), k) for k, rows in enumerate(chosen)])
    rows = np.concatenate(chosen)
    store = functools.lru_cache(maxsize=OPEN_SHARDS)(Shards)  # slow: 0.2 ms a document where there are more shards
    ends = [np.append(0, store(folder).all_ends()) for folder in encoded]
    writer = ShardWriter(
        folder, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.fingerprint, settings.max_tokens_per_file
    )
    order = Permutation(len(rows), mix(settings.seed, 3))
    for i in range(len(rows)):
        place = order[i]
        shard, row = int(where[place]), int(rows[place])
        tokens = store(encoded[shard]).read(ends[shard][row], ends[shard][row + 1])
        writer.add(tokens[:-1], int(tables[shard]["sizes"][row]))  # without its eos
    return writer.finish()


def _summary(metas: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    return {name: {k: meta[k] for k in ("documents", "tokens", "bytes")} for name, meta in metas.items()}


def _print(metas: dict[str, dict[str, Any]]) -> None:
    table = Table("source", "documents", "tokens", "bytes", "bytes per token", title="shards")
    for name, meta in metas.items():
        ratio = meta["bytes"] / max(1, meta["tokens"])
        table.add_row(name, f"{meta['documents']:,}", f"{meta['tokens']:,}", f"{meta['bytes']:,}", f"{ratio:.2f}")
    Console().print(table)
