"""Which files are inputs, in which shards and order; the site that a document gets."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from raw_inputs import HTML, JSONL, WARC, content, read_all
from web_server import Web, serve

from data_pipeline.config import Source
from data_pipeline.reading import inputs as module
from data_pipeline.reading import retries
from data_pipeline.reading.files import read
from data_pipeline.reading.input_shard import InputShard
from data_pipeline.reading.inputs import describe_source, list_shards
from data_pipeline.sources import evenly
from mindllm.config import UserError


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.0)
    with serve() as server:
        yield server


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


def test_so_many_files_evenly_spaced(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.jsonl").write_bytes(JSONL)
    taken = [[s.files[0][0] for s in list_shards({"w": Source(str(tmp_path), max_files=n)}, 1)] for n in (0, 1, 3, 12)]
    assert ["".join(names) for names in taken] == ["0123456789", "0", "036", "0123456789"]
    assert [evenly(list("ab"), n) for n in (0, 1, 2, 3)] == [["a", "b"], ["a"], ["a", "b"], ["a", "b"]]


def test_a_list_of_files_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted, each once; below base or complete; the same documents as from the folder, but for missing files."""
    monkeypatch.chdir(tmp_path)
    files = {"网/a.jsonl": JSONL, "网/b.html": HTML, "c.warc": WARC, "far/d.txt": b"d"}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    lines = ["# 列表", "", "网/b.html", "c.warc", "  网/a.jsonl\r", "c.warc", "gone.txt", f"{tmp_path}/far/d.txt"]
    (tmp_path / "list.gz").write_bytes(gzip.compress("\ufeff".encode() + "\n".join(lines).encode()))
    source = Source(paths="list.gz", base="")
    shards = list_shards({"w": source}, 1000)
    assert [(s.root, s.files) for s in shards] == [
        ("", ("c.warc",)),
        ("", ("网/a.jsonl",)),
        ("", ("gone.txt", "网/b.html")),
        ("", (f"{tmp_path}/far/d.txt",)),
    ]
    assert [s.name for s in shards] == [f"w-{i:05d}" for i in range(4)]
    found = {d.id: d for s in shards for d in read(s)}
    assert content(found["w/gone.txt"]) == "read:missing" and found["w/网/b.html"].site == "网"
    assert found[f"w/{tmp_path}/far/d.txt"].site == str(tmp_path).split("/")[1]
    from_folder = {d.id: d for s in list_shards({"w": Source(str(tmp_path))}, 1000) for d in read(s)}
    assert [found[i] for i in found if "网" in i] == [d for i, d in from_folder.items() if "网" in i]
    below = list_shards({"w": Source(paths="list.gz", base=str(tmp_path))}, 1000)
    assert [(s.root, s.files) for s in below][0] == (str(tmp_path), ("c.warc",)) and below[-1].root == ""
    assert [s.files[0] for s in list_shards({"w": replace(source, max_files=2)}, 1)] == ["gone.txt", lines[-1]]
    described = describe_source(source, shards)
    (tmp_path / "c.warc").write_bytes(WARC + WARC)
    assert describe_source(source, shards)["hash"] != described["hash"] and described["files"] == 5


def test_a_list_behind_a_url(web: Web, tmp_path: Path) -> None:
    """As Common Crawl's: packed, names below another URL; the list may also name whole URLs."""
    lines = [f"crawl/{i}.warc.gz" for i in range(4)] + [f"crawl/页{i}.html" for i in range(3)]
    lines += [f"{web.url}/far/x.txt?X-Amz-Signature=hush", f"{web.url}/far/get?id=1", f"{web.url}/far/get?id=2"]
    web.files = {"/lists/warc.paths.gz": gzip.compress("\n".join(lines).encode()), "/far/x.txt": b"x", "/far/get": HTML}
    web.files |= {f"/data/crawl/{i}.warc.gz": gzip.compress(WARC) for i in range(4)}
    web.files |= {f"/data/crawl/页{i}.html": HTML for i in range(2)}
    source = Source(paths=f"{web.url}/lists/warc.paths.gz", base=f"{web.url}/data/")
    shards = list_shards({"cc": source}, 1000)
    assert web.requests == ["GET /lists/warc.paths.gz"]  # no look at any file
    assert [len(s.files) for s in shards] == [1, 1, 1, 1, 3, 3] and shards[0].num_bytes == 0
    found = [d for s in shards for d in read(s)]
    ids = [d.id for d in found]
    assert ids[:2] == ["cc/crawl/0.warc.gz#0", "cc/crawl/0.warc.gz#1"] and len(set(ids)) == len(ids) == 14
    assert [(d.id, content(d)) for d in found[8:11]] == [
        (f"cc/crawl/页{i}.html", HTML if i < 2 else "read:missing") for i in range(3)
    ]
    assert [d.id.rpartition("/")[2][:4] for d in found[11:]] == ["get?", "get?", "x.tx"]
    assert {d.site for d in found[11:]} == {"127.0.0.1"} and found[8].site == "crawl"
    described = json.dumps([describe_source(source, shards), ids])
    assert "hush" not in described and "id=1" not in described
    assert describe_source(source, shards[1:])["hash"] != describe_source(source, shards)["hash"]


def test_files_of_unknown_size_are_grouped_by_number(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("\n".join(f"{i:03d}.html" for i in range(200)))
    shards = list_shards({"w": Source(paths=str(tmp_path / "list"), base="https://a.example/")}, 16_000_000)
    assert [len(s.files) for s in shards] == [64, 64, 64, 8]


@pytest.mark.parametrize(
    ("lines", "base", "says"),
    [
        ("", "https://a.example/", "names no files"),
        ("# no\n", "https://a.example/", "names no files"),
        ("/etc/passwd", "https://a.example/", 'is a file of this machine, but base is a URL.*base: ""'),
        ("file:///etc/passwd", "", "write a file of this machine as its path"),
        ("https://u:hush@a.example/x", "", "secrets come from the environment"),
        ("x", "https://u:hush@a.example/", "sources.w.base: .*secrets come from"),
        ("nowhere://a.example/x", "", "nowhere://a.example/x: cannot be set up"),
        ("https://a.example/x?sig=1\nhttps://a.example/x?sig=2", "", "stands there twice"),
        ("\udcff", "", "is no text in utf-8"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, lines: str, base: str, says: str) -> None:
    (tmp_path / "list").write_text(lines, errors="surrogateescape")
    with pytest.raises(UserError, match=says) as caught:
        list_shards({"w": Source(paths=str(tmp_path / "list"), base=base)}, 1)
    assert "hush" not in str(caught.value)


def test_a_list_from_elsewhere_names_no_files_of_this_machine(web: Web, tmp_path: Path) -> None:
    for line, base in (("/etc/passwd", ""), ("../../etc/passwd", str(tmp_path)), ("/etc/passwd", web.url)):
        web.files = {"/list": line.encode()}
        with pytest.raises(UserError, match=r"passwd"):
            list_shards({"w": Source(paths=f"{web.url}/list", base=base)}, 1)
    web.files = {"/list.gz": b"\x1f\x8b\x08 no"}
    with pytest.raises(UserError, match=f"sources.w.paths: {web.url}/list.gz: cannot be read"):
        list_shards({"w": Source(paths=f"{web.url}/list.gz?token=1")}, 1)
    with pytest.raises(UserError, match="sources.w.paths: .*/none.gz.*check the address"):
        list_shards({"w": Source(paths=f"{web.url}/none.gz")}, 1)


def test_storage_is_for_the_files_not_for_a_list_that_lies_elsewhere() -> None:
    source = Source(paths="https://a.example/list", base="s3://b/", storage={"anon": True})
    urls = ["https://a.example/list", "s3://b/x", "S3://c/y", "hf://datasets/x"]
    assert [bool(module.storage_for(source, url)) for url in urls] == [False, True, True, False]
    assert module.storage_for(Source("http://a.example/", storage={"x": 1}), "https://a.example/y") == {"x": 1}
    assert module.storage_for(Source(dataset="a/b", storage={"x": 1}), "hf://datasets/a/b") == {"x": 1}


def test_a_shard_can_be_pickled_and_hashed() -> None:
    shard = InputShard("w-00000", ("a",), "w", "s3://b", Source("s3://b", storage={"anon": True}))
    assert pickle.loads(pickle.dumps(shard)) == shard and {shard: 1}[shard] == 1
    assert InputShard("a", (), "", "").settings == Source()


def test_what_a_plan_says_of_local_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "none.txt").symlink_to("nowhere")
    source = Source(str(tmp_path), subset_field="kind")
    first = describe_source(source, list_shards({"w": source}, 1))
    assert first == {"text_field": "text", "html_field": "html", "subset_field": "kind", "files": 2, "bytes": 3,
                     "hash": first["hash"]}  # fmt: skip
    (tmp_path / "a.txt").write_bytes(b"two")
    assert describe_source(source, list_shards({"w": source}, 1))["hash"] != first["hash"]


def test_a_list_of_local_files_does_not_ask_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "页.txt").write_text("雨", encoding="utf-8")
    (tmp_path / "list.txt").write_text("页.txt\n", encoding="utf-8")
    with pytest.raises(UserError, match="is a file of this machine, but base is a URL"):
        list_shards({"web": Source(paths="list.txt")}, 1000)
    (shard,) = list_shards({"web": Source(paths="list.txt", base="")}, 1000)
    assert shard.files == ("页.txt",)


def test_subsets_by_path(tmp_path: Path) -> None:
    rows = b'{"text": "rain"}\n{'
    texts = {"红楼梦/a.txt": b"x", "紅樓夢/深/b.jsonl": rows,
             "News & more/p.html": HTML, "诗.v2.jsonl.gz": gzip.compress(rows),
             "Wiki.PARQUET": b"PAR", "p.html": HTML, "c.json": rows, "曲.txt": b"x"}  # fmt: skip
    for name, data in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    shards = list_shards({"t": Source(str(tmp_path), subset_by_path=True)}, 9)
    assert {d.id: d.source for shard in shards for d in read(shard)} == {
        "t/红楼梦/a.txt": "t-红楼梦", "t/紅樓夢/深/b.jsonl#0": "t-紅樓夢", "t/紅樓夢/深/b.jsonl#1": "t-紅樓夢",
        "t/News & more/p.html": "t-news-more", "t/诗.v2.jsonl.gz#0": "t-诗-v2", "t/诗.v2.jsonl.gz#1": "t-诗-v2",
        "t/Wiki.PARQUET": "t-wiki", "t/p.html": "t", "t/c.json#0": "t", "t/c.json#1": "t", "t/曲.txt": "t",
    }  # fmt: skip


def test_subsets_by_path_are_part_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    plans = [describe_source(s, list_shards({"w": s}, 1)) for s in (Source(str(tmp_path)),
             Source(str(tmp_path), subset_by_path=True))]  # fmt: skip
    assert plans[1] == {**plans[0], "subset_by_path": True}


def test_a_hash_in_a_file_name_is_no_place_in_it(tmp_path: Path) -> None:
    (tmp_path / "a#x.jsonl").write_text('{"text": "雨"}\n', encoding="utf-8")
    (shard,) = list_shards({"t": Source(str(tmp_path), subset_by_path=True)}, 9)
    assert [d.source for d in read(shard)] == ["t-a-x"]
