"""Reading every input format and compression, and writing documents that come back the same."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_inputs import (
    HTML,
    JSONL,
    ROW_CONTENTS,
    ROWS,
    WARC,
    brotli,
    chunked,
    content,
    http,
    parquet,
    read_all,
    record,
    zstd,
)

from data_pipeline import files
from data_pipeline.config import Source
from data_pipeline.document import Document
from data_pipeline.files import read
from data_pipeline.inputs import list_shards
from data_pipeline.parquet import SCHEMA, count_documents, read_documents, write_rows
from mindllm.config import UserError


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.html", HTML, [HTML]),
        ("A.HTM", HTML, [HTML]),
        ("a.xhtml", b"", [b""]),
        ("a.txt", "你好".encode(), ["你好"]),
        ("notes.txt.html", HTML, [HTML]),
        ("a.jsonl", JSONL, ROW_CONTENTS),
        ("a.ndjson", b"\xef\xbb\xbf" + JSONL + b"\n\n \r\n", ROW_CONTENTS),
        ("a.parquet", parquet(ROWS), ROW_CONTENTS),
        ("a.warc", WARC, [HTML, b"<p>two</p>"]),
        ("a.warc.wet", record("湿 text".encode(), "conversion", type="text/plain"), ["湿 text"]),
    ],
)
def test_every_format_and_compression(tmp_path: Path, name: str, data: bytes, expected: list[Any]) -> None:
    packings: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".ZST": zstd}
    for suffix, pack in packings.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(pack(data))
        unreadable = name.endswith("parquet") and suffix  # it has compression of its own
        assert [content(d) for d in read_all(path)] == (["read:unreadable"] if unreadable else expected), suffix


def test_several_members_and_frames_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(map(zstd, JSONL.splitlines(keepends=True))))
    (tmp_path / "b.jsonl.gz").write_bytes(b"".join(map(gzip.compress, JSONL.splitlines(keepends=True))))
    (tmp_path / "c.html.zst").write_bytes(zstd(HTML[:30]) + zstd(HTML[30:]))
    (tmp_path / "d.warc.gz").write_bytes(gzip.compress(WARC) + gzip.compress(WARC))
    expected = [*ROW_CONTENTS, *ROW_CONTENTS, *[HTML, b"<p>two</p>"] * 2, HTML]  # archives first: c waits for its group
    assert [content(d) for d in read_all(tmp_path)] == expected


def test_a_mixed_folder_has_a_stable_order_and_names(tmp_path: Path) -> None:
    inputs = {"b/2.html": HTML, "b/1.txt": b"x", "a.jsonl": JSONL, "b/.hidden.html": HTML, ".git/x.html": HTML,
              "z.warc.gz": gzip.compress(WARC), "新闻/页.html": HTML, "README": b"?", "logo.png": b"?"}  # fmt: skip
    for name in sorted(inputs, reverse=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(inputs[name])
    shards = list_shards({"网": Source(str(tmp_path)), "one": Source(str(tmp_path / "a.jsonl"))}, 2)
    groups = [("a.jsonl",), ("README", "b/1.txt"), ("b/2.html",), ("z.warc.gz",), ("logo.png", "新闻/页.html")]
    assert [(s.name, s.files) for s in shards[:-1]] == [(f"网-{i:05d}", group) for i, group in enumerate(groups)]
    assert (shards[-1].name, shards[-1].files) == ("one-00000", ("a.jsonl",))
    assert [d.id for s in shards[:3] for d in read(s)] == [
        "网/a.jsonl#0", "网/a.jsonl#1", "网/a.jsonl#2", "网/README", "网/b/1.txt", "网/b/2.html",
    ]  # fmt: skip
    broken = {d.id: d.meta["broken"] for s in shards for d in read(s) if "broken" in d.meta}
    assert broken == {"网/README": "read:unknown_format", "网/logo.png": "read:unknown_format"}
    assert shards[1].num_bytes == 2


def test_grouping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        (tmp_path / f"{number}.html").write_bytes(b"x" * 10)
    sizes = [[len(s.files) for s in list_shards({"w": Source(str(tmp_path))}, n)] for n in (1, 25, 1000)]
    assert sizes == [[1] * 7, [3, 3, 1], [7]]
    monkeypatch.setattr(files, "MAX_FILES_PER_SHARD", 4)
    assert [len(s.files) for s in list_shards({"w": Source(str(tmp_path))}, 1000)] == [4, 3]


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sources.web.path: .*缺 does not exist"):
        read_all(tmp_path / "缺")
    (tmp_path / ".hidden.html").write_text("x")
    with pytest.raises(UserError, match="sources.web.path: .* holds no files"):
        read_all(tmp_path)
    assert [d.id for d in read_all(tmp_path / ".hidden.html")] == ["web/.hidden.html"]  # asked for by name


def test_sites(tmp_path: Path) -> None:
    urls = {
        "http://u:p@Www.A.example:8080/x@y": "www.a.example",
        "https://b.example?q=1#f": "b.example",
        "http://[::1]:80/": "::1",
        "http://例子.测试/a": "例子.测试",
        "http://[bad/": "site one",
        "no url": "site one",
        "": "site one",
    }
    (tmp_path / "Site\tOne").mkdir()
    (tmp_path / "Site\tOne" / "a.jsonl").write_text("\n".join(json.dumps({"text": "x", "url": url}) for url in urls))
    assert {d.url: d.site for d in read_all(tmp_path)} == urls
    (tmp_path / "b.html").write_bytes(HTML)
    assert [d.site for d in read_all(tmp_path / "b.html")] == ["web"]


def test_records_and_their_keys(tmp_path: Path) -> None:
    full = {"content": "正文", "raw": "", "text": "no", "author": ["甲"], "date": 2024, "title": "", "other": 1}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [full, {"raw": "<p>"}, {"text": "no"}])))
    (tmp_path / "b.parquet").write_bytes(parquet([{"raw": b"\xff<p>", "content": None}]))
    found = read_all(tmp_path, text_field="content", html_field="raw")
    assert [content(d) for d in found] == ["正文", b"<p>", "read:no_text_field", b"\xff<p>"]
    assert found[0].meta == {"plain": "正文".encode(), "author": "['甲']", "date": "2024"}
    assert found[2].text == "keys: text"


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


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
documents = st.builds(Document, texts, texts, texts, texts, st.sampled_from(["en", "zh-Hans", "zh-Hant"]), texts,
                      st.dictionaries(texts, texts | st.integers(-5, 5), max_size=3))  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(documents, max_size=7))
def test_documents_come_back_the_same(tmp_path: Path, some: list[Document]) -> None:
    path = tmp_path / "deep" / "x.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipeline.parquet.ROWS_PER_GROUP", 3)
        with write_rows(path, SCHEMA) as rows:
            for document in some:
                rows.add_document(document)
    assert list(read_documents(path)) == some and count_documents(path) == len(some)
    assert pq.ParquetFile(path).num_row_groups == -(-len(some) // 3)
    assert [d.text for d in read_documents(path, ("text",))] == [d.text for d in some]
    assert all(d.id == "" and d.meta == {} for d in read_documents(path, ("text",)))


@pytest.mark.parametrize("wrong", [{"text": 5}, {"text": "\ud800"}, RuntimeError()])
def test_a_failed_writer_leaves_nothing(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises((RuntimeError, pa.ArrowException, TypeError, UnicodeEncodeError)):
        with write_rows(tmp_path / "x.parquet", SCHEMA) as rows:
            rows.add_document(Document("正文", "1", meta={"html": b"raw bytes stay behind"}))
            if isinstance(wrong, Exception):
                raise wrong
            rows.add(wrong)
    assert list(tmp_path.iterdir()) == []
