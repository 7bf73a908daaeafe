"""Runs cleaners over shards (verbs clean and refine): one input shard in, one Parquet shard of the same name out.

Each shard is one task. It writes the dropped documents with their reasons first, then the counts, the kept documents
last: a kept shard on disk means that all three are there. No document ends the run: what a cleaner raises is its reason
to go, and what hangs or kills the process is found by quarantine.py.
Memory: one row group.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_pipeline import workers
from data_pipeline.cleaners import build_cleaners
from data_pipeline.cleaners.repetition import Repetition
from data_pipeline.config import DataConfig
from data_pipeline.document import Cleaner, Document, Drop
from data_pipeline.parquet import DROPPED_SCHEMA, SCHEMA, meta_json, read_documents, write_rows
from data_pipeline.quarantine import CLEANING, READING, WRITING, Note, Place, Quarantine, condemned, watch
from data_pipeline.reading.addresses import label
from data_pipeline.reading.files import read
from data_pipeline.reading.input_shard import InputShard, broken, spell_out
from data_pipeline.reading.inputs import describe_source, list_shards
from data_pipeline.sites import collect_phrases
from data_pipeline.sources import of_source
from data_pipeline.stats import KEPT, Stats, add_up, print_stats, print_troubles
from mindllm.config import RunFailed
from mindllm.stage import Stage, hash_file, require, write_json

Reader = Callable[[Any], Iterable[Document]]
CleanerLists = dict[str, dict[str, Any]]  # DataConfig.cleaners: source -> cleaner -> settings; "" for all other sources


def clean_shard(
    shard: InputShard, lists: CleanerLists, out: Path, reader: Reader = read, document_seconds: int = 0
) -> Path:
    """Clean one shard into out/<name>.parquet, if no earlier start has; returns the file of its counts (Stats)."""
    kept_path, counts_path = out / f"{shard.name}.parquet", out / "stats" / f"{shard.name}.json"
    if kept_path.exists() and counts_path.exists():
        return counts_path
    cleaners = {name: build_cleaners(listed, [], "") for name, listed in lists.items()}
    stats = Stats()
    with watch(out, shard.name, document_seconds) as note, write_rows(kept_path, SCHEMA) as kept:
        with write_rows(out / "dropped" / f"{shard.name}.parquet", DROPPED_SCHEMA) as dropped:
            for document in _documents(shard, reader, note, condemned(out, shard.name)):
                document, drop = apply(document, of_source(document, cleaners))
                note(WRITING, 0, 0)
                stats.add(document, drop.reason if drop else KEPT)
                if drop is None:
                    kept.add_document(document)
                else:
                    dropped.add(dropped_row(document, drop.reason))
        write_json(counts_path, stats.counts)
    return counts_path


def _documents(shard: InputShard, reader: Reader, note: Note, given_up: dict[Place, str]) -> Iterator[Document]:
    """The documents of a shard, each noted; broken: those given up, and the rest of a file whose reader was."""
    index = 0
    for number, name in enumerate(shard.files):
        documents = iter(reader(replace(shard, files=(name,))))
        while True:
            note(READING, number, index)
            reason = given_up.get(Place(READING, number, index))
            if reason:
                yield broken(
                    shard, label(shard.root, name), reason, f"the file, from its document {index} of the shard on"
                )
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
    row = {k: getattr(document, k) for k in ("id", "url", "site", "lang", "source", "text")}
    return {k: spell_out(v) for k, v in {**row, "reason": reason, "meta": meta_json(document)}.items()}


def clean(config: DataConfig) -> int:
    """Raw files to clean text: format, charset, main content, density."""
    shards = list_shards(config.sources, config.shard_bytes)
    inputs = {
        name: describe_source(source, [s for s in shards if s.source == name])
        for name, source in config.sources.items()
    }
    lists = config.cleaners("clean")
    settings = _plan("clean", lists, config) | {"shard_bytes": config.shard_bytes}
    stage = Stage(config.folder("clean"), "clean", settings, inputs | _named_files(lists))
    if stage.start(config.force):
        _run(stage, shards, lists, config, read)
    return 0


def refine(config: DataConfig) -> int:
    """Sensitive content, private data, repetition within documents and across each site."""
    before = require(config.folder("dedup"), "python -m data_pipeline dedup CONFIG")
    lists = config.cleaners("refine")
    inputs = {"dedup": before["hash"]} | _named_files(lists)
    stage = Stage(config.folder("refine"), "refine", _plan("refine", lists, config), inputs)
    if stage.start(config.force):
        shards = stage_shards(config.folder("dedup"))
        counted = {name: counts_sites(listed) for name, listed in lists.items()}
        if any(counted.values()):
            out = stage.folder / "sites" / "sites.parquet"
            path = collect_phrases([s.path for s in shards], out, config.workers, counted)
            lists = {name: with_site_phrases(listed, str(path)) for name, listed in lists.items()}
        _run(stage, shards, lists, config, read_stage_shard)
    return 0


def _plan(stage: str, lists: CleanerLists, config: DataConfig) -> dict[str, Any]:
    """What the stage's plan says of its cleaners: those of all sources, and of each that differs."""
    own = {f"{stage} of {name}": listed for name, listed in lists.items() if name}
    return {stage: lists[""], **own, "document_seconds": config.document_seconds}


def counts_sites(listed: dict[str, Any]) -> bool:
    """Whether a list of cleaners looks at the phrases of a site."""
    return "repetition" in listed and Repetition(**(listed["repetition"] or {})).min_site_documents > 0


def with_site_phrases(listed: dict[str, Any], path: str) -> dict[str, Any]:
    """A list of cleaners whose repetition knows the file of site phrases."""
    return {
        name: {**(settings or {}), "site_phrases": path} if name == "repetition" else settings
        for name, settings in listed.items()
    }


def _run(stage: Stage, shards: list[Any], lists: CleanerLists, config: DataConfig, reader: Reader) -> None:
    seconds = config.document_seconds
    task = functools.partial(clean_shard, lists=lists, out=stage.folder, reader=reader, document_seconds=seconds)
    on_crash = Quarantine(stage.folder) if seconds else None
    finish(stage, workers.run(task, shards, config.workers, stage.name, on_crash), config.workers.max_failed)


def finish(stage: Stage, outcome: workers.Outcome[Path], max_failed: int) -> None:
    """Add up the counts of all shards, write stats.json and meta.json, print the table.

    Shards that failed are set aside in failed/. More than `max_failed` of them: RunFailed, and the stage is not done.
    """
    stats = add_up(outcome.results)
    set_aside(stage, outcome.failures, max_failed)
    write_json(stage.folder / "stats.json", stats.counts)
    counts: dict[str, Any] = {
        "in": stats.documents(),
        "out": stats.documents(kept=True),
        "unit": "documents",
        "bytes": stats.text_bytes(),
    }
    if outcome.failures:
        counts["failed"] = sorted(failure.name for failure in outcome.failures)
    stage.finish(**counts)
    print_stats(stage.name, stats)
    print_troubles(stage.folder, stats)


def set_aside(stage: Stage, failures: Sequence[workers.Failure], max_failed: int) -> None:
    """Write failed/<shard>.json for each, say so, and raise RunFailed where there are more than `max_failed`."""
    folder = stage.folder / "failed"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier start: those that failed again are written again
    for failure in failures:
        row = {k: spell_out(v) if isinstance(v, str) else v for k, v in failure._asdict().items()}
        write_json(folder / f"{failure.name}.json", row)
    if not failures:
        return
    number = f"{len(failures)} shard{'s' * (len(failures) > 1)}"
    head = f"{stage.name}: {number} failed and set aside in {folder}\n{workers.describe(failures)}\n"
    if len(failures) > max_failed:
        way_out = f"workers.max_failed={len(failures)} completes the stage without them"
        raise RunFailed(f"{head}All other shards are done. The same command tries these again; {way_out}.")
    print(f"{head}workers.max_failed={max_failed}: the stage is complete without them.", file=sys.stderr, flush=True)


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


def _named_files(lists: CleanerLists) -> dict[str, str]:
    """Hashes of the files that cleaners' settings name, such as lexicons: another content is another stage."""
    values = [v for listed in lists.values() for settings in listed.values() if settings for v in settings.values()]
    paths = [p for v in values for p in (v if isinstance(v, list | dict) else [v]) if isinstance(p, str) and p]
    return {f"file {path}": hash_file(path) for path in paths if os.path.isfile(path)}
