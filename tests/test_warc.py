"""WARC files: which records are pages, bodies in HTTP codings, clipped and damaged files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import pytest
from raw_inputs import HTML, brotli, chunked, content, http, read_all, record, zstd


def test_warc_records(tmp_path: Path) -> None:
    passed_over = [
        record(http(HTML, status="404 Not Found")),
        record(http(HTML, status="301 Moved")),
        record(http(b"%PDF", type="application/pdf")),
        record(http(b"", type="")),
        record(http(HTML), "request"),
        record(HTML, "metadata", type="text/html"),
        record(b"8.8.8.8", "resource", "dns:a.example", "text/dns"),
        record(b"no HTTP at all"),
    ]
    pages = [
        record(http(HTML, type="TEXT/HTML;charset=GBK"), uri="<http://b.example/页>"),
        record(HTML, "resource", type="text/html"),
        record(http(HTML, type="application/xhtml+xml")),
        record("湿".encode(), "conversion", type="text/plain"),
    ]
    (tmp_path / "a.warc").write_bytes(b"".join(passed_over[:5] + pages[:2] + passed_over[5:] + pages[2:]))
    found = read_all(tmp_path)
    assert [content(d) for d in found] == [HTML, HTML, HTML, "湿"]
    assert [d.meta["charset"] for d in found] == ["gbk", "", "", ""]
    assert (found[0].url, found[0].site) == ("http://b.example/页", "b.example")


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (gzip.compress(HTML), ["Content-Encoding: gzip"], HTML),
        (gzip.compress(HTML), ["content-encoding: X-GZip"], HTML),
        (zlib.compress(HTML), ["Content-Encoding: deflate"], HTML),
        (brotli(HTML), ["Content-Encoding: br"], HTML),
        (zstd(HTML), ["Content-Encoding: zstd"], HTML),
        (chunked(HTML), ["Transfer-Encoding: chunked"], HTML),
        (chunked(HTML * 5000, 20), ["Transfer-Encoding: chunked"], HTML * 5000),
        (chunked(gzip.compress(HTML)), ["Content-Encoding: gzip", "Transfer-Encoding: chunked"], HTML),
        (chunked(gzip.compress(HTML)), ["Transfer-Encoding: gzip, chunked"], HTML),
        (HTML, ["Content-Encoding: gzip", "Transfer-Encoding: chunked"], HTML),  # stored decoded under the old headers
        (HTML, ["Content-Encoding: br"], HTML),
        (HTML, ["Content-Encoding: identity, none"], HTML),
        (gzip.compress(HTML)[:-12], ["Content-Encoding: gzip"], "read:bad_coding"),
        (chunked(HTML)[:-20], ["Transfer-Encoding: chunked"], "read:bad_coding"),
        (b"\x1f\x8b\x08\x00" + b"x" * 50, ["Content-Encoding: gzip"], "read:bad_coding"),
        (b"\x00\x01" * 30, ["Content-Encoding: br"], "read:bad_coding"),
    ],
)
def test_http_codings(tmp_path: Path, body: bytes, headers: list[str], expected: Any) -> None:
    (tmp_path / "a.warc").write_bytes(record(http(body, *headers)) + record(http(b"<p>next</p>")))
    assert [content(d) for d in read_all(tmp_path)] == [expected, b"<p>next</p>"]


@pytest.mark.parametrize("kind", ["page", "image", "request"])
def test_clipped_warc(tmp_path: Path, kind: str) -> None:
    """What lies before the cut is there; FastWARC alone would pass the clipped record on as if it were whole."""
    first, image = record(http(HTML)), http(b"x" * 300, type="image/png")
    part = record(image if kind == "image" else http(HTML), "request" if kind == "request" else "response")
    for end in range(1, len(gzip.compress(part)), 9):
        (tmp_path / "a.warc.gz").write_bytes(gzip.compress(first) + gzip.compress(part)[:end])
        found = [content(d) for d in read_all(tmp_path / "a.warc.gz")]
        assert found[0] == HTML and found[-1] == "read:unreadable", end
    for end in range(part.index(b"Content-Length"), len(part) - 4, 9):  # a cut in its first lines cannot be seen
        (tmp_path / "b.warc").write_bytes(first + part[:end])
        found = [content(d) for d in read_all(tmp_path / "b.warc")]
        assert found == [HTML, "read:clipped"][: 1 if kind == "request" else 2], end


def test_garbage_ends_a_warc_and_only_it(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(record(http(HTML)) + b"garbage\r\n" * 9 + record(http(HTML)))
    (tmp_path / "b.warc.gz").write_bytes(b"garbage" * 9)
    (tmp_path / "c.warc").write_bytes(record(http(b"<p>c</p>")))
    (tmp_path / "d.warc").write_bytes(b"")
    assert [content(d) for d in read_all(tmp_path)] == [HTML, "read:unreadable", "read:unreadable", b"<p>c</p>"]
