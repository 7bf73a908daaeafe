"""Phrase statistics per web site: on how many documents of a site each line stands, for the repetition cleaner.

Pass one counts each shard alone and writes its lines in 16 groups by hash; pass two adds up one group of all shards at
a time. Cost: one hash a line (about 20 MB of text a second and core). Memory: pass one some 200 bytes per different
line of a shard; pass two 40 bytes per different line in a sixteenth of all shards, plus 40 per line found twice.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline import workers
from data_pipeline.cleaners.repetition import line_hash
from data_pipeline.parquet import read_documents
from mindllm.stage import atomic

NUM_GROUPS = 16
SCHEMA = pa.schema(
    [("site", pa.string()), ("line_hash", pa.uint64()), ("num_documents", pa.int64()), ("site_documents", pa.int64())]
)
_PART_SCHEMA = pa.schema([("site", pa.string()), ("line_hash", pa.uint64()), ("num_documents", pa.int64())])
_SITE_DOCUMENTS = b"site_documents"  # key of the part file's metadata: documents by site, as JSON


def collect_phrases(paths: list[Path], out: Path, num_workers: int) -> Path:
    """Write `out`: a row (site, line_hash, num_documents, site_documents) per line found in two documents of a site.

    `paths`: Parquet shards of documents. Rows are sorted by site and hash: the file is the same for any number of
    workers. An `out` that exists is complete and returned at once; an interrupted pass one goes on where it was.
    """
    if out.exists():
        return out
    folder = out.parent / f".{out.stem}"
    items = [(path, folder / f"{number:05d}-{path.stem}.parquet") for number, path in enumerate(paths)]
    parts = workers.run(_count_shard, items, num_workers, "site phrases")
    site_documents: dict[str, int] = {}
    for part in parts:
        for site, count in json.loads(pq.read_schema(part).metadata[_SITE_DOCUMENTS]).items():
            site_documents[site] = site_documents.get(site, 0) + count
    groups = workers.run(functools.partial(_merge_group, parts), list(range(NUM_GROUPS)), 1, "site phrases, merge")
    _write(pa.concat_tables(groups), site_documents, out)
    shutil.rmtree(folder, ignore_errors=True)
    return out


def _count_shard(item: tuple[Path, Path]) -> Path:
    """Pass one for one shard: documents per (site, line), a row group per hash group; those per site in metadata."""
    path, part = item
    if part.exists():
        return part
    counts: dict[tuple[str, int], int] = {}  # memory: about 200 bytes per different line
    site_documents: dict[str, int] = {}
    for document in read_documents(path, ("text", "site")):
        site_documents[document.site] = site_documents.get(document.site, 0) + 1
        for found in set(map(line_hash, document.text.split("\n"))) - {None}:
            assert found is not None, "None was taken out"
            counts[document.site, found] = counts.get((document.site, found), 0) + 1
    metadata = {_SITE_DOCUMENTS: json.dumps(site_documents, ensure_ascii=False, sort_keys=True).encode()}
    with atomic(part) as temporary, pq.ParquetWriter(temporary, _PART_SCHEMA.with_metadata(metadata)) as writer:
        for rows in _by_group(counts):
            columns = list(zip(*rows, strict=True)) or [(), (), ()]
            table = pa.table(dict(zip(_PART_SCHEMA.names, columns, strict=True)), schema=writer.schema)
            writer.write_table(table, row_group_size=max(1, len(rows)))
    return part


def _by_group(counts: dict[tuple[str, int], int]) -> Iterator[list[tuple[str, int, int]]]:
    groups: list[list[tuple[str, int, int]]] = [[] for _ in range(NUM_GROUPS)]
    for (site, found), count in sorted(counts.items()):
        groups[found % NUM_GROUPS].append((site, found, count))
    yield from groups


def _merge_group(parts: list[Path], group: int) -> pa.Table:
    """Pass two: one hash group of all parts added up; rows found in one document only are left out."""
    tables = []
    for part in parts:
        with pq.ParquetFile(part) as file:
            tables.append(file.read_row_group(group).replace_schema_metadata(None))
    if not tables:
        return _PART_SCHEMA.empty_table()
    summed = pa.concat_tables(tables).group_by(["site", "line_hash"]).aggregate([("num_documents", "sum")])
    table = summed.rename_columns({"num_documents_sum": "num_documents"}).select(_PART_SCHEMA.names).cast(_PART_SCHEMA)
    return table.filter(pc.field("num_documents") >= 2)


def _write(table: pa.Table, site_documents: dict[str, int], out: Path) -> None:
    table = table.sort_by([("site", "ascending"), ("line_hash", "ascending")])
    column = pa.array([site_documents[site] for site in table["site"].to_pylist()], pa.int64())
    with atomic(out) as temporary:
        pq.write_table(table.append_column("site_documents", column).cast(SCHEMA), temporary, compression="zstd")
