"""A hub on this machine with the few answers that listing and reading a data set ask for; used by test_hub.py.

`python fake_hub.py FOLDER LOG` serves FOLDER/owner/name/... at one commit, prints its port, and writes what was asked.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAIL_ONCE = "fail-once"  # in a file's name: the first time it is answered with 503


class Hub(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    root = log = Path()
    failed: set[str] = set()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        with self.log.open("a") as log:
            log.write(f"{self.command} {unquote(path)} {self.headers.get('Range', '')}\n")
        if len(body := self.rfile.read(int(self.headers.get("Content-Length") or 0))) > 10_000:
            raise ValueError("a large request")
        api = re.fullmatch(r"/api/datasets/([^/]+/[^/]+?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?/?", path)
        file = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not (found := api or file):
            return self.answer(404, b"{}")
        name, revision = found[1], unquote((api and api[3]) or (file and file[2]) or "main")
        if name == "some/gated" and file:
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if not (self.root / name).is_dir():
            return self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", "v1", "refs/convert/parquet", COMMIT):
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if file:
            return self.file(self.root / name / unquote(file[3]))
        below = (self.root / name).rglob("*") if api and api[2] in ("tree", "paths-info") else ()
        entries = [self.entry(self.root / name, at) for at in sorted(below)]
        if api and api[2] == "tree":
            folder = unquote(f"{api[4]}/" if api[4] else "")
            entries = [e for e in entries if str(e["path"]).startswith(folder)]
            return self.answer(200 if entries else 404, json.dumps(entries).encode(), {"X-Error-Code": "EntryNotFound"})
        if api and api[2] == "paths-info":
            wanted = unquote(body.decode())
            return self.answer(200, json.dumps([e for e in entries if str(e["path"]) in wanted]).encode())
        self.answer(200, json.dumps({"_id": "1", "id": name, "sha": COMMIT, "tags": [], "siblings": []}).encode())

    do_HEAD = do_POST = do_GET

    @staticmethod
    def entry(root: Path, path: Path) -> dict[str, object]:
        name, kind = path.relative_to(root).as_posix(), "directory" if path.is_dir() else "file"
        return {"type": kind, "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": path.stat().st_size}

    def file(self, path: Path) -> None:
        """A file or the part of it that is asked for."""
        if not path.is_file():
            return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        if FAIL_ONCE in path.name and self.command == "GET" and path.name not in self.failed:
            self.failed.add(path.name)
            return self.answer(503, b"")
        data = path.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.answer(200, data, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.answer(206, data[first : last + 1], headers)

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


if __name__ == "__main__":
    Hub.root, Hub.log = Path(sys.argv[1]), Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_port, flush=True)
    server.serve_forever()
