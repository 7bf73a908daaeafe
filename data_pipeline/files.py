"""Reads every input format (formats.py says which file holds which) into documents, in order.

What cannot be read becomes a document with meta["broken"]; nothing is passed over in silence but hidden files and WARC
records that are no pages. memory: one document (several times in an array of records), or ROWS_PER_GROUP rows of a
Parquet file.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from data_pipeline import inputs
from data_pipeline.document import Document
from data_pipeline.formats import (
    DAMAGE,
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
    utf16_mark,
)
from data_pipeline.inputs import InputShard, broken, new_document
from data_pipeline.parquet import ROWS_PER_GROUP
from data_pipeline.warc import read_warc

_BETWEEN_VALUES = re.compile(r"[\s,\[\]]*")
_KEPT_FIELDS = ("title", "date", "author")


def read(shard: InputShard) -> Iterator[Document]:
    """Every document of a shard in order; a file that breaks off yields what came before, then one broken document."""
    for name in shard.files:
        try:
            yield from _read_file(shard, name)
        except DAMAGE as error:
            yield broken(shard, name, "read:unreadable", f"{type(error).__name__}: {error}")
        except Exception as error:  # what a library has not foreseen either: one bad file must not end the run
            yield broken(shard, name, f"error:read:{type(error).__name__}", str(error))


def _read_file(shard: InputShard, name: str) -> Iterator[Document]:
    file, compression = open_file(Path(shard.root) / name)
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
    elif kind == WARC:
        yield from read_warc(shard, name, compression)


def _read_single(shard: InputShard, name: str, mark: bytes, file: IO[bytes], kind: str) -> Document:
    data = mark + file.read(inputs.MAX_DOCUMENT_BYTES + 1)
    if len(data) - len(mark) > inputs.MAX_DOCUMENT_BYTES:
        return broken(shard, name, "read:too_large")
    meta: dict[str, Any] = {"plain" if kind == TEXT else "html": data}
    return new_document(shard, name, **meta)


def _read_lines(shard: InputShard, name: str, file: IO[bytes]) -> Iterator[Document]:
    for number, line in enumerate(iter(lambda: file.readline(inputs.MAX_DOCUMENT_BYTES + 1), b"")):
        if len(line) > inputs.MAX_DOCUMENT_BYTES:
            yield broken(shard, f"{name}#{number}", "read:too_large")
            while line and not line.endswith(b"\n"):  # the rest of the line belongs to no document
                line = file.readline(inputs.MAX_DOCUMENT_BYTES)
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
        elif at_end or len(text) - at > inputs.MAX_DOCUMENT_BYTES:
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
            if len(data) > inputs.MAX_DOCUMENT_BYTES:
                return broken(shard, id, "read:too_large", url=url)
            return new_document(shard, id, url, **{kind: data}, **meta)
    return broken(shard, id, "read:no_text_field", f"keys: {', '.join(map(str, record))}", url)


def _read_parquet(shard: InputShard, name: str) -> Iterator[Document]:
    number = 0
    with pq.ParquetFile(Path(shard.root) / name) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
            for record in batch.to_pylist():
                yield _from_record(shard, f"{name}#{number}", record)
                number += 1
