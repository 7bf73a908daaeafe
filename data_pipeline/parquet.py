"""Documents as Parquet: what one stage hands to the next, and what it dropped.

A file takes rows one by one and appears under its name only when it is complete. Columns are strings; `meta` is JSON.
memory: ROWS_PER_GROUP rows, reading and writing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.document import Document
from mindllm.config import RunFailed
from mindllm.stage import atomic

ROWS_PER_GROUP = 1000
SCHEMA = pa.schema([(name, pa.string()) for name in ("text", "id", "url", "site", "lang", "source", "meta")])
DROPPED_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "url", "site", "lang", "source", "reason", "text", "meta")]
)


@contextlib.contextmanager
def write_rows(path: Path, schema: pa.Schema) -> Iterator[RowWriter]:
    """A Parquet file that takes rows one by one and appears under its name only when the `with` block ends well."""
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as file:
        writer = RowWriter(file, schema)
        yield writer
        writer.flush()


class RowWriter:
    """What write_rows hands out. memory: ROWS_PER_GROUP rows."""

    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema):
        self._file, self._schema = file, schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Append one row (a dict with the schema's keys)."""
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_GROUP:
            self.flush()

    def add_document(self, document: Document) -> None:
        """Append one document; raw bytes in its meta are left behind."""
        row = {k: getattr(document, k) for k in SCHEMA.names if k != "meta"}
        self.add({**row, "meta": meta_json(document)})

    def flush(self) -> None:
        """Write what has been gathered as one row group."""
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def meta_json(document: Document) -> str:
    """The document's meta as JSON, without raw bytes."""
    return json.dumps({k: v for k, v in document.meta.items() if not isinstance(v, bytes)}, ensure_ascii=False)


def read_documents(path: Path, columns: Iterable[str] | None = None) -> Iterator[Document]:
    """The documents of one of our own Parquet shards, in order. Columns that are not asked for stay empty."""
    with pq.ParquetFile(path, pre_buffer=False) as file:  # memory: pre_buffer keeps what it has read of the file
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=list(columns) if columns else None):
            for row in batch.to_pylist():
                row["meta"] = json.loads(row.get("meta") or "{}")
                yield Document(**{"text": "", "id": "", **row})


def count_documents(path: Path) -> int:
    """Number of rows of a Parquet file, from its footer. Raises RunFailed for a damaged one."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except pa.ArrowException as error:
        way_out = "delete it and the meta.json beside it, and run that stage again"
        raise RunFailed(f"{path}: damaged ({error}); {way_out}") from None
