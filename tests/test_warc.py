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


def test_what_belongs_to_no_record_is_one_broken_document(tmp_path: Path) -> None:
    """The records behind it are read; of less than 64 bytes nothing is said."""
    good, next_ = record(http(HTML)), record(http(b"<p>c</p>"))
    garbage = b"garbage\r\n" * 9
    for name, data, expected in (
        ("between", good + garbage + next_, [HTML, "read:unreadable", b"<p>c</p>"]),
        ("in headers", b"WARC/1.0\r\n" + garbage + good, [HTML, "read:unreadable"]),
        ("last", good + garbage, [HTML, "read:unreadable"]),
        ("only", garbage[:30], ["read:unreadable"]),
        ("little", good + garbage[:54] + next_, [HTML, b"<p>c</p>"]),
        ("clipped header", good + next_[:75], [HTML, "read:clipped"]),
        ("nothing", b"", []),
    ):
        (tmp_path / "a.warc").write_bytes(data)
        (tmp_path / "b.warc.gz").write_bytes(gzip.compress(data))
        for file in ("a.warc", "b.warc.gz"):
            found = read_all(tmp_path / file)
            assert [content(d) for d in found] == expected, name
            assert len({d.id for d in found}) == len(found)
        if name == "between":
            assert found[1].text == "81 bytes that belong to no WARC record"


@pytest.mark.parametrize("text", ["春天来了，河边的柳树发芽了。" * 20, "The river runs past the old mill. " * 20])
def test_wrong_lengths(tmp_path: Path, text: str) -> None:
    """WET records that promise more or less than they have cost themselves and at most the next one, and it is said."""
    body = text.encode()
    wet = record(body, "conversion", "http://a.example/1", "text/plain")
    rest = record(b"second", "conversion", type="text/plain") + record(b"third", "conversion", type="text/plain")
    length = b"Content-Length: %d" % len(body)
    for wrong, expected in (
        (b"30", [body[:30], "read:unreadable", b"second", b"third"]),
        (b"%d" % (len(body) + 100), [None, "read:unreadable", b"third"]),
        (b"9" * 30, ["read:unreadable", b"second", b"third"]),
        (b"-1", ["read:unreadable", b"second", b"third"]),
        (b"many", ["read:unreadable", b"second", b"third"]),
        (b"99999", ["read:clipped"]),
    ):
        (tmp_path / "a.wet").write_bytes(wet.replace(length, b"Content-Length: " + wrong) + rest)
        found = [d.meta.get("broken", d.meta.get("plain")) for d in read_all(tmp_path)]
        assert [f for f in found if f] == [f or found[0] for f in expected], wrong


def test_line_ends_without_carriage_returns(tmp_path: Path) -> None:
    """ClueWeb09 has them in HTTP headers, with the lengths of before; others everywhere."""
    page = record(http(HTML)).replace(b"text/html; charset=utf-8\r\n\r\n", b"text/html; charset=utf-8\n\n")
    page = page.replace(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\n")
    lines = record(HTML, "resource", type="text/html").replace(b"\r\n", b"\n")
    (tmp_path / "a.warc").write_bytes(lines * 3)
    (tmp_path / "b.warc").write_bytes((page[:-4] + b"   " + page[-4:]) * 3)
    found = read_all(tmp_path)
    assert [content(d) for d in found] == [HTML] * 3 + [HTML + b"   "] * 3
    assert found[3].meta["charset"] == "utf-8"


def test_a_file_without_pages_says_what_it_has(tmp_path: Path) -> None:
    wat = record(b"{}", "metadata", type="application/json")
    (tmp_path / "a.warc.wat.gz").write_bytes(gzip.compress(record(b"x", "warcinfo", type="application/warc-fields")))
    (tmp_path / "b.warc").write_bytes(wat + wat + record(http(b"", type="image/png; x=1")))
    found = read_all(tmp_path)
    assert {d.id: (content(d), d.text) for d in found} == {
        "web/a.warc.wat.gz": ("read:no_pages", "1 warcinfo of application/warc-fields"),
        "web/b.warc": ("read:no_pages", "2 metadata of application/json, 1 response of image/png"),
    }


def test_one_member_or_many(tmp_path: Path) -> None:
    """Web archives pack each record on its own; some tools pack the whole file at once, or cut records in two."""
    data = b"".join(record(http(b"<p>%d</p>" % i)) for i in range(50))
    many = b"".join(gzip.compress(data[i : i + 100]) for i in range(0, len(data), 100))
    for name, packed in (("one", gzip.compress(data)), ("many", many), ("padded", many + bytes(512))):
        (tmp_path / "a.warc.gz").write_bytes(packed)
        assert [content(d) for d in read_all(tmp_path)] == [b"<p>%d</p>" % i for i in range(50)], name
