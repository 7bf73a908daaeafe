"""The shipped configs of known corpora on small files in their layouts: counts, texts, sources, settings by source."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpus_layouts import PILE_SETS, WUDAO_TYPES, Put, cbooks, crawl, open_bilingual, pile, wudao

from data_pipeline.clean import clean, refine, stage_shards
from data_pipeline.config import DataConfig
from data_pipeline.dedup import dedup
from data_pipeline.document import Document
from data_pipeline.parquet import read_documents
from mindllm.config import load

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "data"


def start(name: str, tmp_path: Path, *overrides: str) -> DataConfig:
    """The shipped config `name` after its clean stage, in this process."""
    here = (f"run={tmp_path}/run", "workers.num_workers=1", "document_seconds=0")
    config = load(DataConfig, CONFIGS / f"{name}.yaml", [*here, *overrides])
    assert clean(config) == 0
    return config


def kept(config: DataConfig, stage: str) -> list[Document]:
    return [d for shard in stage_shards(config.folder(stage)) for d in read_documents(shard.path)]


def dropped(config: DataConfig, stage: str) -> list[dict[str, str]]:
    paths = sorted((config.folder(stage) / "dropped").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def place(id: str) -> str:
    """An id without the source that was read: the place in it."""
    return id.partition("/")[2]


def check_clean(config: DataConfig, puts: dict[str, Put], by_url: bool = False) -> None:
    """Every document is kept with its text and its source, or dropped for its reason, and there are no others."""
    found = {d.url if by_url else place(d.id): d for d in kept(config, "clean")}
    gone = {row["url"] if by_url else place(row["id"]): row["reason"] for row in dropped(config, "clean")}
    assert set(found) == {name for name, put in puts.items() if not put.reason}
    assert set(gone) == {name for name, put in puts.items() if put.reason}
    for name, document in found.items():
        assert (document.text.strip(), document.source) == (puts[name].text, puts[name].source), name
    for name, reason in gone.items():
        assert reason.startswith(puts[name].reason), (name, reason)


def finish(config: DataConfig) -> list[Document]:
    """The documents after dedup, which finds no copies, and refine, which drops none."""
    assert dedup(config) == 0 and refine(config) == 0
    documents = kept(config, "refine")
    assert len(documents) == len(kept(config, "clean")), [*dropped(config, "dedup"), *dropped(config, "refine")]
    return documents


def test_subsets_are_those_that_there_are() -> None:
    """A subset that is misspelt would be cleaned like all others, in silence."""
    for name, known in (("pile", PILE_SETS), ("wudao", WUDAO_TYPES)):
        subsets = load(DataConfig, CONFIGS / f"{name}.yaml").sources[name].subsets
        assert subsets and set(subsets) <= set(known)


def test_pile(tmp_path: Path) -> None:
    puts = pile(tmp_path / "pile")
    config = start("pile", tmp_path, f"sources.pile.path={tmp_path}/pile/train")
    check_clean(config, puts)  # code and exercises stay in their subsets, and go where they are called Pile-CC
    documents = {place(d.id): d for d in finish(config)}
    changed = {d.source for name, d in documents.items() if d.text != puts[name].text}
    assert changed == {"pile-pile-cc", "pile-enron-emails"}
    by_source = {d.source: d.text for d in documents.values() if "friend" in d.text or "Anna" in d.text}
    assert by_source["pile-opensubtitles"].count("my friend?") == 5
    assert by_source["pile-pile-cc"].count("my friend?") == 1
    assert "<|phone|>" in by_source["pile-enron-emails"] and "<|email|>" in by_source["pile-enron-emails"]
    assert "415 555 0132" in by_source["pile-uspto-backgrounds"]


def test_wudao(tmp_path: Path) -> None:
    puts = wudao(tmp_path / "wudao")
    config = start("wudao", tmp_path, f"sources.wudao.path={tmp_path}/wudao")
    check_clean(config, puts)
    documents = finish(config)
    assert {d.lang for d in documents} == {"zh-Hans", "zh-Hant", "en"}
    counts = {d.source: d.text.count("等着我回来") for d in documents if "等着我回来" in d.text}
    assert counts == {"wudao-豆瓣话题": 5, "wudao-博客": 1}


def test_cbooks(tmp_path: Path) -> None:
    puts = cbooks(tmp_path / "chinese_book")
    config = start("cbooks", tmp_path, f"sources.cbooks.path={tmp_path}/chinese_book")
    check_clean(config, puts)
    documents = finish(config)
    assert {place(d.id): d.text for d in documents} == {n: put.text for n, put in puts.items() if not put.reason}
    assert {d.lang for d in documents} == {"zh-Hans", "zh-Hant", "en"}  # what all books of a folder share stays


@pytest.mark.parametrize("max_files", [0, 2])
def test_commoncrawl(tmp_path: Path, max_files: int) -> None:
    puts = crawl(tmp_path / "cc")
    paths = (f"sources.crawl.paths={tmp_path}/cc/warc.paths.gz", f"sources.crawl.base={tmp_path}/cc/")
    config = start("commoncrawl", tmp_path, *paths, f"sources.crawl.max_files={max_files}")
    read = {d.site for d in kept(config, "clean")}
    assert len(read) == (max_files or 3)
    check_clean(config, {url: put for url, put in puts.items() if url.split("/")[2] in read}, by_url=True)
    assert {d.lang for d in finish(config)} == {"zh-Hans", "zh-Hant", "en"}


def test_open_bilingual(tmp_path: Path) -> None:
    puts = open_bilingual(tmp_path)
    names = {put.source for put in puts.values()}
    config = start("open-bilingual", tmp_path, *(f"sources.{name}.dataset={tmp_path}/{name}" for name in sorted(names)))
    check_clean(config, puts, by_url=True)
    assert {d.source for d in kept(config, "clean")} == names == set(config.sources)
    documents = finish(config)
    changed = sorted(d.url for d in documents if d.text.strip() != puts[d.url].text)
    assert changed == [f"https://web-zh.example/{n}" for n in range(3, 7)]  # pages of a site; wiki-zh has the same line
    assert next(d for d in documents if d.source == "math").meta["date"].startswith("2023-03-21")
