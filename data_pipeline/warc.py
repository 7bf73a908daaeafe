"""Pages of a WARC file, the format of web archives: responses and resources, and the texts of WET files.

FastWARC parses the records. It passes over what is clipped in silence, so lengths are checked here. Bodies may still be
in their HTTP codings; headers often tell what was sent, not what was stored, so the first bytes decide.
Cost: mostly decompression. memory: one record.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from fastwarc.stream_io import BrotliReader, ChunkedReader, GzipReader, ZstdReader
from fastwarc.warc import ArchiveIterator, HeaderMap, WarcRecord, WarcRecordType

from data_pipeline import inputs
from data_pipeline.document import Document
from data_pipeline.formats import DAMAGE
from data_pipeline.inputs import InputShard, broken, new_document

# HTTP codings: how a body begins that is still encoded, decoder
_CODINGS: dict[str, tuple[bytes, Callable[[IO[bytes]], Any]]] = {
    "gzip": (rb"\x1f\x8b", lambda body: gzip.GzipFile(fileobj=body)),
    "deflate": (rb"x", lambda body: GzipReader(body, zlib=True)),
    "br": (rb"[^<]", BrotliReader),
    "zstd": (rb"\x28\xb5\x2f\xfd", ZstdReader),
    "chunked": (rb"[0-9A-Fa-f]+[ \t]*\r?\n", ChunkedReader),
}


class _Stepwise(gzip.GzipFile):
    """Hands out all that lies before a clipped end before it raises. FastWARC's own reader would end without a word."""

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, as many as are at hand."""
        return self.read1(-1 if size is None else size)


def read_warc(shard: InputShard, name: str, compression: str) -> Iterator[Document]:
    """The pages of one file of a shard: what is HTML or text; other records are passed over.

    `compression`: ".gz", or else what FastWARC undoes itself. Raises what a damaged file makes its readers raise
    (formats.DAMAGE).
    """
    path = Path(shard.root) / name
    kinds = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    with _Stepwise(path) if compression == ".gz" else open(path, "rb") as file:
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
    data = record.reader.read(inputs.MAX_DOCUMENT_BYTES + 1) if is_page else b""
    found = len(data) if is_page else record.reader.consume()
    if found < min(size, inputs.MAX_DOCUMENT_BYTES) or "Content-Length" not in record.headers:  # FastWARC does not tell
        return broken(shard, id, "read:clipped", f"{found} bytes of {size}", url)
    if not is_page:
        return None
    if headers is not None and size <= inputs.MAX_DOCUMENT_BYTES:
        try:
            data = _decode(data, headers)
        except DAMAGE as error:
            return broken(shard, id, "read:bad_coding", f"{type(error).__name__}: {error}", url)
    if len(data) > inputs.MAX_DOCUMENT_BYTES:
        return broken(shard, id, "read:too_large", url=url)
    return new_document(
        shard, id, url, **{"html" if "html" in kind else "plain": data}, charset=record.http_charset or ""
    )


def _decode(data: bytes, headers: HeaderMap) -> bytes:
    """The body of an HTTP message without its codings, up to one byte more than inputs.MAX_DOCUMENT_BYTES.

    Transfer codings were applied last (RFC 9112, section 6), so they go first; codings that we do not know stay.
    """
    listed = ",".join(headers.get(name) or "" for name in ("Content-Encoding", "Transfer-Encoding"))
    for name in reversed(listed.lower().replace("x-gzip", "gzip").split(",")):
        start, decoder = _CODINGS.get(name.strip(), (b"$.", None))
        if decoder is not None and re.match(start, data):
            data = decoder(io.BytesIO(data)).read(inputs.MAX_DOCUMENT_BYTES + 1)
    return data
