"""Phrase statistics per site: exact counts, the same bytes for any number of workers, resume, odd shards."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import sites
from data_pipeline.document import Document
from data_pipeline.parquet import SCHEMA, write_rows
from data_pipeline.phrases import find_phrases
from data_pipeline.sites import collect_phrases
from data_pipeline.workers import WorkersConfig

ONE, TWO = WorkersConfig(num_workers=1), WorkersConfig(num_workers=2)

LINES = [
    "关注公众号，每天一个词条。",
    "訂閱電子報，前三十天免費。",
    "Subscribe to our newsletter",
    "Page {n} of 9",
    "短",
    "正文第{n}段，各页不同{x}",
    "{x} is unique",
]


def shard(path: Path, documents: list[tuple[str, str]]) -> Path:
    with write_rows(path, SCHEMA) as rows:
        for number, (site, text) in enumerate(documents):
            rows.add_document(Document(text, f"{path.stem}/{number}", site=site))
    return path


def pages(folder: Path, num_shards: int = 3, num_pages: int = 7) -> list[Path]:
    made = []
    for s in range(num_shards):
        texts = []
        for n in range(num_pages):
            lines = [line.format(n=n, x=chr(0x4E00 + 100 * s + n) * 9) for line in LINES[: 7 - n % 3]]
            texts.append(
                ("b.example" if n % 2 else "a.example", "\n".join([*lines, lines[0], "", "  ", "\tcode();  # code"]))
            )
        made.append(shard(folder / f"web-{s:05d}.parquet", texts))
    return made


def counted(paths: list[Path]) -> dict[tuple[str, int], tuple[int, int]]:
    """The definition, in memory."""
    documents: Counter[str] = Counter()
    found: dict[tuple[str, int], int] = defaultdict(int)
    for path in paths:
        for row in pq.read_table(path).to_pylist():
            documents[row["site"]] += 1
            for key in set(find_phrases(row["text"]).keys.tolist()):
                found[row["site"], key] += 1
    return {key: (n, documents[key[0]]) for key, n in sorted(found.items()) if n >= 2}


def key_of(line: str) -> int:
    (key,) = set(find_phrases(line).keys.tolist())
    return int(key)


def rows(path: Path) -> dict[tuple[str, int], tuple[int, int]]:
    table = pq.read_table(path).to_pylist()
    return {(r["site"], r["phrase_key"]): (r["num_documents"], r["site_documents"]) for r in table}


def test_counts(tmp_path: Path) -> None:
    paths = pages(tmp_path)
    out = collect_phrases(paths, tmp_path / "out" / "sites.parquet", ONE)
    assert out == tmp_path / "out" / "sites.parquet"
    found = rows(out)
    assert found == counted(paths) and list(found) == sorted(found)
    assert pq.read_schema(out).equals(sites.SCHEMA)
    assert found["a.example", key_of(LINES[0])] == (12, 12)  # once a document, though it stands there twice
    assert found["b.example", key_of("Page 0 of 9")] == (9, 9)
    sentence = "Sign up for our newsletter and never miss a story."
    texts = [f"{sentence} Then the text of page {'abc'[n]}." for n in range(3)]
    found = rows(collect_phrases([shard(tmp_path / "s.parquet", [("s", t) for t in texts])], tmp_path / "s" / "o", ONE))
    assert found == {("s", key_of(sentence)): (3, 3)}


@pytest.mark.parametrize("size", [1, 7, 40])
def test_small_runs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A shard whose phrases do not fit into memory is counted in runs."""
    paths = pages(tmp_path)
    whole = collect_phrases(paths, tmp_path / "whole" / "sites.parquet", ONE).read_bytes()
    monkeypatch.setattr(sites, "MAX_BUFFERED", size)
    assert collect_phrases(paths, tmp_path / "runs" / "sites.parquet", ONE).read_bytes() == whole


def test_same_bytes_for_any_number_of_workers_and_nothing_left_behind(tmp_path: Path) -> None:
    paths = pages(tmp_path)
    one = collect_phrases(paths, tmp_path / "one" / "sites.parquet", ONE).read_bytes()
    two = collect_phrases(paths, tmp_path / "two" / "sites.parquet", TWO).read_bytes()
    assert one == two
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["sites.parquet"]


def test_an_existing_file_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "sites.parquet"
    out.write_bytes(b"kept")
    assert collect_phrases([tmp_path / "no such shard.parquet"], out, ONE).read_bytes() == b"kept"


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pages(tmp_path / "in")
    whole = collect_phrases(paths, tmp_path / "whole" / "sites.parquet", ONE).read_bytes()
    broken = tmp_path / "in" / "web-00002.parquet"
    data = broken.read_bytes()
    broken.write_bytes(b"not parquet")
    with pytest.raises(Exception, match="[Pp]arquet"):
        collect_phrases(paths, tmp_path / "out" / "sites.parquet", ONE)
    assert not (tmp_path / "out" / "sites.parquet").exists()
    broken.write_bytes(data)
    counted_again: list[Path] = []
    read = sites.read_documents

    def recording(path: Path, columns: tuple[str, ...]) -> Iterator[Document]:
        counted_again.append(path)
        return read(path, columns)

    monkeypatch.setattr(sites, "read_documents", recording)
    assert collect_phrases(paths, tmp_path / "out" / "sites.parquet", ONE).read_bytes() == whole
    assert counted_again == [broken]


def test_order_and_grouping_of_shards_do_not_matter(tmp_path: Path) -> None:
    paths = pages(tmp_path)
    first = collect_phrases(paths, tmp_path / "first" / "sites.parquet", ONE).read_bytes()
    turned = collect_phrases(paths[::-1], tmp_path / "turned" / "sites.parquet", ONE).read_bytes()
    assert first == turned


@pytest.mark.parametrize(
    "documents",
    [[], [("a", "")], [("a", "一行只有一次的文字")], [("", "同一行文字在两页上"), ("", "同一行文字在两页上")]],
)
def test_small_shards(tmp_path: Path, documents: list[tuple[str, str]]) -> None:
    paths = [shard(tmp_path / "web-00000.parquet", documents)]
    assert rows(collect_phrases(paths, tmp_path / "sites.parquet", ONE)) == counted(paths)


def test_no_shards(tmp_path: Path) -> None:
    assert rows(collect_phrases([], tmp_path / "sites.parquet", ONE)) == {}


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["a", "b", "站"]), st.text("ab1 中\n", max_size=40)), max_size=6), max_size=3
    )
)
def test_any_documents(tmp_path_factory: pytest.TempPathFactory, shards: list[list[tuple[str, str]]]) -> None:
    folder = tmp_path_factory.mktemp("sites")
    paths = [shard(folder / f"web-{n:05d}.parquet", documents) for n, documents in enumerate(shards)]
    assert rows(collect_phrases(paths, folder / "out" / "sites.parquet", ONE)) == counted(paths)
