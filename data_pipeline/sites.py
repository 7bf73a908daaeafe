"""Phrase statistics per web site: on how many documents of a site each phrase stands, for the repetition cleaner.

Pass one counts each shard alone and writes its phrases (paragraphs, lines, sentences: data_pipeline.phrases) in 64
groups by key, in runs of a million; pass two adds up one group of all shards at a time. Cost: the keys of all phrases
(10 to 20 MB/s and core for texts of some thousand characters). Memory: pass one about 100 MB, however large the shard;
pass two 40 bytes per phrase (counted once a shard) in a 64th of all shards, plus 40 per phrase found twice.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline import workers
from data_pipeline.document import Document
from data_pipeline.parquet import read_documents
from data_pipeline.phrases import find_phrases
from data_pipeline.sources import of_source
from mindllm.stage import atomic

NUM_GROUPS = 64
MAX_BUFFERED = 1_000_000  # phrases in memory before they are counted and written
SCHEMA = pa.schema(
    [("site", pa.string()), ("phrase_key", pa.uint64()), ("num_documents", pa.int64()), ("site_documents", pa.int64())]
)
_PART_SCHEMA = pa.schema([("site", pa.string()), ("phrase_key", pa.uint64()), ("num_documents", pa.int64())])
_SITE_DOCUMENTS = b"site_documents"  # key of the part file's metadata: documents by site, as JSON


def collect_phrases(
    paths: list[Path], out: Path, settings: workers.WorkersConfig, counted: dict[str, bool] | None = None
) -> Path:
    """Write `out`: a row (site, phrase_key, num_documents, site_documents) per phrase on two documents of a site.

    `paths`: Parquet shards of documents.  `counted`: by source (sources.of_source), whether its documents count; all do
    if it is None. Rows are sorted by site and key: the file is the same for any number of
    workers. An `out` that exists is complete and returned at once; an interrupted pass one goes on where it was.
    """
    if out.exists():
        return out
    folder = out.parent / f".{out.stem}"
    items = [(path, folder / f"{number:05d}-{path.stem}.parquet") for number, path in enumerate(paths)]
    parts = workers.run_all(
        functools.partial(_count_shard, counted=counted or {"": True}), items, settings, "site phrases"
    )
    site_documents: dict[str, int] = {}
    for part in parts:
        for site, count in json.loads(pq.read_metadata(part).metadata[_SITE_DOCUMENTS]).items():
            site_documents[site] = site_documents.get(site, 0) + count
    one = replace(settings, num_workers=1)  # memory: each needs a part of every shard
    groups = workers.run_all(functools.partial(_merge_group, parts), range(NUM_GROUPS), one, "site phrases, merge")
    _write(pa.concat_tables(groups), site_documents, out)
    shutil.rmtree(folder, ignore_errors=True)
    return out


def _count_shard(item: tuple[Path, Path], counted: dict[str, bool]) -> Path:
    """Pass one for one shard: documents per (site, phrase), NUM_GROUPS row groups a run; those per site in metadata."""
    path, part = item
    if part.exists():
        return part
    site_documents: dict[str, int] = {}
    with atomic(part) as temporary, pq.ParquetWriter(temporary, _PART_SCHEMA) as writer:
        documents = (d for d in read_documents(path, ("text", "site", "source", "id")) if of_source(d, counted))
        for sites, owners, keys in _runs(documents, site_documents):
            for table in _count_run(sites, owners, keys):
                writer.write_table(table, row_group_size=max(1, table.num_rows))
        named = json.dumps(site_documents, ensure_ascii=False, sort_keys=True)
        writer.add_key_value_metadata({_SITE_DOCUMENTS.decode(): named})
    return part


def _runs(
    documents: Iterable[Document], site_documents: dict[str, int]
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """Runs of about MAX_BUFFERED phrases, each once a document: (sites, index of the phrase's site, key of the phrase).

    Counts the documents by site on the way. memory: 16 bytes a phrase, 100 per phrase of the largest document.
    """
    numbers: dict[str, int] = {}
    found: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    size = 0
    for document in documents:
        site_documents[document.site] = site_documents.get(document.site, 0) + 1
        keys = np.unique(find_phrases(document.text).keys)
        found.append(keys)
        owners.append(np.full(len(keys), numbers.setdefault(document.site, len(numbers)), dtype=np.int64))
        size += len(keys)
        if size >= MAX_BUFFERED:
            yield list(numbers), np.concatenate(owners), np.concatenate(found)
            found, owners, size, numbers = [], [], 0, {}
    if found:
        yield list(numbers), np.concatenate(owners), np.concatenate(found)


def _count_run(sites: list[str], owners: np.ndarray, keys: np.ndarray) -> Iterator[pa.Table]:
    """The different (site, key) pairs of a run with their counts, one table a group, in order."""
    order = np.lexsort((keys, owners))
    owners, keys = owners[order], keys[order]
    new = np.ones(len(keys), dtype=bool)
    new[1:] = (owners[1:] != owners[:-1]) | (keys[1:] != keys[:-1])
    first = np.flatnonzero(new)
    counts = np.diff(np.append(first, len(keys)))
    names = pa.array(sites, pa.string()).take(pa.array(owners[first]))
    table = pa.table([names, pa.array(keys[first]), pa.array(counts, pa.int64())], schema=_PART_SCHEMA)
    groups = _group_of(keys[first])
    yield from (table.filter(pa.array(groups == group)) for group in range(NUM_GROUPS))


def _group_of(keys: np.ndarray) -> np.ndarray:
    """The group of each key: its second lowest bits, for the lowest is no random one (phrases.LONG)."""
    return (keys >> np.uint64(1)) % np.uint64(NUM_GROUPS)


def _merge_group(parts: list[Path], group: int) -> pa.Table:
    """Pass two: one group of all parts added up; rows found in one document only are left out."""
    tables = [_PART_SCHEMA.empty_table()]
    for part in parts:
        with pq.ParquetFile(part) as file:
            runs = range(group, file.num_row_groups, NUM_GROUPS)
            tables += [file.read_row_group(number).replace_schema_metadata(None) for number in runs]
    summed = pa.concat_tables(tables).group_by(["site", "phrase_key"]).aggregate([("num_documents", "sum")])
    table = summed.rename_columns({"num_documents_sum": "num_documents"}).select(_PART_SCHEMA.names).cast(_PART_SCHEMA)
    return table.filter(pc.field("num_documents") >= 2)


def _write(table: pa.Table, site_documents: dict[str, int], out: Path) -> None:
    table = table.sort_by([("site", "ascending"), ("phrase_key", "ascending")])
    column = pa.array([site_documents[site] for site in table["site"].to_pylist()], pa.int64())
    with atomic(out) as temporary:
        pq.write_table(table.append_column("site_documents", column).cast(SCHEMA), temporary, compression="zstd")
