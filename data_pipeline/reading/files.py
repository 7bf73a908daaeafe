"""Reads every input format (formats.py says which file holds which) into documents, in order.

A remote file is copied whole first (remote.py); one that cannot be had for now ends the shard, which is tried again.
What cannot be read becomes a document with meta["broken"]; nothing is passed over in silence but hidden files and WARC
records that are no pages. memory: one document (several times in an array of records), or ROWS_PER_GROUP rows of a
Parquet file.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from data_pipeline.document import Document
from data_pipeline.parquet import ROWS_PER_GROUP
from data_pipeline.reading import input_shard, remote
from data_pipeline.reading.addresses import is_url, join, label
from data_pipeline.reading.formats import (
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
from data_pipeline.reading.input_shard import InputShard, broken, new_document, storage_for
from data_pipeline.reading.records import columns, to_document
from data_pipeline.reading.warc import read_warc

_BETWEEN_VALUES = re.compile(r"[\s,\[\]]*")


def read(shard: InputShard) -> Iterator[Document]:
    """Every document of a shard in order; a file that breaks off yields what came before, then one broken document.

    Raises remote.Unreachable where a remote file cannot be had for now.
    """
    for name in shard.files:
        id = label(shard.root, name)
        try:
            with _at_hand(shard, name) as path:
                yield from _read_or_say_why(shard, path, id)
        except remote.Refused as error:
            yield broken(shard, id, f"read:{error.reason}", str(error))


@contextlib.contextmanager
def _at_hand(shard: InputShard, name: str) -> Iterator[Path]:
    """The file on this machine: itself, or a copy for as long as it is read."""
    place = join(shard.root, name)
    if is_url(place):
        with remote.local_copy(shard.root, name, storage_for(shard.settings, place)) as path:
            yield path
    elif shard.settings.paths and not os.path.lexists(place):
        raise remote.Refused("missing", f"{place}: no such file")
    else:
        yield Path(place)


def _read_or_say_why(shard: InputShard, path: Path, id: str) -> Iterator[Document]:
    try:
        yield from _read_file(shard, path, id)
    except DAMAGE as error:
        why = f"{type(error).__name__}: {error}".replace(str(path), id)  # a copy has another name each time
        yield broken(shard, id, "read:unreadable", why)
    except Exception as error:  # what a library has not foreseen either: one bad file must not end the run
        yield broken(shard, id, f"error:read:{type(error).__name__}", str(error).replace(str(path), id))


def _read_file(shard: InputShard, path: Path, id: str) -> Iterator[Document]:
    file, _ = open_file(path)
    with file:
        head = file.peek(HEAD_BYTES)
        fields = f"{shard.settings.text_field},{shard.settings.html_field}".split(",")
        kind, looks = recognise(id, head, [field.strip().rpartition(".")[2] for field in fields])
        if kind in (PAGE, TEXT):
            yield _read_single(shard, id, utf16_mark(head[:HEAD_BYTES]), file, kind)
        elif kind in (LINES, VALUES):
            yield from (_read_lines if kind == LINES else _read_values)(shard, id, file)
        elif kind == UNKNOWN:
            yield broken(shard, id, "read:unknown_format", looks)
    if kind == PARQUET:
        yield from _read_parquet(shard, path, id)
    elif kind == WARC:
        yield from read_warc(shard, path, id)


def _read_single(shard: InputShard, name: str, mark: bytes, file: IO[bytes], kind: str) -> Document:
    data = mark + file.read(input_shard.MAX_DOCUMENT_BYTES + 1)
    if len(data) - len(mark) > input_shard.MAX_DOCUMENT_BYTES:
        return broken(shard, name, "read:too_large")
    meta: dict[str, Any] = {"plain" if kind == TEXT else "html": data}
    return new_document(shard, name, **meta)


def _read_lines(shard: InputShard, name: str, file: IO[bytes]) -> Iterator[Document]:
    for number, line in enumerate(iter(lambda: file.readline(input_shard.MAX_DOCUMENT_BYTES + 1), b"")):
        if len(line) > input_shard.MAX_DOCUMENT_BYTES:
            yield broken(shard, f"{name}#{number}", "read:too_large")
            while line and not line.endswith(b"\n"):  # the rest of the line belongs to no document
                line = file.readline(input_shard.MAX_DOCUMENT_BYTES)
        elif line.strip():
            yield _from_line(shard, f"{name}#{number}", line)


def _read_values(shard: InputShard, name: str, file: IO[bytes]) -> Iterator[Document]:
    """JSON objects of an array, or one after another over any lines; what is no JSON ends the file, as one document."""
    decoder, decode = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    text, at, number, at_end, is_open = "", 0, 0, False, False
    while True:
        start, at = at, _BETWEEN_VALUES.match(text, at).end()  # type: ignore[union-attr]  # it always matches
        opened, closed = text.rfind("[", start, at), text.rfind("]", start, at)
        is_open = opened > closed if opened != closed else is_open
        try:
            record, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = -1
        if end >= 0 and (at_end or end < len(text)):  # a number may go on behind the end
            id = f"{name}#{number}"
            yield _from_json(shard, id, record, text[at:end])
            at, number = end, number + 1
        elif at_end or len(text) - at > input_shard.MAX_DOCUMENT_BYTES:
            if at < len(text):
                yield broken(shard, f"{name}#{number}", "read:bad_json", f"from here to the end: {text[at : at + 200]}")
            elif is_open:
                yield broken(shard, f"{name}#{number}", "read:bad_json", "the array has no end")
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
        return to_document(shard, id, value)
    return broken(shard, id, "read:no_object", beginning)


def _read_parquet(shard: InputShard, path: Path, id: str) -> Iterator[Document]:
    number = 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        wanted = columns(shard.settings, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=wanted):
            for record in batch.to_pylist(maps_as_pydicts="lossy"):
                yield to_document(shard, f"{id}#{number}", record)
                number += 1
