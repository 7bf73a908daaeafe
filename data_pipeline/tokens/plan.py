"""What is held out, and which output files a source becomes: decided from the summaries of all encoded shards.

A file takes the documents of an equal range of keys. Keys are uniform, so with n documents of lengths l in F files, a
file has (sum of l) / F tokens, with a standard deviation of sqrt((sum of l^2) / F). F is the least number for which
DEVIATIONS of them stay below max_tokens_per_file: one file in three million is larger, or one with documents that are
large themselves (there are never more files than documents). Memory: 200 bytes a run and source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_pipeline.config import ShardConfig
from data_pipeline.tokens.encode import add_up, valid_limit
from data_pipeline.tokens.runs import SPLITS, TRAIN, VALID

KEYS = 1 << 64
DEVIATIONS = 5


@dataclass(frozen=True)
class FilePlan:
    """An output file: documents of one source and split with keys in [low, high).

    tokens, rows: about how many tokens it gets, and how many rows have to be looked at for it.
    num_bytes: weighs it among others.
    """

    source: str
    split: str
    number: int
    low: int
    high: int
    tokens: int
    rows: int

    @property
    def file(self) -> str:
        """Its name in the folder of the split, without suffix."""
        return f"{self.number:05d}"

    @property
    def name(self) -> str:
        """What a failure calls it."""
        return f"{self.source}/{self.split}/{self.file}"

    @property
    def num_bytes(self) -> int:
        """The work, roughly: tokens and rows."""
        return 4 * self.tokens + 32 * self.rows


def total_of(summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The summaries of shards (encode_shard), added up by source; the stretches in the order of the shards."""
    total: dict[str, Any] = {}
    for summary in summaries:
        for name, row in summary.items():
            add_up(total, name, row)
    return dict(sorted(total.items()))


def extra_clusters(sources: Mapping[str, Any], settings: ShardConfig) -> tuple[int, ...]:
    """Hashes of clusters that are held out besides those below valid_fraction of all 64-bit numbers.

    A source of several clusters that is too small to have one there gives its lowest, so that it can be validated too.
    """
    limit = valid_limit(settings.valid_fraction)
    if not settings.valid_fraction:
        return ()
    return tuple(sorted({s["lowest"] for s in sources.values() if limit <= s["lowest"] < s["highest"]}))


def num_files(documents: int, tokens: int, squares: int, max_tokens: int) -> int:
    """Into how many files so many documents go; squares: the sum of their squared numbers of tokens.

    The least F with tokens / F + DEVIATIONS * sqrt(squares / F) <= max_tokens: a quadratic equation in 1 / sqrt(F).
    """
    if tokens <= max_tokens:
        return 1
    spread = DEVIATIONS * math.sqrt(squares)
    root = (spread + math.sqrt(spread * spread + 4 * tokens * max_tokens)) / (2 * max_tokens)  # sqrt(F)
    return min(documents, math.ceil(root * root))


def list_files(sources: Mapping[str, Any], settings: ShardConfig, extra: bool) -> Iterator[FilePlan]:
    """The files of all sources. extra: whether there are extra clusters, for which all rows have to be looked at.

    A file, or a split, may turn out to have no documents at all.
    """
    for name, summary in sources.items():
        for split in SPLITS:
            documents, tokens, squares = summary[split]
            seeks = extra and split == VALID and summary[TRAIN][0] > 0
            if not documents and not seeks:
                continue
            count = num_files(documents, tokens, squares, settings.max_tokens_per_file)
            rows = documents + (summary[TRAIN][0] if seeks else 0)
            for number in range(count):
                low, high = (KEYS * i // count for i in (number, number + 1))
                yield FilePlan(name, split, number, low, high, tokens // count, rows // count)
