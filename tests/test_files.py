"""Reading every input format and compression; which keys of records count."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_inputs import (
    HTML,
    JSONL,
    ROW_CONTENTS,
    ROWS,
    WARC,
    content,
    lz4,
    parquet,
    read_all,
    record,
    zstd,
)


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
    packings: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".ZST": zstd, ".lz4": lz4}
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
    (tmp_path / "e.warc.lz4").write_bytes(lz4(WARC[:40]) + lz4(WARC[40:]) + lz4(WARC))
    (tmp_path / "f.warc.zst").write_bytes(zstd(WARC) + zstd(WARC))
    expected = [*ROW_CONTENTS, *ROW_CONTENTS, *[HTML, b"<p>two</p>"] * 6, HTML]  # archives first: c waits for its group
    assert [content(d) for d in read_all(tmp_path)] == expected


def test_records_and_their_keys(tmp_path: Path) -> None:
    full = {"content": "正文", "raw": "", "text": "no", "author": ["甲"], "date": 2024, "title": "", "other": 1}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [full, {"raw": "<p>"}, {"text": "no"}])))
    (tmp_path / "b.parquet").write_bytes(parquet([{"raw": b"\xff<p>", "content": None}]))
    found = read_all(tmp_path, text_field="content", html_field="raw")
    assert [content(d) for d in found] == ["正文", b"<p>", "read:no_text_field", b"\xff<p>"]
    assert found[0].meta == {"plain": "正文".encode(), "author": "['甲']", "date": "2024"}
    assert found[2].text == "keys: text"
