"""DataConfig: all that `clean`, `dedup`, `refine`, `shard` read from configs/data/*.yaml, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.cleaners import build_cleaners


@dataclass
class Source:
    """One named set of documents: a file, or a folder that is searched for every supported format."""

    path: str
    text_field: str = "text"  # the key of plain text in jsonl and parquet
    html_field: str = "html"  # the key of raw HTML in jsonl and parquet (used where present)


@dataclass
class DedupConfig:
    """MinHash over shingles of units; documents are copies from an estimated Jaccard similarity of `threshold` on."""

    threshold: float = 0.75
    num_hashes: int = 128
    bands: int = 14
    rows: int = 8
    shingle_units: int = 5
    seed: int = 1

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not 0 < self.threshold <= 1:
            yield f"threshold: {self.threshold} is not in (0, 1]"
        if min(self.num_hashes, self.bands, self.rows, self.shingle_units) < 1:
            yield "num_hashes, bands, rows, shingle_units: all must be at least 1"
        elif self.bands * self.rows > self.num_hashes:
            yield f"bands x rows = {self.bands * self.rows} needs more than num_hashes = {self.num_hashes}"


@dataclass
class ShardConfig:
    """Clean text to token shards: held-out share, how sources are named, file size."""

    tokenizer: str = "{run}/tokenizer"
    valid_fraction: float = 0.05  # of duplicate clusters, not of documents
    by_language: bool = True  # web -> web-zh, web-en, web-other, so that a mixture can weigh them
    max_tokens_per_file: int = 1 << 30
    seed: int = 1

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not 0 <= self.valid_fraction < 1:
            yield f"valid_fraction: {self.valid_fraction} is not in [0, 1)"
        if self.max_tokens_per_file < 1:
            yield "max_tokens_per_file: must be at least 1"


@dataclass
class DataConfig:
    """From raw pages to token shards. `clean` and `refine` list cleaners in the order in which they run.

    run: folder that holds one folder per stage.  sources: name -> {path, text_field, html_field}.
    num_workers: processes (0: one per core).  shard_bytes: small input files are grouped up to this size.
    document_seconds: CPU seconds after which a document is given up as hanging (quarantine:timeout). 0: no limit, no
    protection against documents that crash the process, and one worker is then no process of its own.
    """

    sources: dict[str, Source]
    clean: dict[str, Any]
    refine: dict[str, Any]
    run: str = "runs/demo"
    dedup: DedupConfig = field(default_factory=DedupConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    num_workers: int = 0
    shard_bytes: int = 16_000_000
    document_seconds: int = 30
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each; the cleaners' own settings included."""
        if not self.sources:
            yield "sources: name at least one"
        for name in self.sources:
            if not name.replace("-", "").replace("_", "").isalnum():
                yield f"sources.{name}: use letters, digits, - and _ only (it becomes a file name)"
        if self.num_workers < 0 or self.shard_bytes < 1:
            yield "num_workers must be 0 or more, shard_bytes 1 or more"
        if self.document_seconds < 0:
            yield "document_seconds must be 0 (no limit) or more"
        found: list[str] = []
        for stage, listed in (("clean", self.clean), ("refine", self.refine)):
            for name, cleaner in build_cleaners(listed, found, stage).items():
                unknown = [source for source in getattr(cleaner, "exempt", []) if source not in self.sources]
                names = ", ".join(self.sources)
                found += [f"{stage}.{name}.exempt: no source is called {s!r}; there are {names}" for s in unknown]
        yield from found

    def folder(self, stage: str) -> Path:
        """Where a stage writes."""
        return Path(self.run) / stage

    def workers(self) -> int:
        """Number of processes to use."""
        return self.num_workers or os.cpu_count() or 1
