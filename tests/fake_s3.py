"""A small S3 for tests: buckets with objects that can be listed, looked at and read in ranges; it breaks off if asked.

Only what s3fs asks for to read: ListObjectsV2, HeadObject, HeadBucket, GetObject, in path style. Nothing is signed.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

DATE = "2026-01-02T03:04:05.000Z"


@dataclass
class Store:
    """objects: bucket/key -> content.  faults: bucket/key -> statuses (503) or "cut" for its next reads."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)  # "bucket/key 0-99"

    def has_bucket(self, bucket: str) -> bool:
        """Buckets are there as soon as they hold something."""
        return any(name.startswith(f"{bucket}/") for name in self.objects)

    def listing(self, bucket: str, prefix: str, delimiter: str) -> str:
        """A ListObjectsV2 answer: the keys that begin with `prefix`, or what they go on with up to the delimiter."""
        rows, folders = [], set()
        for name in sorted(self.objects):
            key = name.removeprefix(f"{bucket}/")
            if key == name or not key.startswith(prefix):
                continue
            inner, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                folders.add(prefix + inner + delimiter)
            else:
                size, tag = len(self.objects[name]), etag(self.objects[name])
                rows.append(
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{DATE}</LastModified><ETag>{escape(tag)}</ETag>"
                    f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
        rows += [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)]
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
        space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        return f"<ListBucketResult {space}>{head}<KeyCount>{len(rows)}</KeyCount>{''.join(rows)}</ListBucketResult>"


def etag(data: bytes) -> str:
    """As S3 makes it for objects that were sent in one piece."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@contextlib.contextmanager
def serve_s3() -> Iterator[Store]:
    """A server on a free port of this machine, for as long as the block runs."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            name = unquote(address.path).strip("/") if "list-type" in address.query else unquote(address.path)[1:]
            bucket = name.partition("/")[0]
            query = {key: values[0] for key, values in parse_qs(address.query).items()}
            if not store.has_bucket(bucket):
                return self.fail(404, "NoSuchBucket")
            if "list-type" in query:
                answer = store.listing(bucket, query.get("prefix", ""), query.get("delimiter", ""))
                return self.send(200, answer.encode(), {"Content-Type": "application/xml"})
            if name == bucket:
                return self.send(200, b"")
            return self.answer(name)

        do_HEAD = do_GET

        def answer(self, name: str) -> None:
            data = store.objects.get(name)
            if data is None:
                return self.fail(404, "NoSuchKey")
            headers = {"ETag": etag(data), "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT", "Accept-Ranges": "bytes"}
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(data)), len(data) - 1) + 1
            if self.command == "HEAD":
                return self.send(200, data, headers)
            store.reads.append(f"{name} {start}-{stop - 1}")
            fault = store.faults.get(name, [])[:1]
            store.faults[name] = store.faults.get(name, [])[1:]
            if fault and isinstance(fault[0], int):
                return self.fail(fault[0], "SlowDown")
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            return self.send(206, data[start:stop], headers, cut=bool(fault))

        def fail(self, status: int, code: str) -> None:
            self.send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

        def send(self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            self.close_connection = self.close_connection or cut

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
