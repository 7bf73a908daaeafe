"""Groups the input files into shards and reads every format (formats.py says which file holds which).

What cannot be read becomes a document with meta["broken"], so that it is counted and kept like any other drop; nothing
is passed over in silence but hidden files and WARC records that are no pages. No document may be larger than
MAX_DOCUMENT_BYTES, decompressed: archives of zeros end there. memory: one document (several times in an array of
records), or ROWS_PER_GROUP rows of a Parquet file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from fastwarc.stream_io import BrotliReader, ChunkedReader, GzipReader, ZstdReader
from fastwarc.warc import ArchiveIterator, HeaderMap, WarcRecord, WarcRecordType

from data_pipeline.config import Source
from data_pipeline.document import Document
from data_pipeline.folders import names_below
from data_pipeline.formats import (
    HEAD_BYTES,
    LINES,
    PAGE,
    PARQUET,
    TEXT,
    UNKNOWN,
    VALUES,
    WARC,
    open_file,
    recognise,
    stands_alone,
    utf16_mark,
)
from data_pipeline.parquet import ROWS_PER_GROUP
from mindllm.config import UserError

MAX_DOCUMENT_BYTES = 20_000_000
MAX_FILES_PER_SHARD = 2000
_BETWEEN_VALUES = re.compile(r"[\s,\[\]]*")
_KEPT_FIELDS = ("title", "date", "author")
# What readers raise for damaged files.
_DAMAGE = (OSError, EOFError, ValueError, RecursionError, MemoryError, zlib.error, pa.ArrowException)
# HTTP codings: how a body begins that is still encoded (headers often tell what was sent, not what was stored), decoder
_CODINGS: dict[str, tuple[bytes, Callable[[IO[bytes]], Any]]] = {
    "gzip": (rb"\x1f\x8b", lambda body: gzip.GzipFile(fileobj=body)),
    "deflate": (rb"x", lambda body: GzipReader(body, zlib=True)),
    "br": (rb"[^<]", BrotliReader),
    "zstd": (rb"\x28\xb5\x2f\xfd", ZstdReader),
    "chunked": (rb"[0-9A-Fa-f]+[ \t]*\r?\n", ChunkedReader),
}


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
        return sum(_size(Path(self.root) / f) for f in self.files)


def list_shards(sources: dict[str, Source], shard_bytes: int) -> list[InputShard]:
    """All inputs as shards: what is named as warc, jsonl or parquet one each, the rest in groups of `shard_bytes`.

    A pure function of the file listing, so it is the same on every machine. Raises UserError for a path without files.
    """
    return [shard for name, source in sources.items() for shard in _list_source(name, source, shard_bytes)]


def _list_source(name: str, source: Source, shard_bytes: int) -> Iterator[InputShard]:
    path = Path(source.path)
    if not path.exists():
        raise UserError(f"sources.{name}.path: {path} does not exist")
    root = path if path.is_dir() else path.parent
    found = sorted(names_below(root)) if path.is_dir() else [path.name]
    if not found:
        raise UserError(f"sources.{name}.path: {path} holds no files")
    for number, group in enumerate(_group(root, found, shard_bytes)):
        yield InputShard(f"{name}-{number:05d}", tuple(group), name, str(root), source.text_field, source.html_field)


def _size(path: Path) -> int:
    """Bytes of a file; 0 for one that cannot be looked at (a link to nowhere)."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _group(root: Path, found: list[str], shard_bytes: int) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name in found:
        if stands_alone(name):
            yield [name]
            continue
        group.append(name)
        size += _size(root / name)
        if size >= shard_bytes or len(group) >= MAX_FILES_PER_SHARD:
            yield group
            group, size = [], 0
    if group:
        yield group


def read(shard: InputShard) -> Iterator[Document]:
    """Every document of a shard in order; a file that breaks off yields what came before, then one broken document."""
    for name in shard.files:
        try:
            yield from _read_file(shard, name)
        except _DAMAGE as error:
            yield broken(shard, name, "read:unreadable", f"{type(error).__name__}: {error}")
        except Exception as error:  # what a library has not foreseen either: one bad file must not end the run
            yield broken(shard, name, f"error:read:{type(error).__name__}", str(error))


def _read_file(shard: InputShard, name: str) -> Iterator[Document]:
    path = Path(shard.root) / name
    file, compression = open_file(path)
    with file:
        head = file.peek(HEAD_BYTES)
        kind, looks = recognise(name, head, (shard.text_field, shard.html_field))
        if kind in (PAGE, TEXT):
            yield _read_single(shard, name, utf16_mark(head[:HEAD_BYTES]), file, kind)
        elif kind in (LINES, VALUES):
            yield from (_read_lines if kind == LINES else _read_values)(shard, name, file)
        elif kind == UNKNOWN:
            yield broken(shard, name, "read:unknown_format", looks)
    if kind == PARQUET:
        yield from _read_parquet(shard, name)
    elif kind == WARC:  # FastWARC undoes zst itself
        yield from _read_warc(shard, name, _Stepwise(path) if compression == ".gz" else open(path, "rb"))


def _new(shard: InputShard, id: str, url: str = "", **meta: Any) -> Document:
    parts = Path(id.partition("#")[0]).parts
    site = spell_out(_host(url) or (parts[0] if len(parts) > 1 else shard.source))
    site = " ".join(site.lower().split())  # a folder's name may hold tabs and line breaks
    meta = {key: spell_out(value) if isinstance(value, str) else value for key, value in meta.items()}
    return Document("", f"{shard.source}/{spell_out(id)}", spell_out(url), site, "", shard.source, meta)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""  # without user, password and port
    except ValueError:  # [ without ], for example
        return ""


def spell_out(text: str) -> str:
    """`text` that UTF-8 can hold: lone surrogates (file names in GBK, \\ud800 in JSON) are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def broken(shard: InputShard, id: str, reason: str, detail: str = "", url: str = "") -> Document:
    """A document that stands for what could not be read: dropped for `reason`, with `detail` as its text."""
    document = _new(shard, id, url, broken=reason)
    document.text = spell_out(detail[:500])
    return document


def _read_single(shard: InputShard, name: str, mark: bytes, file: IO[bytes], kind: str) -> Document:
    data = mark + file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) - len(mark) > MAX_DOCUMENT_BYTES:
        return broken(shard, name, "read:too_large")
    meta: dict[str, Any] = {"plain" if kind == TEXT else "html": data}
    return _new(shard, name, **meta)


def _read_lines(shard: InputShard, name: str, file: IO[bytes]) -> Iterator[Document]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_DOCUMENT_BYTES + 1), b"")):
        if len(line) > MAX_DOCUMENT_BYTES:
            yield broken(shard, f"{name}#{number}", "read:too_large")
            while line and not line.endswith(b"\n"):  # the rest of the line belongs to no document
                line = file.readline(MAX_DOCUMENT_BYTES)
        elif line.strip():
            yield _from_line(shard, f"{name}#{number}", line)


def _read_values(shard: InputShard, name: str, file: IO[bytes]) -> Iterator[Document]:
    """JSON objects of an array, or one after another over any lines; what is no JSON ends the file, as one document."""
    decoder, decode = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    text, at, number, at_end = "", 0, 0, False
    while True:
        at = _BETWEEN_VALUES.match(text, at).end()  # type: ignore[union-attr]  # it always matches
        try:
            record, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = -1
        if end >= 0 and (at_end or end < len(text)):  # a number may go on behind the end
            id = f"{name}#{number}"
            yield _from_json(shard, id, record, text[at:end])
            at, number = end, number + 1
        elif at_end or len(text) - at > MAX_DOCUMENT_BYTES:
            if at < len(text):
                yield broken(shard, f"{name}#{number}", "read:bad_json", f"from here to the end: {text[at : at + 200]}")
            return
        else:
            data = file.read(max(1 << 20, len(text) - at))
            text, at, at_end = text[at:] + decode(data, not data), 0, not data


def _from_line(shard: InputShard, id: str, line: bytes) -> Document:
    beginning = line[:200].decode("utf-8", "replace")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or a thousand brackets deep
        return broken(shard, id, "read:bad_json", beginning)
    return _from_json(shard, id, record, beginning)


def _from_json(shard: InputShard, id: str, value: Any, beginning: str) -> Document:
    if isinstance(value, dict):
        return _from_record(shard, id, value)
    return broken(shard, id, "read:no_object", beginning)


def _from_record(shard: InputShard, id: str, record: dict[str, Any]) -> Document:
    """A jsonl or parquet record: raw HTML where it has some, else plain text; else broken, naming its keys."""
    meta = {key: str(record[key]) for key in _KEPT_FIELDS if record.get(key)}
    url = str(record.get("url") or "")
    for field, kind in ((shard.html_field, "html"), (shard.text_field, "plain")):
        value = record.get(field)
        if isinstance(value, str | bytes) and value:
            data = value.encode("utf-8", "ignore") if isinstance(value, str) else value
            if len(data) > MAX_DOCUMENT_BYTES:
                return broken(shard, id, "read:too_large", url=url)
            return _new(shard, id, url, **{kind: data}, **meta)
    return broken(shard, id, "read:no_text_field", f"keys: {', '.join(map(str, record))}", url)


def _read_parquet(shard: InputShard, name: str) -> Iterator[Document]:
    number = 0
    with pq.ParquetFile(Path(shard.root) / name) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
            for record in batch.to_pylist():
                yield _from_record(shard, f"{name}#{number}", record)
                number += 1


class _Stepwise(gzip.GzipFile):
    """Hands out all that lies before a clipped end before it raises. FastWARC's own reader would end without a word."""

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, as many as are at hand."""
        return self.read1(-1 if size is None else size)


def _read_warc(shard: InputShard, name: str, opened: Any) -> Iterator[Document]:
    """Responses and resources that are HTML or text, and WET conversions; other records are no pages: passed over."""
    kinds = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    with opened as file:
        for number, record in enumerate(ArchiveIterator(file, record_types=kinds, parse_http=True)):
            document = _from_warc_record(shard, f"{name}#{number}", record)
            if document is not None:
                yield document


def _from_warc_record(shard: InputShard, id: str, record: WarcRecord) -> Document | None:
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
    headers: HeaderMap | None = record.http_headers
    kind = (record.http_content_type or record.headers.get("Content-Type") or "").lower()
    is_page = ("html" in kind or "text/plain" in kind) and (headers is None or headers.status_code in (None, 200))
    size = record.content_length
    data = record.reader.read(MAX_DOCUMENT_BYTES + 1) if is_page else b""
    found = len(data) if is_page else record.reader.consume()
    if found < min(size, MAX_DOCUMENT_BYTES) or "Content-Length" not in record.headers:  # FastWARC does not tell
        return broken(shard, id, "read:clipped", f"{found} bytes of {size}", url)
    if not is_page:
        return None
    if headers is not None and size <= MAX_DOCUMENT_BYTES:
        try:
            data = _decode(data, headers)
        except _DAMAGE as error:
            return broken(shard, id, "read:bad_coding", f"{type(error).__name__}: {error}", url)
    if len(data) > MAX_DOCUMENT_BYTES:
        return broken(shard, id, "read:too_large", url=url)
    return _new(shard, id, url, **{"html" if "html" in kind else "plain": data}, charset=record.http_charset or "")


def _decode(data: bytes, headers: HeaderMap) -> bytes:
    """The body of an HTTP message without its codings, up to one byte more than MAX_DOCUMENT_BYTES.

    Transfer codings were applied last (RFC 9112, section 6), so they go first; codings that we do not know stay.
    """
    listed = ",".join(headers.get(name) or "" for name in ("Content-Encoding", "Transfer-Encoding"))
    for name in reversed(listed.lower().replace("x-gzip", "gzip").split(",")):
        start, decoder = _CODINGS.get(name.strip(), (b"$.", None))
        if decoder is not None and re.match(start, data):
            data = decoder(io.BytesIO(data)).read(MAX_DOCUMENT_BYTES + 1)
    return data
