"""Files behind URLs: listing, copies that survive broken connections, what is refused and what is tried again."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fake_s3 import Store, serve_s3
from raw_inputs import HTML, JSONL, WARC, content, parquet
from web_server import Web, serve

from data_pipeline.config import Source
from data_pipeline.document import Document
from data_pipeline.reading import remote, retries, scratch
from data_pipeline.reading.addresses import Entry
from data_pipeline.reading.files import read
from data_pipeline.reading.inputs import describe_source, list_shards
from mindllm.config import UserError

DATA = bytes(range(256)) * 40  # 10,240 bytes, no two places alike within 256
FILES = {
    "b/2.html": HTML, "b/1.txt": "春 spring".encode(), "a.jsonl": JSONL, "z.warc.gz": gzip.compress(WARC),
    "c/d/k.parquet": parquet([{"text": "秋"}]), "logo.png": b"?",
}  # fmt: skip


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.0)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "copies"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "copies").mkdir()
    with serve() as server:
        yield server
    assert not list((tmp_path / "copies").iterdir()), "copies are left"


def read_source(**settings: object) -> list[Document]:
    shards = list_shards({"web": Source(**settings)}, 1000)  # type: ignore[arg-type]
    return [document for shard in shards for document in read(shard)]


def copy(web: Web, name: str = "a.bin", storage: dict[str, object] | None = None) -> bytes:
    with remote.local_copy(web.url, name, storage or {}) as path:
        assert path.suffix == ".bin"
        return path.read_bytes()


def test_a_url_folder_gives_what_the_local_folder_gives(web: Web, tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "web" / name).write_bytes(data)
    web.files = {f"/data/{name}": data for name, data in FILES.items()} | {"/data/.git/x.html": b"", "/other.html": b""}
    local = {d.id: d for d in read_source(path=str(tmp_path / "web"))}
    for path in (f"{web.url}/data/", f"{web.url}/data"):
        found = {d.id: d for d in read_source(path=path)}
        assert found == local and "web/b/2.html" in found and len(found) == 9
    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        memory.pipe(f"/data/{name}", data)
    assert {d.id: d for d in read_source(path="memory://data")} == local


def test_one_request_a_file_and_none_that_compresses(web: Web) -> None:
    web.files = {"/a.bin": DATA}
    assert copy(web) == DATA
    assert web.requests == ["GET /a.bin"] and web.headers["Accept-Encoding"] == "identity"
    assert copy(web, storage={"headers": {"X-Mine": "1"}}) == DATA
    assert web.headers["Accept-Encoding"] == "identity" and web.headers["X-Mine"] == "1"


def test_it_goes_on_where_it_broke(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what was under way when it broke, which aiohttp throws away: some 200 kB as a rule."""
    monkeypatch.setattr(remote, "_PROGRESS", 100_000)
    web.files = {"/a.bin": DATA * 200}
    web.faults = {"/a.bin": [503, "drop", -900_000, 429, 500, -700_000, 503, 502]}  # 8 faults, but never 6 in a row
    assert copy(web) == DATA * 200
    starts = [int(request.split()[2].rstrip("-")) for request in web.requests if request.endswith("-")]
    assert len(starts) == 6 and 0 < starts[0] == starts[1] == starts[2] <= 900_000
    assert starts[0] < starts[3] == starts[4] == starts[5] <= starts[0] + 700_000


def test_servers_without_ranges_and_files_that_change(web: Web) -> None:
    web.files = {"/a.bin": DATA}
    web.faults = {"/a.bin": [-1000, "whole"]}
    assert copy(web) == DATA
    web.faults = {"/a.bin": [-1000]}
    with remote._http_stream(remote.file_system(web.url, {})[0], f"{web.url}/a.bin", 10, '"0"') as stream:
        assert (stream.start, stream.num_bytes) == (0, len(DATA))  # another tag: the whole


def test_never_less_than_the_whole(web: Web) -> None:
    web.files = {"/a.bin": DATA}
    web.always = {"/a.bin": "lie"}
    with pytest.raises(remote.Unreachable, match="cannot be reached after 6 tries"):
        copy(web)
    for status in (503, 202):
        web.always = {"/a.bin": status}
        with pytest.raises(remote.Unreachable, match=str(status)):
            copy(web, "a.bin?X-Amz-Signature=hush")
    web.always = {"/a.bin": -1000}  # 6 tries without what counts as progress
    with pytest.raises(remote.Unreachable, match="Not enough data"):
        copy(web)


@pytest.mark.parametrize(
    ("status", "reason", "num_requests"),
    [(404, "missing", 1), (410, "missing", 1), (403, "forbidden", 3), (401, "forbidden", 3), (400, "unreadable", 1)],
)
def test_what_will_stay_so_is_refused(web: Web, status: int, reason: str, num_requests: int) -> None:
    web.files = {"/a.bin": DATA}
    web.always = {"/a.bin": status}
    with pytest.raises(remote.Refused, match=str(status) if status != 404 else "FileNotFoundError") as caught:
        copy(web, "a.bin?token=hush&x")
    assert caught.value.reason == reason and len(web.requests) == num_requests
    assert "hush" not in str(caught.value) and caught.value.__suppress_context__


def test_nobody_there(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    url = web.url.rpartition(":")[0] + ":9"  # the port of discard, where nothing listens
    with pytest.raises(UserError, match=r"sources.web.path: http://127.0.0.1:9/x/: cannot be reached after 4 tries"):
        read_source(path=f"{url}/x/")
    with pytest.raises(UserError, match="check the address, the network and"):
        read_source(path=f"{url}/x.jsonl?token=hush")
    monkeypatch.setattr(retries, "TRIES_LISTING", 1)
    for path in (f"{web.url}/none/", f"{web.url}/none.jsonl"):
        with pytest.raises(UserError, match="/none") as caught:
            read_source(path=path)
        assert "hush" not in str(caught.value)


def test_a_broken_index_page_loses_no_folder_in_silence(web: Web) -> None:
    web.files = {"/data/a/1.txt": b"x", "/data/b/2.txt": b"y"}
    web.faults = {"/data/b/": [503, "drop"]}
    assert len(read_source(path=f"{web.url}/data/")) == 2
    web.always = {"/data/b/": 503}
    with pytest.raises(UserError, match="503"):
        read_source(path=f"{web.url}/data/")


def test_a_page_in_place_of_a_listing_is_said(web: Web) -> None:
    """As with an index.html: whatever lies in that folder would be lost."""
    web.files = {"/d/a.txt": b"x", "/d/site/news/1.html": HTML}
    web.pages["/d/site/"] = '<title>网站 Site</title><a href="/news/1.html">1</a>'
    with pytest.raises(UserError, match=r"/d/site/ shows a page that links to no file in this folder.*list"):
        list_shards({"web": Source(f"{web.url}/d/")}, 1)
    web.pages["/d/site/"] = '<html><title>Index of /d/site/</title><a href="../">up</a>'
    assert [d.id for d in read_source(path=f"{web.url}/d/")] == ["web/a.txt"]


def test_links_of_index_pages(web: Web) -> None:
    web.files = {"/d/a.txt": b"x", "/d/新.txt": b"y", "/d/s/b.txt": b"z", "/out.txt": b"", "/d/c.php": b"<p>"}
    links = ["a.txt", "./a.txt", "a.txt#top", "%E6%96%B0.txt", "?C=M", "../out.txt", "/out.txt", f"{web.url}/d/s/",
             "mailto:a@b.example", "//other.example/x.txt", "s/../../out.txt", "c.php?a=1&amp;b=2", "./", "s/",
             ".x/"]  # fmt: skip
    web.pages["/d/"] = "".join(f"<a href='{link}'>x</a>" for link in links)
    web.pages["/d/s/"] = '<a href="b.txt">b</a><a href="../">up</a>'
    root, found = remote.list_files(f"{web.url}/d/", {})
    assert (root, [e.name for e in found]) == (
        f"{web.url}/d",
        ["%E6%96%B0.txt", "a.txt", "c.php?a=1&b=2", "s/b.txt"],
    )
    web.pages["/d/s/"] = '<a href="s/">itself</a>'
    for depth in range(2, 100):
        web.pages["/d/" + "s/" * depth] = web.pages["/d/s/"]
    with pytest.raises(UserError, match="deeper than 64"):
        remote.list_files(f"{web.url}/d/", {})


def test_a_single_file_with_a_signed_query(web: Web) -> None:
    web.files = {"/d/a.jsonl": JSONL}
    path = f"{web.url}/d/a.jsonl?X-Amz-Credential=me&X-Amz-Signature=hush/hush"
    (shard,) = shards = list_shards({"web": Source(path)}, 1)
    assert [d.id for d in read(shard)] == [f"web/a.jsonl#{i}" for i in range(3)]
    described = describe_source(Source(path), shards)
    assert described["path"] == f"{web.url}/d/a.jsonl" and described["bytes"] == len(JSONL)
    assert "hush" not in str(described)
    web.etag = '"2"'
    assert describe_source(Source(path), list_shards({"web": Source(path)}, 1))["hash"] != described["hash"]


def test_a_file_that_goes_missing_is_one_broken_document(web: Web) -> None:
    web.files = {"/d/a.txt": b"x", "/d/b.txt": b"y"}
    web.always = {"/d/a.txt": 403}
    found = read_source(path=f"{web.url}/d/")
    assert [content(d) for d in found] == ["read:forbidden", "y"] and "403" in found[0].text
    web.always = {"/d/b.txt": 502}
    with pytest.raises(remote.Unreachable, match="502"):
        read_source(path=f"{web.url}/d/")


def test_too_large(web: Web) -> None:
    web.files = {"/a.bin": DATA}
    with pytest.raises(remote.Refused) as caught, remote.local_copy(web.url, "a.bin", {}, len(DATA) - 1):
        pass
    assert caught.value.reason == "too_large"


def test_the_text_of_a_damaged_copy_is_the_same_each_time(web: Web) -> None:
    web.files = {"/d/a.parquet": b"PAR1 no", "/d/b.jsonl.gz": gzip.compress(JSONL)[:-9]}
    first, second = (read_source(path=f"{web.url}/d/") for _ in range(2))
    assert first == second and [d.id for d in first if "broken" in d.meta] == ["web/a.parquet", "web/b.jsonl.gz"]
    assert not any(scratch._PREFIX in d.text for d in first)


def test_small_files_are_grouped_by_the_sizes_that_the_listing_gives() -> None:
    memory = fsspec.filesystem("memory")
    memory.rm("/", recursive=True) if memory.ls("/") else None
    for number in range(7):
        memory.pipe(f"/sized/{number}.html", b"x" * 10)
    sizes = [[len(s.files) for s in list_shards({"w": Source("memory://sized")}, n)] for n in (1, 25, 1000)]
    assert sizes == [[1] * 7, [3, 3, 1], [7]]
    (shard,) = list_shards({"w": Source("memory://sized", max_files=3)}, 1000)
    assert (shard.root, shard.files, shard.num_bytes) == ("memory://sized", ("0.html", "2.html", "4.html"), 30)
    assert isinstance(shard.listed[0], Entry) and "created=" in shard.listed[0].stamp


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://user:hush@a.example/x/", "secrets come from the environment"),
        ("https://hush@a.example/x/", "secrets come from the environment"),
        ("sftp://user:hush@a.example/x/", "secrets come from the environment"),
        ("file:///etc/passwd", "write a file of this machine as its path"),
        ("nowhere://a/b", "nowhere://a/b: cannot be set up .*check scheme"),
        ("http://[bad/x", "is no URL"),
    ],
)
def test_urls_that_are_refused(path: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        list_shards({"web": Source(path)}, 1)
    assert "hush" not in str(caught.value)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(scheme: str) -> None:
        raise ImportError(f"Install something to access {scheme}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(UserError, match=r"s3:// needs a package that is not there; install the extra s3: pip install"):
        list_shards({"web": Source("s3://bucket/x")}, 1)
    with pytest.raises(UserError, match="Install something to access oci"):
        list_shards({"web": Source("oci://bucket/x")}, 1)


def test_a_full_disk_fails_the_shard(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files = {"/d/a.txt": DATA}
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(remote.Unreachable, match="TMPDIR names another folder"):
        read_source(path=f"{web.url}/d/")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    pytest.importorskip("s3fs", reason="needs the extra: s3")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with serve_s3() as store:
        yield store


def test_s3(s3: Store) -> None:
    s3.objects = {f"pages/crawl/{name}": data for name, data in FILES.items()}
    s3.objects["pages/crawl/empty/"] = b""  # as consoles make folders
    source = Source("s3://pages/crawl", storage={"endpoint_url": s3.url})
    shards = list_shards({"web": source}, 1000)
    found = {d.id: content(d) for shard in shards for d in read(shard)}
    assert len(found) == 9 and found["web/b/2.html"] == HTML and found["web/c/d/k.parquet#0"] == "秋"
    assert describe_source(source, shards)["bytes"] == sum(map(len, FILES.values()))
    assert all("ETag" in entry.stamp for shard in shards for entry in shard.listed)
    del s3.objects["pages/crawl/b/2.html"]
    gone = [content(d) for shard in shards for d in read(shard) if d.id == "web/b/2.html"]
    assert gone == ["read:missing"]
    with pytest.raises(UserError, match="sources.web.path: s3://none/x"):
        list_shards({"web": Source("s3://none/x", storage=source.storage)}, 1000)


def test_s3_goes_on_after_faults(s3: Store) -> None:
    s3.objects = {"pages/a.txt": DATA}
    s3.faults = {"pages/a.txt": [503, "cut", 500, "cut"]}
    source = Source("s3://pages/a.txt", storage={"endpoint_url": s3.url})
    assert [d.meta["plain"] for shard in list_shards({"web": source}, 1000) for d in read(shard)] == [DATA]
    assert len(s3.reads) >= 3


def test_s3_keys_that_no_folder_shows(s3: Store) -> None:
    s3.objects = {"pages/x/a": "雨".encode(), "pages/x/a/b.txt": b"rain", "pages/x/c.txt": b"snow"}
    storage = {"endpoint_url": s3.url}
    found = list_shards({"web": Source("s3://pages/x", storage=storage)}, 1000)
    assert sorted(name for shard in found for name in shard.files) == ["a", "a/b.txt", "c.txt"]
    s3.objects = {"pages/x//a.txt": b"rain", "pages/x/c.txt": b"snow"}
    with pytest.raises(UserError, match="go on with another /.*name the files in a list"):
        list_shards({"web": Source("s3://pages/x", storage=storage)}, 1000)
