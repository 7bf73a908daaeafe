"""Removes exact and near duplicates (verb dedup): one copy of each stays. docs/dedup.md says how, and what it costs.

Five passes, all on disk and all but one as tasks of the engine: sketches (a task a shard), bands (a task a range of
keys), connect (one process, documents in pairs only), decisions (a task some components), and filter (a task a shard).
Documents without units are never copies; a text in Simplified and in Traditional Chinese is two texts. What the run
keeps is noted for later runs, which hold their documents against it (dedup.against). Files in work/ are complete or
absent: a killed stage goes on from there.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from data_pipeline import workers
from data_pipeline.clean import KEPT, StageShard, Stats, dropped_row, finish, stage_shards
from data_pipeline.config import DataConfig, DedupConfig
from data_pipeline.document import Document
from data_pipeline.duplicates import bands, decisions, paragraphs
from data_pipeline.duplicates.arrays import read_rows
from data_pipeline.duplicates.earlier import SETTINGS, Earlier, earlier_parts, find_earlier, keep_signatures, meaning
from data_pipeline.duplicates.estimate import estimate
from data_pipeline.duplicates.sketches import Part, Store, load_store, save_store, sketch_part
from data_pipeline.parquet import (
    DROPPED_SCHEMA,
    ROWS_PER_GROUP,
    SCHEMA,
    count_documents,
    read_documents,
    write_rows,
)
from mindllm.stage import Stage, read_json, require, write_json

Item = TypeVar("Item")
Result = TypeVar("Result")

CLUSTERS = pa.schema(  # kept_run: folder of the earlier run that kept it; empty: this one did
    [("id", pa.string()), ("kept_id", pa.string()), ("kept_run", pa.string())]
    + [("similarity", pa.float64()), ("kind", pa.string())]
)
SKETCH = ("heads", "signatures")  # what is kept of a document for later runs, besides its names
CUTS = "cuts.json"  # names the files of this run's number of ranges
LITTLE = 50_000  # documents: below, the passes between sketches and filter take less time than workers to start
NO_MEANING = ("against", "rows_per_task")  # of the settings: the one is an input, the other changes no output


def dedup(config: DataConfig) -> int:
    """Exact and near duplicates (MinHash): the best copy of each stays."""
    before = require(config.folder("clean"), "python -m data_pipeline clean CONFIG")
    against = find_earlier(config.dedup, config.run)
    settings = {key: value for key, value in asdict(config.dedup).items() if key not in NO_MEANING}
    inputs = {"clean": before["hash"]} | {f"against {earlier.folder}": earlier.hash for earlier in against}
    plan = {"dedup": settings, "signatures": meaning(config.dedup)}
    stage = Stage(config.folder("dedup"), "dedup", plan, inputs)
    if stage.start(config.force):
        work = stage.folder / "work"
        parts = list_parts(stage_shards(config.folder("clean")), against, work)
        new = [part for part in parts if not part.fixed]
        if not all(path.exists() for part in new for path in _results(part, stage.folder, config.dedup)):
            needs = estimate(parts, config.dedup, config.workers)
            print(needs.describe(), flush=True)
            needs.check_room(stage.folder)
            decide(parts, config.dedup, work, config.workers, needs.at_once)
        task = functools.partial(filter_shard, out=stage.folder, settings=config.dedup)
        outcome = workers.run(task, new, config.workers, "dedup: filter")
        write_json(stage.folder / "signatures" / SETTINGS, meaning(config.dedup))
        finish(stage, outcome, config.workers.max_failed)
    shutil.rmtree(stage.folder / "work", ignore_errors=True)  # complete, although shards may have been given up
    return 0


def list_parts(shards: Sequence[StageShard], against: Sequence[Earlier], work: Path) -> list[Part]:
    """Documents of earlier runs, then the shards; counts are from the Parquet footers."""
    parts = list(earlier_parts(against, work))
    first = sum(part.count for part in parts)
    for shard in shards:
        folder = str(work / "sketches" / shard.name)
        parts.append(Part(shard.name, str(shard.path), folder, folder, first, count_documents(shard.path)))
        first += parts[-1].count
    return parts


def decide(
    parts: Sequence[Part], settings: DedupConfig, work: Path, where: workers.WorkersConfig, at_once: int
) -> None:
    """Passes 1 to 4: leaves in `work` what load_fates needs; what is there is not made again.

    at_once: so many tasks that need rows_per_task * bands.TASK_BYTES of memory fit.
    """
    save_store(work, parts)
    store = Store(parts)
    _run("sketch", functools.partial(sketch_part, settings=settings), parts, where, store)
    if store.total < LITTLE:
        where, at_once = replace(where, engine=workers.LOCAL, num_workers=1, address=""), 1
    few, rows = replace(where, num_workers=at_once), settings.rows_per_task
    tasks = bands.list_tasks([settings.bands], store.total, max(1, rows // 2))  # of the exact hash: twice the memory
    copies = _run("exact copies", functools.partial(bands.find_copies, work=work), tasks, few, store)
    _run("place copies", functools.partial(bands.place_copies, files=copies), parts, where, store)
    tasks = bands.list_tasks(range(settings.bands), store.total, rows)
    pairs = _run("bands", functools.partial(bands.find_pairs, work=work, settings=settings), tasks, few, store)
    alone = replace(where, engine=workers.LOCAL, num_workers=1, address="")
    _run("connect", functools.partial(decisions.connect, pairs=pairs, work=work), [store], alone, store)
    task = functools.partial(decisions.choose, work=work, threshold=settings.threshold)
    _run("choose", task, decisions.list_choices(work), where, store)
    if settings.paragraphs:
        find_paragraphs([part for part in parts if not part.fixed], settings, work, where, few, store)


def find_paragraphs(
    parts: Sequence[Part],
    settings: DedupConfig,
    work: Path,
    where: workers.WorkersConfig,
    few: workers.WorkersConfig,
    store: Store,
) -> None:
    """Leave in work/cuts/ which paragraphs go from the documents that stay."""
    files = _run("paragraphs", functools.partial(collect_part, work=work, settings=settings), parts, where, store)
    collected = [(file, part.first) for file, part in zip(files, parts, strict=True)]
    num_ranges = paragraphs.num_ranges(files, settings.rows_per_task)
    find = functools.partial(
        paragraphs.find_repeats, num_ranges=num_ranges, collected=collected, out=work / "cuts", settings=settings
    )
    cuts = _run("repeated paragraphs", find, range(num_ranges), few, store)
    write_json(work / CUTS, [str(path) for path in cuts])


def collect_part(part: Part, work: Path, settings: DedupConfig) -> Path:
    """The paragraphs of one shard's documents that stay."""
    stays = decisions.load_fates(part, work).kept == np.arange(part.first, part.first + part.count)
    return paragraphs.collect(Path(part.path), stays, work / "paragraphs" / f"{part.name}.npy", settings)


def _run(
    title: str, task: Callable[[Item], Result], items: Sequence[Item], where: workers.WorkersConfig, store: Store
) -> list[Result]:
    """One pass; says how long it took, where that is worth a line."""
    start = time.monotonic()
    results = workers.run_all(task, items, where, f"dedup: {title}")
    if store.total >= LITTLE:
        print(f"dedup: {title}: {len(items):,} tasks, {time.monotonic() - start:.1f} s", flush=True)
    return results


def _results(part: Part, out: Path, settings: DedupConfig) -> list[Path]:
    """All that filter_shard writes for one shard; the file of kept documents first, although it appears last."""
    name, kept_for_later = f"{part.name}.parquet", out / "signatures" / part.name
    files = [out / name, out / "dropped" / name, out / "clusters" / name, out / "stats" / f"{part.name}.json"]
    files += [out / "paragraphs" / name] if settings.paragraphs else []
    return files + [kept_for_later / f for f in ("heads.npy", "signatures.npy", "names.arrow")]


def filter_shard(part: Part, out: Path, settings: DedupConfig) -> Path:
    """Write one shard's kept and dropped documents, what they are copies of, and signatures for later runs.

    A kept document names its cluster in meta["cluster"]: the first of its component, or, where that one was kept by an
    earlier run, the cluster that it was given there. The file of kept documents appears last: it means that all others
    are there. Returns the file of counts. memory: one row group, 30 bytes a document of the shard.
    """
    results = _results(part, out, settings)
    kept_path, dropped_path, copies_path, counts_path = results[:4]
    if all(path.exists() for path in results):
        return counts_path
    store, fates, stats = load_store(out / "work"), decisions.load_fates(part, out / "work"), Stats()
    cuts = paragraphs.load_cuts(_cut_files(out / "work"), part.first, part.count) if settings.paragraphs else {}
    documents = read_documents(Path(part.path))
    with write_rows(kept_path, SCHEMA) as kept:
        with (
            write_rows(dropped_path, DROPPED_SCHEMA) as dropped,
            write_rows(copies_path, CLUSTERS) as copies,
            keep_signatures(out / "signatures" / part.name, settings.num_hashes) as keep,
            write_rows(results[4], paragraphs.PARAGRAPHS) if settings.paragraphs else contextlib.nullcontext() as gone,
        ):
            for start in range(0, part.count, ROWS_PER_GROUP):
                batch = list(itertools.islice(documents, ROWS_PER_GROUP))
                rows = np.arange(start, start + len(batch))
                reasons = _judge(batch, part.first + rows, fates.take(rows), store)
                if gone is not None:
                    for row in _cut(batch, reasons, [cuts.get(row, {}) for row in rows.tolist()], settings):
                        gone.add(row)
                for document, reason in zip(batch, reasons, strict=True):
                    stats.add(document, reason)
                    if reason == KEPT:
                        kept.add_document(document)
                    else:
                        dropped.add(dropped_row(document, reason))
                for row in _copies(batch, part.first + rows, fates.take(rows), store):
                    copies.add(row)
                stays = [place for place, reason in enumerate(reasons) if reason == KEPT]
                heads, signatures = (read_rows(Path(part.store) / f"{k}.npy", rows[stays]) for k in SKETCH)
                names = [(batch[place].id, str(batch[place].meta["cluster"])) for place in stays]
                keep(heads, signatures, [id for id, _ in names], [cluster for _, cluster in names])
        write_json(counts_path, stats.counts)
    return counts_path


def _judge(batch: Sequence[Document], own: np.ndarray, fates: decisions.Fates, store: Store) -> list[str]:
    """A reason for each document, KEPT for those that stay; these are told their cluster. own: their ordinals."""
    stays = fates.kept == own
    clusters = iter(store.names(fates.best[stays], "cluster"))
    reasons = []
    for document, stay, exact in zip(batch, stays.tolist(), fates.exact.tolist(), strict=True):
        reasons.append(KEPT if stay else "dedup:exact" if exact else "dedup:near")
        if stay:
            document.meta["cluster"] = next(clusters)
    return reasons


def _cut(
    batch: Sequence[Document], reasons: list[str], cuts: Sequence[paragraphs.Cuts], settings: DedupConfig
) -> Iterator[dict[str, object]]:
    """Cut repeated paragraphs from documents that stay; rows of PARAGRAPHS. Of which too little is left goes."""
    for place, document in enumerate(batch):
        if reasons[place] == KEPT:
            reasons[place], gone = paragraphs.cut_document(document, cuts[place], settings.min_left_units)
            yield from gone


def _cut_files(work: Path) -> list[Path]:
    return [Path(path) for path in read_json(work / CUTS)]


def _copies(
    batch: Sequence[Document], own: np.ndarray, fates: decisions.Fates, store: Store
) -> Iterator[dict[str, object]]:
    """Rows of CLUSTERS: every copy, the document that is kept for it, and how similar they are."""
    gone = np.flatnonzero(fates.kept != own)
    kept_ids, kept_runs = store.names(fates.kept[gone], "id"), store.runs(fates.kept[gone])
    for place, kept_id, kept_run in zip(gone.tolist(), kept_ids, kept_runs, strict=True):
        similarity = float(fates.similarity[place])
        row = {"id": batch[place].id, "kept_id": kept_id, "kept_run": kept_run, "similarity": similarity}
        yield {**row, "kind": "exact" if fates.exact[place] else "near"}
