"""DataConfig: all that `clean`, `dedup`, `refine`, `shard` read from configs/data/*.yaml, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.cleaners import build_cleaners
from data_pipeline.sources import Source, forgotten, merge, subset_name
from data_pipeline.workers import WorkersConfig


@dataclass
class DedupConfig:
    """MinHash over shingles of units; documents are copies from an estimated Jaccard similarity of `threshold` on.

    against: run folders whose kept documents stay what they are; copies of them go.  rows_per_task: documents (of all
    shards) that one task sorts at a time, 31 to 75 bytes of memory each.  paragraphs: also remove, from all documents
    but the first, paragraphs of at least `min_paragraph_units` that stand in at least `min_paragraph_documents`
    documents; a document that is cut to fewer than `min_left_units` goes.
    """

    threshold: float = 0.75
    num_hashes: int = 128
    bands: int = 14
    rows: int = 8
    shingle_units: int = 5
    seed: int = 1
    against: list[str] = field(default_factory=list)
    rows_per_task: int = 50_000_000
    paragraphs: bool = False
    min_paragraph_units: int = 30
    min_paragraph_documents: int = 3
    min_left_units: int = 30

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not 0 < self.threshold <= 1:
            yield f"threshold: {self.threshold} is not in (0, 1]"
        if min(self.num_hashes, self.bands, self.rows, self.shingle_units) < 1:
            yield "num_hashes, bands, rows, shingle_units: all must be at least 1"
        elif self.bands * self.rows > self.num_hashes:
            yield f"bands x rows = {self.bands * self.rows} needs more than num_hashes = {self.num_hashes}"
        if self.rows_per_task < 1:
            yield "rows_per_task must be at least 1"
        if self.min_paragraph_units < 1 or self.min_paragraph_documents < 2 or self.min_left_units < 0:
            yield "min_paragraph_units must be 1, min_paragraph_documents 2, min_left_units 0, or more"


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

    run: folder that holds one folder per stage.  sources: name -> where it is and what differs in its cleaning.
    shard_bytes: small input files are grouped up to this size.
    document_seconds: CPU seconds after which a document is given up as hanging (quarantine:timeout). 0: no limit, no
    protection against documents that crash the process, and one worker is then no process of its own.
    """

    sources: dict[str, Source]
    clean: dict[str, Any]
    refine: dict[str, Any]
    run: str = "runs/demo"
    dedup: DedupConfig = field(default_factory=DedupConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
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
        if self.shard_bytes < 1:
            yield "shard_bytes must be 1 or more"
        if self.document_seconds < 0:
            yield "document_seconds must be 0 (no limit) or more"
        yield from self._mistaken_names()
        found: list[str] = []
        for stage in ("clean", "refine"):
            lists = self.cleaners(stage)
            for name, listed in lists.items():  # of those of a source, what differs
                own = {k: v for k, v in listed.items() if not name or k not in lists[""] or v != lists[""][k]}
                build_cleaners(own, found, f"sources.{name}.{stage}" if name else stage)
        yield from found

    def _mistaken_names(self) -> Iterator[str]:
        """Subsets that become the same source as another one; cleaners left out of a list that does not have them."""
        seen = {name: f"sources.{name}" for name in self.sources}
        for name, source in self.sources.items():
            where = f"sources.{name}"
            for other in self.sources if source.has_subsets else ():
                if other.startswith(f"{name}-"):
                    yield f"sources.{other}: a subset of {where} may have this name; do not begin it with {name}-"
            for subset, changes in source.subsets.items():
                inner, place = subset_name(name, subset), f"{where}.subsets.{subset}"
                if inner in seen:
                    yield f"{place}: becomes the source {inner}, as {seen[inner]} does"
                seen[inner] = place
                yield from forgotten(merge(self.clean, source.clean), changes.clean, f"{place}.clean")
                yield from forgotten(merge(self.refine, source.refine), changes.refine, f"{place}.refine")
            yield from forgotten(self.clean, source.clean, f"{where}.clean")
            yield from forgotten(self.refine, source.refine, f"{where}.refine")

    def cleaners(self, stage: str) -> dict[str, dict[str, Any]]:
        """What `clean` or `refine` lists, under "", and for each source or subset that differs, under its name."""
        lists: dict[str, dict[str, Any]] = {"": getattr(self, stage)}
        for name, source in self.sources.items():
            own = merge(lists[""], getattr(source, stage))
            if own != lists[""]:
                lists[name] = own
            for subset, changes in source.subsets.items():
                lists[subset_name(name, subset)] = merge(own, getattr(changes, stage))
        return lists

    def folder(self, stage: str) -> Path:
        """Where a stage writes."""
        return Path(self.run) / stage
