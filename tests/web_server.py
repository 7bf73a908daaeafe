"""A web server for tests: files with ranges and index pages, and the faults that one asks for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


@dataclass
class Web:
    """files: path -> content.  faults: path -> what happens to the requests for it, one after the other.

    A fault is a status (503), "drop" (no answer), an int below 0 (breaks off after so many bytes), "whole" (knows no
    ranges), "lie" (promises 100 bytes more than it sends).  requests: "GET /path 5-" of every one.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)  # index pages in place of those that are made
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    always: dict[str, int | str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    etag: str = '"1"'
    headers: dict[str, str] = field(default_factory=dict)  # of the last request

    def index(self, folder: str) -> bytes | None:
        """An index page like a server's own, with links to sort it and to the folder above."""
        if folder in self.pages:
            return self.pages[folder].encode()
        below = {name[len(folder) :].partition("/") for name in self.files if name.startswith(folder)}
        links = sorted({first + slash for first, slash, _ in below})
        if not links:
            return None
        rows = "".join(f'<li><a href="{quote(link)}">{link}</a></li>' for link in links)
        return f'<html><a href="?C=N;O=D">Name</a> <a href="../">up</a> <a href="/">top</a>{rows}</html>'.encode()


@contextlib.contextmanager
def serve() -> Iterator[Web]:
    """A server on a free port of this machine, for as long as the block runs."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            byte_range = self.headers.get("Range", "").removeprefix("bytes=")
            web.requests.append(f"{self.command} {path} {byte_range}".strip())
            web.headers = dict(self.headers)
            fault = web.faults.get(path, [])[:1]
            web.faults[path] = web.faults.get(path, [])[1:]
            self.answer(path, byte_range, fault[0] if fault else web.always.get(path))

        do_HEAD = do_GET

        def answer(self, path: str, byte_range: str, fault: int | str | None) -> None:
            data = web.index(path) if path.endswith("/") else web.files.get(path)
            if data is None and web.index(path + "/") and not fault:
                return self.send(301, b"", {"Location": quote(path) + "/"})
            if fault == "drop":
                self.close_connection = True
                return None
            if data is None or (isinstance(fault, int) and fault > 0):
                return self.send(fault if isinstance(fault, int) and fault > 0 else 404, b"no")
            kind = {"Content-Type": "text/html" if path.endswith("/") else "application/octet-stream", "ETag": web.etag}
            start, size = 0, len(data)
            if byte_range and fault != "whole" and self.headers.get("If-Range") in (None, web.etag):
                start = int(byte_range.partition("-")[0])
                if start >= size:
                    return self.send(416, b"")
                kind["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            cut = -fault if isinstance(fault, int) else None
            return self.send(206 if start else 200, data[start:], kind, cut, more=100 * (fault == "lie"))

        def send(
            self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: int | None = None, more: int = 0
        ) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data) + more))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[:cut])
            self.close_connection = self.close_connection or cut is not None or bool(more)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
