"""Builds the raw inputs of the tests: compressed files, WARC records, HTTP messages, documents that kill a process."""

from __future__ import annotations

import collections
import ctypes
import io
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastwarc.stream_io import BrotliWriter

from data_pipeline.config import Source
from data_pipeline.document import Document
from data_pipeline.reading.files import read
from data_pipeline.reading.input_shard import InputShard
from data_pipeline.reading.inputs import list_shards

HTML = "<p>春天来了，河边的柳树发芽了。 The river runs past the old mill. 臺灣的夏天很熱。</p>".encode()
ROWS = [{"text": "秋天的風"}, {"html": "<p>雨</p>", "url": "https://a.example/x"}, {"text": "rain", "title": "题"}]
ROW_CONTENTS = ["秋天的風", "<p>雨</p>".encode(), "rain"]
JSONL = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


def zstd(data: bytes) -> bytes:
    """One frame."""
    return bytes(pa.compress(data, "zstd", asbytes=True))


def lz4(data: bytes) -> bytes:
    """One frame."""
    return bytes(pa.compress(data, "lz4", asbytes=True))


def brotli(data: bytes) -> bytes:
    """A brotli stream."""
    out = io.BytesIO()
    writer = BrotliWriter(out)
    writer.write(data)
    writer.close()
    return out.getvalue()


def chunked(body: bytes, size: int = 7) -> bytes:
    """The chunked transfer coding."""
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*pieces, b""])


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """A Parquet file of any columns."""
    out = io.BytesIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    pq.write_table(pa.table({key: [row.get(key) for row in rows] for key in columns}), out)
    return out.getvalue()


def record(
    body: bytes, kind: str = "response", uri: str = "http://a.example/", type: str = "application/http"
) -> bytes:
    """A WARC record."""
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {uri}\r\nWARC-Record-ID: <urn:uuid:1>\r\n"
    head += f"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: {type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


def http(body: bytes, *headers: str, status: str = "200 OK", type: str = "text/html; charset=utf-8") -> bytes:
    """An HTTP response."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {type}", *headers, "", ""]).encode() + body


WARC = record(http(HTML)) + record(http(b"<p>two</p>"), uri="<http://b.example/2>")


def read_all(path: Path, **fields: str) -> list[Document]:
    """Every document of a file or folder, as the clean stage would read them."""
    shards = list_shards({"web": Source(str(path), **fields)}, 1000)
    return [document for shard in shards for document in read(shard)]


def content(document: Document) -> Any:
    """A document's raw bytes of HTML, its plain text, or why it has neither."""
    meta = document.meta
    return meta["broken"] if "broken" in meta else meta["html"] if "html" in meta else meta["plain"].decode()


ACTS: dict[str, Callable[[], Any]] = {
    "hang": lambda: collections.deque(itertools.repeat(1), maxlen=0),  # in C code that looks for no signal
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the kernel does for memory
}


class Bomb(dict[str, Any]):
    """The meta of a document that acts when the first cleaner would look at it."""

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or bool(ACTS[self["act"]]())


def hostile_read(shard: InputShard) -> Iterator[Document]:
    """`read`, but "clean ACT" is a document that acts in the cleaners, "read ACT" one that acts in the reader."""
    for document in read(shard):
        where, _, act = document.meta.get("plain", b"").decode().partition(" ")
        if where == "read" and act in ACTS:
            ACTS[act]()
        if where == "clean" and act in ACTS:
            document.meta = Bomb(document.meta, act=act)
        yield document
