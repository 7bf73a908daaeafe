"""The text that a tokenizer is learned from: documents drawn by keyed hash, so many bytes a language and source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import xxhash

from mindllm.config import UserError
from mindllm.text import language_group
from mindllm.tokenizer.config import TokenizerConfig


def draw(config: TokenizerConfig) -> tuple[Iterator[str], int]:
    """The lines of the sample (made anew at each call), and its bytes."""
    shards = sorted(Path(config.documents).glob("*.parquet"))
    fractions, chosen = _plan_sample(shards, config.sample_bytes)
    return _sample_lines(shards, fractions, config.seed), chosen


def _plan_sample(shards: list[Path], limits: dict[str, int]) -> tuple[dict[str, float], int]:
    """Share of the documents to take by language, and the bytes that will be."""
    totals = {"zh": 0, "en": 0, "other": 0}
    for lang, _, text in _documents(shards):
        totals[language_group(lang)] += len(text.encode())
    fractions = {k: min(1.0, limits.get(k, 0) / n) if n else 0.0 for k, n in totals.items()}
    chosen = sum(int(totals[k] * fractions[k]) for k in totals)
    if chosen == 0:
        folder = shards[0].parent if shards else "documents"
        raise UserError(f"{folder}: no text to learn a tokenizer from; bytes by language: {totals}")
    return fractions, chosen


def _sample_lines(shards: list[Path], fractions: dict[str, float], seed: int) -> Iterator[str]:
    """Lines of the documents whose keyed hash falls below their language's share: the same ones every time."""
    for lang, id, text in _documents(shards):
        if xxhash.xxh3_64_intdigest(id.encode(), seed=seed) < fractions[language_group(lang)] * 2.0**64:
            yield from filter(None, text.split("\n"))


def _documents(shards: list[Path]) -> Iterator[tuple[str, str, str]]:
    for path in shards:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000, columns=["lang", "id", "text"]):
                yield from zip(*(batch.column(c).to_pylist() for c in ("lang", "id", "text")), strict=True)
