"""Which files are inputs, in which shards and order; the site that a document gets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from raw_inputs import HTML, JSONL, WARC, read_all

from data_pipeline import inputs as module
from data_pipeline.config import Source
from data_pipeline.files import read
from data_pipeline.inputs import list_shards
from mindllm.config import UserError


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
    monkeypatch.setattr(module, "MAX_FILES_PER_SHARD", 4)
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
    (tmp_path / "语言 C#").mkdir()
    (tmp_path / "语言 C#" / "c.html").write_bytes(HTML)
    assert [d.site for d in read_all(tmp_path) if d.id.endswith("c.html")] == ["语言 c#"]
