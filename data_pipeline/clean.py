"""Runs cleaners over shards (verbs clean and refine): one input shard in, one Parquet shard of the same name out.

Each shard is one task. It writes the dropped documents with their reasons first, then the counts, the kept documents
last: a kept shard on disk means that all three are there. No document ends the run: what a cleaner raises is its reason
to go, and what hangs or kills the process is found by quarantine.py.
Memory: one row group.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_pipeline import workers
from data_pipeline.cleaners import build_cleaners
from data_pipeline.config import DataConfig, Source
from data_pipeline.document import Cleaner, Document, Drop
from data_pipeline.files import read
from data_pipeline.inputs import InputShard, broken, list_shards, spell_out
from data_pipeline.parquet import DROPPED_SCHEMA, SCHEMA, meta_json, read_documents, write_rows
from data_pipeline.quarantine import CLEANING, READING, WRITING, Note, Place, Quarantine, condemned, watch
from data_pipeline.sites import collect_phrases
from mindllm.stage import Stage, hash_file, hash_json, read_json, require, write_json

KEPT = ""  # the reason of a document that stays


class Stats:
    """Documents and UTF-8 bytes of text by (language, site, reason); reason "" means kept. Two Stats add up with +."""

    def __init__(self, counts: dict[str, list[int]] | None = None):
        self.counts = counts or {}

    def add(self, document: Document, reason: str) -> None:
        """Count one document."""
        entry = self.counts.setdefault("\t".join((document.lang or "?", document.site, reason)), [0, 0])
        entry[0] += 1
        entry[1] += len(document.text.encode("utf-8", "ignore"))

    def __add__(self, other: Stats) -> Stats:
        merged = {k: list(v) for k, v in self.counts.items()}
        for key, (documents, size) in other.counts.items():
            entry = merged.setdefault(key, [0, 0])
            entry[0] += documents
            entry[1] += size
        return Stats(dict(sorted(merged.items())))

    def rows(self) -> Iterator[tuple[str, str, str, int, int]]:
        """(language, site, reason, documents, bytes) a row."""
        for key, (documents, size) in self.counts.items():
            lang, rest = key.split("\t", 1)
            site, reason = rest.rsplit("\t", 1)  # a site may hold anything
            yield lang, site, reason, documents, size

    def documents(self, kept: bool | None = None) -> int:
        """Number of documents; only the kept or only the dropped ones if asked."""
        return sum(n for _, _, reason, n, _ in self.rows() if kept is None or kept == (reason == KEPT))

    def text_bytes(self) -> int:
        """Bytes of text kept."""
        return sum(size for _, _, reason, _, size in self.rows() if reason == KEPT)


Reader = Callable[[Any], Iterable[Document]]


def clean_shard(
    shard: InputShard, listed: dict[str, Any], out: Path, reader: Reader = read, document_seconds: int = 0
) -> Stats:
    """Clean one shard into out/<name>.parquet, or return the counts of an earlier run that finished it."""
    kept_path, counts_path = out / f"{shard.name}.parquet", out / "stats" / f"{shard.name}.json"
    if kept_path.exists() and counts_path.exists():
        return Stats(read_json(counts_path))
    cleaners = build_cleaners(listed, [], "")
    stats = Stats()
    with watch(out, shard.name, document_seconds) as note, write_rows(kept_path, SCHEMA) as kept:
        with write_rows(out / "dropped" / f"{shard.name}.parquet", DROPPED_SCHEMA) as dropped:
            for document in _documents(shard, reader, note, condemned(out, shard.name)):
                document, drop = apply(document, cleaners)
                note(WRITING, 0, 0)
                stats.add(document, drop.reason if drop else KEPT)
                if drop is None:
                    kept.add_document(document)
                else:
                    dropped.add(dropped_row(document, drop.reason))
        write_json(counts_path, stats.counts)
    return stats


def _documents(shard: InputShard, reader: Reader, note: Note, given_up: dict[Place, str]) -> Iterator[Document]:
    """The documents of a shard, each noted; broken: those given up, and the rest of a file whose reader was."""
    index = 0
    for number, name in enumerate(shard.files):
        documents = iter(reader(replace(shard, files=(name,))))
        while True:
            note(READING, number, index)
            reason = given_up.get(Place(READING, number, index))
            if reason:
                yield broken(shard, name, reason, f"the file, from its document {index} of the shard on")
                index += 1
                break
            document = next(documents, None)
            if document is None:
                break
            note(CLEANING, number, index)
            reason = given_up.get(Place(CLEANING, number, index))
            if reason:
                document.meta["broken"] = reason
            yield document
            index += 1
    note(WRITING, 0, 0)


def apply(document: Document, cleaners: dict[str, Cleaner]) -> tuple[Document, Drop | None]:
    """Run the cleaners in order until one drops the document; one that fails drops it, with the error as reason."""
    if "broken" in document.meta:
        return document, Drop(document.meta["broken"])
    for name, cleaner in cleaners.items():
        try:
            result = cleaner(document)
        except Exception as error:  # one bad document must not end the run; it is kept in dropped/ with this reason
            return document, Drop(f"error:{name}:{type(error).__name__}")
        if isinstance(result, Drop):
            return document, result
        document = result
    return document, None if _is_unicode(document) else Drop("error:clean:lone_surrogate")


def _is_unicode(document: Document) -> bool:
    """Whether the document can be written: Parquet holds no lone surrogates, which JSON in a page may spell."""
    try:
        "".join((document.text, document.id, document.url, document.site, meta_json(document))).encode()
    except UnicodeEncodeError:
        return False
    return True


def dropped_row(document: Document, reason: str) -> dict[str, str]:
    """A row of dropped/<shard>.parquet; lone surrogates are spelled out."""
    row = {k: getattr(document, k) for k in ("id", "url", "site", "lang", "text")}
    return {k: spell_out(v) for k, v in {**row, "reason": reason, "meta": meta_json(document)}.items()}


def clean(config: DataConfig) -> int:
    """Raw files to clean text: format, charset, main content, density."""
    shards = list_shards(config.sources, config.shard_bytes)
    inputs = {
        name: _describe(source, [s for s in shards if s.source == name]) for name, source in config.sources.items()
    }
    settings = {"clean": config.clean, "shard_bytes": config.shard_bytes, "document_seconds": config.document_seconds}
    stage = Stage(config.folder("clean"), "clean", settings, inputs | _named_files(config.clean))
    if stage.start(config.force):
        _run(stage, shards, config.clean, config, read)
    return 0


def refine(config: DataConfig) -> int:
    """Sensitive content, private data, repetition within documents and across each site."""
    before = require(config.folder("dedup"), "python -m data_pipeline dedup CONFIG")
    inputs = {"dedup": before["hash"]} | _named_files(config.refine)
    settings = {"refine": config.refine, "document_seconds": config.document_seconds}
    stage = Stage(config.folder("refine"), "refine", settings, inputs)
    if stage.start(config.force):
        listed = dict(config.refine)
        shards = stage_shards(config.folder("dedup"))
        if "repetition" in listed:
            path = collect_phrases([s.path for s in shards], stage.folder / "sites" / "sites.parquet", config.workers())
            listed["repetition"] = {**(listed["repetition"] or {}), "site_phrases": str(path)}
        _run(stage, shards, listed, config, read_stage_shard)
    return 0


def _run(stage: Stage, shards: list[Any], listed: dict[str, Any], config: DataConfig, reader: Reader) -> None:
    seconds = config.document_seconds
    task = functools.partial(clean_shard, listed=listed, out=stage.folder, reader=reader, document_seconds=seconds)
    on_crash = Quarantine(stage.folder) if seconds else None
    finish(stage, workers.run(task, shards, config.workers(), stage.name, on_crash))


def finish(stage: Stage, parts: Iterable[Stats]) -> None:
    """Add up the counts of all shards, write stats.json and meta.json, print the table."""
    stats = functools.reduce(Stats.__add__, parts, Stats())
    write_json(stage.folder / "stats.json", stats.counts)
    counts = {
        "in": stats.documents(),
        "out": stats.documents(kept=True),
        "unit": "documents",
        "bytes": stats.text_bytes(),
    }
    stage.finish(**counts)
    print_stats(stage.name, stats)
    print_troubles(stage.folder, stats)


@dataclass(frozen=True)
class StageShard(InputShard):
    """A Parquet shard that an earlier stage wrote."""

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.root) / self.files[0]


def stage_shards(folder: Path) -> list[StageShard]:
    """The shards of a complete stage, by name."""
    return [StageShard(p.stem, (p.name,), "", str(folder)) for p in sorted(folder.glob("*.parquet"))]


def read_stage_shard(shard: StageShard) -> Iterator[Document]:
    """The documents of an earlier stage's shard."""
    return read_documents(shard.path)


def _named_files(listed: dict[str, Any]) -> dict[str, str]:
    """Hashes of the files that cleaners' settings name, such as lexicons: another content is another stage."""
    values = [v for settings in listed.values() if settings for v in settings.values()]
    paths = [p for v in values for p in (v if isinstance(v, list | dict) else [v]) if isinstance(p, str) and p]
    return {f"file {path}": hash_file(path) for path in paths if os.path.isfile(path)}


def _describe(source: Source, shards: list[InputShard]) -> dict[str, Any]:
    """What the inputs of one source are: how they are read, counts, and one hash over names and contents."""
    files = [f"{f} {_hash_input(Path(s.root) / f)}" for s in shards for f in s.files]
    fields = {"text_field": source.text_field, "html_field": source.html_field}
    return {**fields, "files": len(files), "bytes": sum(s.num_bytes for s in shards), "hash": hash_json(files)}


def _hash_input(path: Path) -> str:
    """hash_file; one word for what is no readable file (no permission, a link to nowhere, a pipe)."""
    try:
        return hash_file(path) if path.is_file() else "unreadable"
    except OSError:
        return "unreadable"


def print_stats(stage: str, stats: Stats) -> None:
    """Kept and dropped documents by language, and the reasons, as a table."""
    table = Table("language", "kept", "dropped", "kept bytes", "reasons", title=stage)
    for lang in sorted({row[0] for row in stats.rows()}):
        rows = [row for row in stats.rows() if row[0] == lang]
        kept = sum(n for _, _, reason, n, _ in rows if reason == KEPT)
        size = sum(b for _, _, reason, _, b in rows if reason == KEPT)
        reasons: dict[str, int] = {}
        for _, _, reason, n, _ in rows:
            if reason != KEPT:
                reasons[reason] = reasons.get(reason, 0) + n
        shown = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])[:4])
        table.add_row(lang, str(kept), str(sum(reasons.values())), f"{size:,}", shown)
    Console().print(table)


def print_troubles(folder: Path, stats: Stats) -> None:
    """How many documents could not be read, made a cleaner fail, or were put into quarantine, by reason, and where."""
    for kind, head in (("read", "not read"), ("error", "made a cleaner fail"), ("quarantine", "hang or crash")):
        reasons: dict[str, int] = {}
        for _, _, reason, n, _ in stats.rows():
            if reason.startswith(f"{kind}:"):
                reasons[reason] = reasons.get(reason, 0) + n
        if reasons:
            shown = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]))
            print(f"{head}: {sum(reasons.values())} ({shown}); listed in {folder / 'dropped'}", flush=True)
