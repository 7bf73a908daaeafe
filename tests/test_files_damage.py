"""Damaged, hostile and too large inputs of reading.files: counted as broken documents, no end of the run."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_inputs import HTML, JSONL, ROWS, content, http, lz4, parquet, read_all, record, zstd

from data_pipeline.parquet import SCHEMA, read_documents, write_rows
from data_pipeline.reading import files, input_shard


def test_bad_lines_break_nothing_else(tmp_path: Path) -> None:
    bad = {
        "bad_json": [b"{", b"\xff\xfe\xfa", b"[" * 100_000, b'{"text": ' + b"9" * 5000 + b"}", b"{'text': 1}"],
        "no_object": [b"[1]", b"null", b'"text"'],
        "no_text_field": [b"{}", b'{"text": 5}', b'{"text": ""}', b'{"\\ud800": 1}', b'{"Text": "x"}'],
    }
    lines = [line for group in bad.values() for line in group]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(part for line in lines for part in (line, '{"text": "好"}'.encode())))
    found = [content(d) for d in read_all(tmp_path)]
    assert found[1::2] == ["好"] * len(lines)
    assert found[::2] == [f"read:{reason}" for reason, group in bad.items() for _ in group]


def test_lone_surrogates_can_be_written(tmp_path: Path) -> None:
    """From escapes in JSON, and from file names in another encoding than UTF-8 (old Chinese archives have them)."""
    row = {"text": "a\ud800b", "url": "http://\udfff.example/\ud800", "title": "题\ud800"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    for name in ("目录.html", "目录.html.zst", "目录.parquet", "目录.warc"):
        (tmp_path / name.encode("gb18030").decode("utf-8", "surrogateescape")).write_bytes(HTML)
    found = read_all(tmp_path)
    assert content(found[0]) == "ab" and found[0].meta["title"] == "题\\ud800" and len({d.id for d in found}) == 5
    with write_rows(tmp_path / "out.parquet", SCHEMA) as rows:
        for document in found:
            rows.add_document(document)
    assert [d.id for d in read_documents(tmp_path / "out.parquet")] == [d.id for d in found]


@pytest.mark.parametrize(
    "name",
    "a.html.gz a.html.zst a.html.lz4 a.jsonl.gz a.jsonl.zst a.jsonl.lz4 a.parquet a.warc.zst a.warc.lz4".split(),
)
def test_clipped_anywhere(tmp_path: Path, name: str) -> None:
    """A clipped file gives some of its documents and then one broken one."""
    data = {"html": HTML, "jsonl": JSONL, "parquet": parquet(ROWS), "warc": record(http(HTML))}[name.split(".")[1]]
    data = {"gz": gzip.compress, "zst": zstd, "lz4": lz4}.get(name.split(".")[-1], bytes)(data)
    (tmp_path / name).write_bytes(data)
    whole = [content(d) for d in read_all(tmp_path)]
    for end in range(1, len(data), 1 + len(data) // 60):
        (tmp_path / name).write_bytes(data[:end])
        *good, last = [content(d) for d in read_all(tmp_path)]
        assert good == whole[: len(good)] and last == "read:unreadable", end


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_shard, "MAX_DOCUMENT_BYTES", 100)
    line, long = b'{"text": "%b"}\n', b"x" * 350
    bodies = (http(b"<" * 100), http(b"<" * 101), http(gzip.compress(b"<" * 101), "Content-Encoding: gzip"))
    files_of = {
        "a.html": b"<" * 100, "b.html": b"<" * 101, "c.txt.gz": gzip.compress(long), "d.html.zst": zstd(long),
        "e.jsonl": line % b"good" + line % long + line % b"after", "f.jsonl": line % long,
        "g.parquet": parquet([{"text": "字" * 34}]), "h.warc": b"".join(map(record, bodies)),
    }  # fmt: skip
    for name, data in files_of.items():
        (tmp_path / name).write_bytes(data)
    found = {d.id: content(d) for d in read_all(tmp_path)}
    large = {k for k, v in found.items() if v == "read:too_large"}
    names = ("b.html", "c.txt.gz", "d.html.zst", "e.jsonl#1", "f.jsonl#0", "g.parquet#0", "h.warc#1", "h.warc#2")
    assert large == {f"web/{name}" for name in names}
    assert {k: v for k, v in found.items() if k not in large} == {
        "web/a.html": b"<" * 100, "web/e.jsonl#0": "good", "web/e.jsonl#2": "after", "web/h.warc#0": b"<" * 100,
    }  # fmt: skip


def test_archives_of_zeros_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(50_000_000)
    body = gzip.compress(zeros, 1)
    monkeypatch.setattr(input_shard, "MAX_DOCUMENT_BYTES", len(body))
    (tmp_path / "a.html.gz").write_bytes(body)
    (tmp_path / "b.jsonl.zst").write_bytes(zstd(zeros))
    (tmp_path / "c.warc.gz").write_bytes(gzip.compress(record(http(body, "Content-Encoding: gzip"))))
    (tmp_path / "d.warc").write_bytes(record(zeros, "resource", type="text/html"))
    del zeros, body
    tracemalloc.start()
    assert [content(d) for d in read_all(tmp_path)] == ["read:too_large"] * 4  # b, c, d, then a with its group
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


def test_what_no_reader_has_foreseen_ends_one_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.parquet", "b.html"):
        (tmp_path / name).write_bytes(parquet(ROWS) if name == "a.parquet" else HTML)

    def fail(*arguments: object, **options: object) -> None:
        raise KeyError("惊")

    monkeypatch.setattr(files.pq, "ParquetFile", fail)
    assert [content(d) for d in read_all(tmp_path)] == ["error:read:KeyError", HTML]


starts = st.sampled_from(
    [b"", b"\x1f\x8b\x08\x00", record(http(HTML))[:200], b"\x28\xb5\x2f\xfd", lz4(b"x")[:9], b"PAR1", b'{"text": "']
)


@pytest.mark.parametrize(
    "suffix", ["html.gz", "txt.zst", "jsonl", "jsonl.zst", "warc", "warc.gz", "warc.zst", "warc.lz4", "parquet"]
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.binary(max_size=60), start=starts)
def test_any_bytes_give_documents(tmp_path: Path, suffix: str, data: bytes, start: bytes) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(start + data)
    assert all(d.id.startswith("web/x.") for d in read_all(tmp_path / f"x.{suffix}"))


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.warc.gz", "x.txt.zst", "x.html.lz4"])
def test_nothing_is_no_compressed_file(tmp_path: Path, name: str) -> None:
    """As a download leaves it that failed at once."""
    (tmp_path / name).write_bytes(b"")
    assert [content(d) for d in read_all(tmp_path)] == ["read:unreadable"]


@pytest.mark.parametrize("end", ["", ",", ",\n", "\n"])
def test_an_array_without_an_end_says_so(tmp_path: Path, end: str) -> None:
    (tmp_path / "x.json").write_text('[{"text": "一"},\n{"text": "two [2]"}' + end, encoding="utf-8")
    assert [content(d) for d in read_all(tmp_path)][-1] == "read:bad_json"
    (tmp_path / "x.json").write_text('[{"text": "一"},\n{"text": "two [2]"}]' + end.strip(","), encoding="utf-8")
    assert [content(d) for d in read_all(tmp_path)] == ["一", "two [2]"]
