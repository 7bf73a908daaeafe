"""Pages of a WARC file, the format of web archives: responses and resources, and the texts of WET files.

FastWARC parses the records, leniently: it takes lines that end in LF alone (ClueWeb has such HTTP headers), and behind
damage it looks for the next record. It passes over what is clipped or belongs to no record in silence, so lengths and
places are checked here. Bodies may still be in their HTTP codings; headers often tell what was sent, not what was
stored, so the first bytes decide. Cost: mostly decompression. memory: one record.
"""

from __future__ import annotations

import gzip
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from fastwarc.stream_io import BrotliReader, ChunkedReader, GzipReader, ZstdReader
from fastwarc.warc import ArchiveIterator, HeaderMap, WarcRecord, WarcRecordType

from data_pipeline.document import Document
from data_pipeline.reading import input_shard
from data_pipeline.reading.formats import DAMAGE, open_file
from data_pipeline.reading.input_shard import InputShard, broken, new_document

_KINDS = (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion)
_SLACK = 64  # bytes between two records that are no loss: line ends, and headers that we count a little too short
# HTTP codings: how a body begins that is still encoded, decoder
_CODINGS: dict[str, tuple[bytes, Callable[[IO[bytes]], Any]]] = {
    "gzip": (rb"\x1f\x8b", lambda body: gzip.GzipFile(fileobj=body)),
    "deflate": (rb"x", lambda body: GzipReader(body, zlib=True)),
    "br": (rb"[^<]", BrotliReader),
    "zstd": (rb"\x28\xb5\x2f\xfd", ZstdReader),
    "chunked": (rb"[0-9A-Fa-f]+[ \t]*\r?\n", ChunkedReader),
}


class _Stepwise(io.RawIOBase):
    """Hands out all that lies before a clipped end before it raises: up to `size` bytes, as many as are at hand."""

    def __init__(self, file: io.BufferedReader):
        self._file, self._at = file, 0

    def read(self, size: int = -1) -> bytes:
        """As any file's read, but often less."""
        data = self._file.read1(size)
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Bytes handed out so far."""
        return self._at


def read_warc(shard: InputShard, path: Path, id: str) -> Iterator[Document]:
    """The pages of one file of a shard: what is HTML or text; other records are passed over.

    What belongs to no record is a broken document where it stood; so is a file that has records, but no page. Raises
    what a damaged file makes its readers raise (formats.DAMAGE).
    """
    number, end, passed_over = 0, 0, Counter[str]()
    with open_file(path)[0] as file, _Stepwise(file) as stream:
        for record in ArchiveIterator(stream, quirks_mode=True, stream_detect=False):
            if record.stream_pos > end + _SLACK:
                yield _lost(shard, f"{id}#{number}", record.stream_pos - end)
                number += 1
            end = record.stream_pos + _num_bytes(record)
            document = _from_warc_record(shard, f"{id}#{number}", record) if record.record_type in _KINDS else None
            if document is not None:
                yield document
                number += 1
            else:
                passed_over[_kind(record)] += 1
        if stream.tell() > end + (_SLACK if end else 0):
            yield _lost(shard, f"{id}#{number}", stream.tell() - end)
        elif passed_over and not number:
            yield broken(shard, id, "read:no_pages", ", ".join(f"{n} {kind}" for kind, n in passed_over.most_common()))


def _lost(shard: InputShard, id: str, num_bytes: int) -> Document:
    return broken(shard, id, "read:unreadable", f"{num_bytes} bytes that belong to no WARC record")


def _num_bytes(record: WarcRecord) -> int:
    """Size of a whole record, as far as its parsed headers tell: blanks around values may be missing."""
    header = sum(len(k.encode()) + len(v.encode()) + len(": \r\n") for k, v in record.headers.items())
    length = record.headers.get("Content-Length") or ""
    body = int(length) if length.isdecimal() and len(length) < 19 else 0
    return len("WARC/1.0\r\n") + header + len("\r\n") + body + len("\r\n\r\n")


def _kind(record: WarcRecord) -> str:
    """Type of a record and of what is in it, for a person to read."""
    content = record.http_content_type or record.headers.get("Content-Type") or "nothing"
    return f"{record.headers.get('WARC-Type') or 'untyped'} of {content.partition(';')[0]}"


def _from_warc_record(shard: InputShard, id: str, record: WarcRecord) -> Document | None:
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
    headers: HeaderMap | None = record.http_headers
    kind = (record.http_content_type or record.headers.get("Content-Type") or "").lower()
    is_page = ("html" in kind or "text/plain" in kind) and (headers is None or headers.status_code in (None, 200))
    size = record.content_length
    data = record.reader.read(input_shard.MAX_DOCUMENT_BYTES + 1) if is_page else b""
    found = len(data) if is_page else record.reader.consume()
    if (
        found < min(size, input_shard.MAX_DOCUMENT_BYTES) or "Content-Length" not in record.headers
    ):  # FastWARC does not tell
        return broken(shard, id, "read:clipped", f"{found} bytes of {size}", url)
    if not is_page:
        return None
    if headers is not None and size <= input_shard.MAX_DOCUMENT_BYTES:
        try:
            data = _decode(data, headers)
        except DAMAGE as error:
            return broken(shard, id, "read:bad_coding", f"{type(error).__name__}: {error}", url)
    if len(data) > input_shard.MAX_DOCUMENT_BYTES:
        return broken(shard, id, "read:too_large", url=url)
    return new_document(
        shard, id, url, **{"html" if "html" in kind else "plain": data}, charset=record.http_charset or ""
    )


def _decode(data: bytes, headers: HeaderMap) -> bytes:
    """The body of an HTTP message without its codings, up to one byte more than input_shard.MAX_DOCUMENT_BYTES.

    Transfer codings were applied last (RFC 9112, section 6), so they go first; codings that we do not know stay.
    """
    listed = ",".join(headers.get(name) or "" for name in ("Content-Encoding", "Transfer-Encoding"))
    for name in reversed(listed.lower().replace("x-gzip", "gzip").split(",")):
        start, decoder = _CODINGS.get(name.strip(), (b"$.", None))
        if decoder is not None and re.match(start, data):
            data = decoder(io.BytesIO(data)).read(input_shard.MAX_DOCUMENT_BYTES + 1)
    return data
