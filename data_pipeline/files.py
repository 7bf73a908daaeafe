"""Opens every input format by its suffix, groups files into shards, and writes documents as Parquet.

Inputs: .html .htm .txt (one document each), .jsonl, .parquet, .warc, .warc.gz; jsonl and single documents also .gz and .zst.
What cannot be read becomes a document with meta["broken"], so that it is counted and kept like any other drop. No document may
be larger than MAX_DOCUMENT_BYTES, decompressed: archives of zeros end there. memory: one document, or one Parquet row group.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from fastwarc.stream_io import FastWARCError
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from data_pipeline.config import Source
from data_pipeline.document import Document
from mindllm.config import UserError
from mindllm.stage import atomic

MAX_DOCUMENT_BYTES = 20_000_000
MAX_FILES_PER_SHARD = 2000
ROWS_PER_GROUP = 1000
SCHEMA = pa.schema([(name, pa.string()) for name in ("text", "id", "url", "site", "lang", "source", "meta")])
DROPPED_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "url", "site", "lang", "reason", "text")])
_KEPT_FIELDS = ("title", "date", "author")


@dataclass(frozen=True)
class InputShard:
    """A unit of work: some files of one source, read in order. `root` is what document ids are relative to."""

    name: str
    files: tuple[str, ...]
    source: str
    root: str
    text_field: str = "text"
    html_field: str = "html"

    @property
    def num_bytes(self) -> int:
        """Size on disk, compressed as it is."""
        return sum((Path(self.root) / f).stat().st_size for f in self.files)


def list_shards(sources: dict[str, Source], shard_bytes: int) -> list[InputShard]:
    """All inputs as shards: containers (warc, jsonl, parquet) one each, single documents in groups of up to `shard_bytes`.

    A pure function of the file listing, so it is the same on every machine. Raises UserError for a path that is not there.
    """
    return [shard for name, source in sources.items() for shard in _list_source(name, source, shard_bytes)]


def _list_source(name: str, source: Source, shard_bytes: int) -> Iterator[InputShard]:
    path = Path(source.path)
    if not path.exists():
        raise UserError(f"sources.{name}.path: {path} does not exist")
    root = path if path.is_dir() else path.parent
    found = (
        sorted(p.relative_to(root).as_posix() for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path.name]
    )
    found = [f for f in found if not any(part.startswith(".") for part in Path(f).parts)]
    if not found:
        raise UserError(f"sources.{name}.path: {path} holds no files")
    for number, group in enumerate(_group(root, found, shard_bytes)):
        yield InputShard(f"{name}-{number:05d}", tuple(group), name, str(root), source.text_field, source.html_field)


def _group(root: Path, found: list[str], shard_bytes: int) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name in found:
        if _reader(name) in (_read_warc, _read_jsonl, _read_parquet):
            yield [name]
            continue
        group.append(name)
        size += (root / name).stat().st_size
        if size >= shard_bytes or len(group) >= MAX_FILES_PER_SHARD:
            yield group
            group, size = [], 0
    if group:
        yield group


def read(shard: InputShard) -> Iterator[Document]:
    """Every document of a shard in order; a file that breaks off yields what came before, then one broken document."""
    for name in shard.files:
        try:
            yield from _reader(name)(shard, name)
        except (OSError, EOFError, ValueError, zstandard.ZstdError, FastWARCError, pa.ArrowException) as error:
            yield _broken(shard, name, "unreadable", f"{type(error).__name__}: {error}")


def _reader(name: str) -> Callable[[InputShard, str], Iterator[Document]]:
    stem = name.lower().removesuffix(".gz").removesuffix(".zst")
    if stem.endswith(".warc") or stem.endswith(".wet"):
        return _read_warc
    if stem.endswith((".jsonl", ".ndjson")):
        return _read_jsonl
    if stem.endswith(".parquet"):
        return _read_parquet
    if stem.endswith((".html", ".htm", ".xhtml", ".txt")):
        return _read_single
    return _read_unknown


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix == ".zst":
        return zstandard.open(path, "rb")
    return open(path, "rb")


def _new(shard: InputShard, id: str, url: str = "", **meta: Any) -> Document:
    path = Path(id.partition("#")[0])
    site = url.partition("://")[2].partition("/")[0].partition("@")[2] or url.partition("://")[2].partition("/")[0]
    site = site.partition(":")[0] or (path.parts[0] if len(path.parts) > 1 else shard.source)
    return Document("", f"{shard.source}/{id}", url, site.lower(), "", shard.source, meta)


def _broken(shard: InputShard, id: str, reason: str, detail: str = "") -> Document:
    document = _new(shard, id, broken=f"read:{reason}")
    document.text = detail[:500]
    return document


def _read_single(shard: InputShard, name: str) -> Iterator[Document]:
    with _open(Path(shard.root) / name) as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        yield _broken(shard, name, "too_large")
    elif ".txt" in Path(name).suffixes:
        yield _new(shard, name, plain=data)
    else:
        yield _new(shard, name, html=data)


def _read_unknown(shard: InputShard, name: str) -> Iterator[Document]:
    yield _broken(shard, name, "unknown_suffix")


def _read_jsonl(shard: InputShard, name: str) -> Iterator[Document]:
    with _open(Path(shard.root) / name) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_DOCUMENT_BYTES + 1), b"")):
            if len(line) > MAX_DOCUMENT_BYTES:
                yield _broken(shard, f"{name}#{number}", "too_large")
            elif line.strip():
                yield _from_line(shard, f"{name}#{number}", line)


def _from_line(shard: InputShard, id: str, line: bytes) -> Document:
    try:
        record = json.loads(line)
    except ValueError:
        return _broken(shard, id, "bad_json", line[:200].decode("utf-8", "replace"))
    if not isinstance(record, dict):
        return _broken(shard, id, "no_object", line[:200].decode("utf-8", "replace"))
    return _from_record(shard, id, record)


def _from_record(shard: InputShard, id: str, record: dict[str, Any]) -> Document:
    """A jsonl or parquet record: raw HTML where it has some, else plain text; else broken, naming the keys that are there."""
    meta = {key: str(record[key]) for key in _KEPT_FIELDS if record.get(key)}
    url = str(record.get("url") or "")
    for field, kind in ((shard.html_field, "html"), (shard.text_field, "plain")):
        value = record.get(field)
        if isinstance(value, str | bytes) and value:
            data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
            return _new(shard, id, url, **{kind: data}, **meta)
    return _broken(shard, id, "no_text_field", f"keys: {', '.join(map(str, record))}")


def _read_parquet(shard: InputShard, name: str) -> Iterator[Document]:
    number = 0
    with pq.ParquetFile(Path(shard.root) / name) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
            for record in batch.to_pylist():
                yield _from_record(shard, f"{name}#{number}", record)
                number += 1


def _read_warc(shard: InputShard, name: str) -> Iterator[Document]:
    """Responses and resources that are HTML or text, and WET conversions; other records are no pages and are passed over."""
    kinds = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    path = Path(shard.root) / name
    opened: IO[bytes] = (
        zstandard.open(path, "rb") if path.suffix == ".zst" else open(path, "rb")
    )  # FastWARC undoes gz itself
    with opened as file:
        for number, record in enumerate(ArchiveIterator(file, record_types=kinds, parse_http=True)):
            document = _from_warc_record(shard, f"{name}#{number}", record)
            if document is not None:
                yield document


def _from_warc_record(shard: InputShard, id: str, record: WarcRecord) -> Document | None:
    url = record.headers.get("WARC-Target-URI", "").strip("<>")
    headers = record.http_headers
    kind = record.http_content_type or record.headers.get("Content-Type", "")
    if headers is not None and headers.status_code not in (None, 200):
        return None
    if not any(word in kind for word in ("html", "text/plain")):
        return None
    data = record.reader.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        return _broken(shard, id, "too_large")
    if headers is not None and headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip"):
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_DOCUMENT_BYTES)
    return _new(shard, id, url, **{"html" if "html" in kind else "plain": data}, charset=record.http_charset or "")


def write_rows(path: Path, schema: pa.Schema) -> RowWriter:
    """A Parquet file that takes rows one by one and appears under its name only when the `with` block ends well."""
    return RowWriter(path, schema)


class RowWriter:
    """Context manager of write_rows. memory: ROWS_PER_GROUP rows."""

    def __init__(self, path: Path, schema: pa.Schema):
        self._schema, self._rows = schema, []  # type: ignore[var-annotated]
        self._atomic = atomic(path)

    def __enter__(self) -> RowWriter:
        self._file = pq.ParquetWriter(self._atomic.__enter__(), self._schema, compression="zstd")
        return self

    def add(self, row: dict[str, Any]) -> None:
        """Append one row (a dict with the schema's keys)."""
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def add_document(self, document: Document) -> None:
        """Append one document; raw bytes in its meta are left behind."""
        meta = {k: v for k, v in document.meta.items() if not isinstance(v, bytes)}
        row = {k: getattr(document, k) for k in SCHEMA.names if k != "meta"}
        self.add({**row, "meta": json.dumps(meta, ensure_ascii=False)})

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._flush()
        self._file.close()
        self._atomic.__exit__(*error)


def read_documents(path: Path, columns: Iterable[str] | None = None) -> Iterator[Document]:
    """The documents of one of our own Parquet shards, in order. Columns that are not asked for stay empty."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=list(columns) if columns else None):
            for row in batch.to_pylist():
                row["meta"] = json.loads(row.get("meta") or "{}")
                yield Document(**{"text": "", "id": "", **row})


def count_documents(path: Path) -> int:
    """Number of rows of a Parquet file, from its footer."""
    return int(pq.read_metadata(path).num_rows)
