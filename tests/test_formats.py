"""What a file is taken for: its suffix, overruled by its first bytes; with every file there is some answer."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_inputs import HTML, JSONL, WARC, content, parquet, read_all, zstd

from data_pipeline.reading.formats import LINES, PAGE, PARQUET, TEXT, UNKNOWN, VALUES, expected, recognise, utf16_mark
from data_pipeline.reading.formats import WARC as WARC_KIND

FIELDS = ("text", "html")
PAGES = [b"<!DOCTYPE html><p>", b" \n<!-- \xe8\xaf\xb4 -->\n<HTML lang=zh>", b"<?xml version='1.0'?>\n<html xmlns=''>",
         b"\xef\xbb\xbf<head>", b"<div class=a>", b"<h1>", "<html>中文".encode("utf-16"),
         "<html><body>中文".encode("utf-16-be")]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (
            "a.html A.HTM a/b.XHTML a.php index.php?id=3 index.php@id=3&x=4 a.asp a.aspx a.jsp;jsessionid=1 a.shtml",
            PAGE,
        ),
        (
            "a.htm?id=3 view.asp?f=style.css a.html.gz a.htm.ZST a.php?u=http://b.example/c.d x.html#top",
            PAGE,
        ),
        ("a.html.gz?download=1", PAGE),
        ("a.txt a.TEXT.gz 笔记.txt", TEXT),
        ("a.jsonl a.NDJSON.zst a.json a.json.gz a.jsonl.lz4", LINES),
        ("a.warc.gz a.warc a.warc.wet.gz a.warc.lz4 a.warc.gz?x=1", WARC_KIND),
        ("a.parquet", PARQUET),
        ("README a.pdf index?id=3 a.html.bak gz .gz a.b/c page.html/index html 网页", UNKNOWN),
    ],
)
def test_names(names: str, kind: str) -> None:
    assert {name: expected(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


@pytest.mark.parametrize("head", PAGES)
@pytest.mark.parametrize("name", ["a.html", "a", "a.txt", "index?id=3", "a.jsonl", "a.json", "a.css"])
def test_a_page_is_a_page_whatever_its_suffix(name: str, head: bytes) -> None:
    assert recognise(name, head, FIELDS) == (PAGE, "")


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.html", b"no tag at all", TEXT),
        ("a.php", "第一行\n第二行 &amp; 3 > 2".encode(), TEXT),
        ("a.htm", "無標籤".encode("utf-16"), TEXT),
        ("a.html", b"a binary\0 one", PAGE),
        ("a.html", b"text, then <p>", PAGE),
        ("a.html", b"", PAGE),
        ("a.php", b"<b>bold", PAGE),
        ("a.txt", "她说 <b>".encode(), TEXT),
        ("a.txt", b"MIME-Version: 1.0 is a header", TEXT),
        ("a.txt", b"<?php is how a program begins", TEXT),
        ("a.txt", b'{"title": "no field of ours"}', TEXT),
        ("a.txt", '{"title": "题", "text": "正文"}\n'.encode(), LINES),
        ("part-0001", b'{"html" : "<p>"}\n', LINES),
        ("a.html", b'[\n {"text": "x"},', VALUES),
        ("a.jsonl", b'[{"text": "x"}, {"text": "y"}]', VALUES),
        ("a.jsonl", b"[1, 2]\n[3]", LINES),
        ("a.jsonl", b"{\n", LINES),  # a broken line, and good ones behind it
        ("a.json", b'{"text": "x"}\n{"text": "y"}', LINES),
        ("a.json", b'{"a": 1}', LINES),
        ("a.json", b'{\n "text": "x"\n}', VALUES),
        ("a.jsonl", b"", LINES),
        ("a", b"WARC/1.0\r\nWARC-Type: response", WARC_KIND),
        ("a.txt", b"WARC/1.0 is a format", TEXT),
        ("a.html", b"PAR1\x15", PARQUET),
        ("a", b"RIFF raff", UNKNOWN),
    ],
)
def test_content_overrules_the_name(name: str, head: bytes, kind: str) -> None:
    assert recognise(name, head, FIELDS)[0] == kind


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"GIF89a", "image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"RIFF\x00\x01\x02\x03WEBP", "image"),
        (b"PK\x03\x04\x14\x00", "zip archive or office document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old office document"),
        (b"x" * 257 + b"ustar\x00", "tar archive"),
        (b"\x00\x00\x00\x18ftypmp42", "sound or video"),
        (b"<?php echo 1;", "PHP source"),
        (b"<%@ page %>", "page source"),
        (b'<?xml version="1.0"?>\n<rss version="2.0">', "XML"),
        (b"filedesc://a.arc 0.0.0.0", "ARC archive"),
        (b"From: <Saved by a browser>", "MHTML or mail"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, head: bytes, what: str) -> None:
    for name in ("a.html", "a", "a.jsonl", "a.pdf"):
        assert recognise(name, head, FIELDS) == (UNKNOWN, what)
    (tmp_path / "页.html").write_bytes(head)
    (document,) = read_all(tmp_path)
    assert (content(document), document.text) == ("read:unknown_format", what)


def test_compression_is_seen_in_the_bytes(tmp_path: Path) -> None:
    inputs = {
        "a.html": gzip.compress(HTML), "b.html.gz": HTML, "c.jsonl.gz": JSONL, "d.htm": zstd(HTML),
        "e.html.gz": zstd(HTML), "f.warc": gzip.compress(WARC), "g.warc.gz": WARC, "h": gzip.compress(WARC),
        "i": zstd(JSONL), "j.php?id=3": gzip.compress(HTML), "k": parquet([{"text": "秋"}]), "l.txt.zst": "好".encode(),
    }  # fmt: skip
    rows = ["秋天的風", "<p>雨</p>".encode(), "rain"]
    pages = [HTML, b"<p>two</p>"]
    expected = {"a": [HTML], "b": [HTML], "c": rows, "d": [HTML], "e": [HTML], "f": pages, "g": pages, "h": pages,
                "i": rows, "j": [HTML], "k": ["秋"], "l": ["好"]}  # fmt: skip
    for name, data in inputs.items():
        (tmp_path / name).write_bytes(data)
        assert [content(d) for d in read_all(tmp_path / name)] == expected[name[0]], name


def test_utf_16_without_a_mark(tmp_path: Path) -> None:
    page = "<html><head><title>题 Title</title></head><body><p>河边的柳树发芽了。</p></body></html>"
    for codec, mark in (("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE)):
        assert utf16_mark(page.encode(codec)) == mark and utf16_mark(mark + page.encode(codec)) == b""
        (tmp_path / f"{codec}.html").write_bytes(page.encode(codec))
        assert [content(d) for d in read_all(tmp_path / f"{codec}.html")] == [mark + page.encode(codec)]
    for data in (page.encode(), page.encode("gb18030"), b"", b"\0\0\0\0" * 9, HTML[:50] + b"\0" + HTML[50:]):
        assert utf16_mark(data) == b""


def test_arrays_and_objects_over_several_lines(tmp_path: Path) -> None:
    rows = [{"text": "秋天的風"}, {"text": "rain", "n": [1, {"a": None}]}, {"html": "<p>雨"}]
    expected = ["秋天的風", "rain", "<p>雨".encode()]
    texts = {
        "a.json": json.dumps(rows, ensure_ascii=False),
        "b.json": json.dumps(rows, indent=2),
        "c.json": "\n".join(json.dumps(row, indent=1) for row in rows),
        "d.jsonl": json.dumps(rows),
        "e.json": "\ufeff" + json.dumps(rows),
        "f.json": "\n".join(map(json.dumps, rows)),
        "g.html": json.dumps(rows, indent=2),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = read_all(tmp_path / name)
        assert [content(d) for d in found] == expected, name
        assert [d.id for d in found] == [f"web/{name}#{i}" for i in range(3)]


def test_a_broken_array_ends_in_one_broken_document(tmp_path: Path) -> None:
    whole = json.dumps([{"text": "秋"}, {"text": "rain"}, 5, {"text": "雨"}], ensure_ascii=False).encode()
    for end in range(15, len(whole)):
        (tmp_path / "a.json").write_bytes(whole[:end])
        found = [content(d) for d in read_all(tmp_path)]
        assert found == ["秋", "rain", "read:no_object", "雨"][: len(found)] or found[-1] == "read:bad_json"
    (tmp_path / "a.json").write_bytes(b'[{"text": "a"}, {"text: 1}, {"text": "b"}]')
    assert [content(d) for d in read_all(tmp_path)] == ["a", "read:bad_json"]


def test_an_array_of_any_size_takes_the_memory_of_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_pipeline.reading.input_shard.MAX_DOCUMENT_BYTES", 3_000_000)
    text = "字" * 900_000  # 2.7 MB: more than is read at once
    (tmp_path / "a.json").write_text(json.dumps([{"text": text}, {"text": "x"}] * 3, ensure_ascii=False), "utf-8")
    assert [content(d) for d in read_all(tmp_path)] == [text, "x"] * 3


@given(st.sampled_from([b"", *PAGES, b"[{", b"\0<\0h", b"<!--" * 30, b" " * 3000]), st.binary(max_size=80))
def test_any_bytes_have_an_answer(start: bytes, data: bytes) -> None:
    for name in ("a", "a.html", "a.txt", "a.jsonl", "a.json"):
        kind, what = recognise(name, start + data, FIELDS)
        assert (kind == UNKNOWN) == bool(what)
    assert utf16_mark(start + data) in (b"", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@pytest.mark.parametrize("unit", [b" ", b"\n<!--", b"<!---->", b"<?xml ", b"{", b"[ ", b'{"', b"\0 "])
def test_hostile_beginnings_take_no_time(unit: bytes) -> None:
    """A pattern that goes back over blanks or comments would not come to an end on these."""
    for name in ("a", "a.json"):
        recognise(name, unit * (4096 // len(unit)), FIELDS)
