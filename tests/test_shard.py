"""The shard verb: every document once, in its source and split, in an order that neither workers nor kills change."""

from __future__ import annotations

import itertools
import json
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_export

from data_pipeline import shard as module
from data_pipeline.config import DataConfig, ShardConfig, Source
from data_pipeline.document import Document
from data_pipeline.parquet import SCHEMA, write_rows
from data_pipeline.shard import cluster_hash, held_out, shard, source_name
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError, load
from mindllm.shards import Shards
from mindllm.stage import Stage, read_json
from mindllm.tokenizer import Tokenizer

ONE = WorkersConfig(num_workers=1)

LANGUAGES = {"zh-Hans": "zh", "zh-Hant": "zh", "en": "en", "other": "other"}
TEXTS = {
    "zh-Hans": "春天来了，河边的柳树发芽了。",
    "zh-Hant": "秋天的風很涼。",
    "en": "The river runs past.",
    "other": "Où ?",
}


def documents() -> Iterator[Document]:
    """Sixty texts; every fourth shares its cluster with the one before."""
    for number, lang in enumerate(itertools.islice(itertools.cycle(LANGUAGES), 60)):
        meta = {"cluster": f"web/{number - number % 2}"} if number % 4 == 1 else {}
        yield Document(
            f"{number} {TEXTS[lang]}", f"web/{number}", lang=lang, source="web" if number % 3 else "书", meta=meta
        )


def refined(run: Path, shards: dict[str, list[Document]]) -> None:
    """A complete refine stage."""
    stage = Stage(run / "refine", "refine", {}, {"made of": [[d.id for d in some] for some in shards.values()]})
    stage.start()
    for name, some in shards.items():
        with write_rows(run / "refine" / f"{name}.parquet", SCHEMA) as rows:
            for document in some:
                rows.add_document(document)
    stage.finish()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tiny_export.write_tokenizer(tmp_path_factory.mktemp("run") / "tokenizer")


@pytest.fixture
def config(tmp_path: Path, tokenizer: Tokenizer) -> DataConfig:
    """A run folder with three refined shards, the last one empty."""
    some = list(documents())
    refined(tmp_path / "run", {"web-00000": some[:25], "web-00001": some[25:], "web-00002": []})
    settings = ShardConfig(tokenizer=str(tokenizer.folder), valid_fraction=0.3)
    return DataConfig({"web": Source("x")}, {}, {}, run=str(tmp_path / "run"), shard=settings, workers=ONE)


def texts(folder: Path, tokenizer: Tokenizer) -> dict[str, list[str]]:
    """{"source/split": texts in order}; every hash and count is checked on the way."""
    found = {}
    for path in sorted(folder.glob("*/*/meta.json")):
        shards = Shards(path.parent)
        shards.verify()
        ids = [d.tolist() for d in shards.documents()]
        assert all(d[-1] == tokenizer.eos_id and tokenizer.eos_id not in d[:-1] for d in ids)
        name = path.parent.relative_to(folder).as_posix()
        found[name] = [tokenizer.decode(d[:-1]) for d in ids]
        assert shards.meta["bytes"] == sum(len(t.encode()) for t in found[name])
    return found


def contents(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    assert found.pop("meta.json")
    return found


def test_every_document_once_in_its_source_and_split(config: DataConfig, tokenizer: Tokenizer) -> None:
    assert shard(config) == 0
    folder = config.folder("shards")
    found = texts(folder, tokenizer)
    expected: dict[str, set[str]] = {}
    for d in documents():
        place = cluster_hash(d.meta.get("cluster", d.id), config.shard.seed)
        split = "valid" if place < config.shard.valid_fraction * 2.0**64 else "train"
        expected.setdefault(f"{d.source}-{LANGUAGES[d.lang]}/{split}", set()).add(d.text)
    assert {k: set(v) for k, v in found.items()} == expected and sum(map(len, found.values())) == 60
    meta = read_json(folder / "meta.json")
    sizes = {k: v["documents"] for k, v in meta["counts"]["sources"].items()}
    assert sizes == {k: len(v) for k, v in found.items()} and not (folder / module.WORK).exists()
    assert meta["counts"]["in"] == sum(len(d.text.encode()) for d in documents())
    order = [int(t.split()[0]) for t in found["web-zh/train"]]
    assert order != sorted(order)  # one site does not follow the other
    shard(replace(config, shard=replace(config.shard, seed=2), run=config.run, force=True))
    assert [int(t.split()[0]) for t in texts(folder, tokenizer)["web-zh/train"]] != order


def test_held_out_is_a_share_that_the_seed_chooses() -> None:
    settings = ShardConfig(valid_fraction=0.25)
    tables = clusters({"web-zh": [f"网/{i}" for i in range(4000)]})
    share = len(held_out(tables, ["web-zh"], settings)) / 4000
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5  # four standard deviations of a binomial
    assert not len(held_out(tables, ["web-zh"], ShardConfig(valid_fraction=0)))
    assert [cluster_hash(str(i), 1) for i in range(9)] != [cluster_hash(str(i), 2) for i in range(9)]


def test_a_small_source_gives_one_cluster_and_a_single_document_none() -> None:
    tables = clusters({"web-zh": ["山", "山", "水"], "web-en": ["only"], "notes-zh": ["水"]})
    settings = ShardConfig(valid_fraction=1e-12)
    lowest = min(cluster_hash(name, 1) for name in "山水")
    assert held_out(tables, ["notes-zh", "web-en", "web-zh"], settings).tolist() == [lowest]
    assert not len(held_out(tables, ["web-en", "web-zh"], ShardConfig(valid_fraction=0)))


def clusters(sources: dict[str, list[str]]) -> list[dict[str, np.ndarray]]:
    """What encode_shard notes about documents of these sources and clusters, in two tables."""
    rows = [(source, cluster_hash(name, 1)) for source, names in sources.items() for name in names]
    parts = (rows[::2], rows[1::2])
    return [{"sources": np.array([s for s, _ in p]), "clusters": np.array([c for _, c in p], np.uint64)} for p in parts]


def test_source_names() -> None:
    assert [source_name("web", lang, True) for lang in LANGUAGES] == ["web-zh", "web-zh", "web-en", "web-other"]
    assert {source_name("网", lang, False) for lang in LANGUAGES} == {"网"}


def test_any_number_of_workers_and_open_files_writes_the_same_bytes(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(config)
    expected = contents(config.folder("shards"))
    shutil.copytree(config.folder("refine"), tmp_path / "two" / "refine")
    shard(replace(config, run=str(tmp_path / "two"), workers=WorkersConfig(num_workers=2)))
    monkeypatch.setattr(module, "OPEN_SHARDS", 1)
    shutil.copytree(config.folder("refine"), tmp_path / "one" / "refine")
    shard(replace(config, run=str(tmp_path / "one")))
    assert contents(tmp_path / "two" / "shards") == contents(tmp_path / "one" / "shards") == expected


def test_more_shards_than_files_may_be_open(
    tmp_path: Path, config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    refined(tmp_path / "many", {f"web-{i:05d}": [d] for i, d in enumerate(documents())})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 50
    monkeypatch.setattr(module, "OPEN_SHARDS", 10)
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 40, hard))
    try:
        shard(replace(config, run=str(tmp_path / "many")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_resume_after_a_kill(config: DataConfig) -> None:
    """Killed after some shards were encoded, or after some sources were gathered: the end is the same."""
    shard(config)
    folder = config.folder("shards")
    expected = contents(folder)
    for number, kept in enumerate(itertools.product([True, False], repeat=3)):
        for path, stays in zip(sorted(p for p in folder.glob("*/*") if p.is_dir()), itertools.cycle(kept)):
            if not stays:
                (path / "meta.json").unlink() if number % 2 else shutil.rmtree(path)
        (folder / "meta.json").unlink()
        half = folder / module.WORK / "web-00000"
        half.mkdir(parents=True)
        (half / "00000.bin").write_bytes(b"half a file")
        assert shard(config) == 0 and contents(folder) == expected, kept


def test_another_plan_is_refused(config: DataConfig, tmp_path: Path) -> None:
    shard(config)
    with pytest.raises(UserError, match="config.valid_fraction: 0.3 -> 0.1"):
        shard(replace(config, shard=replace(config.shard, valid_fraction=0.1)))
    other = tiny_export.write_tokenizer(tmp_path / "moved")  # the same one at another place
    assert shard(replace(config, shard=replace(config.shard, tokenizer=str(other.folder)))) == 0
    (tmp_path / "run" / "refine" / "meta.json").write_text(json.dumps({"hash": "another"}))
    with pytest.raises(UserError, match="inputs.refine"):
        shard(config)


def test_odd_names_and_texts(config: DataConfig, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A source named like a folder of ours, an empty text, special tokens in a text, one large document a file."""
    some = [
        Document(text, str(i), lang="en", source="work") for i, text in enumerate(["", "<|endoftext|> 终", "x" * 50])
    ]
    refined(tmp_path / "odd", {"work-00000": some})
    settings = replace(config.shard, by_language=False, valid_fraction=0.0, max_tokens_per_file=10)
    assert shard(replace(config, run=str(tmp_path / "odd"), shard=settings)) == 0
    assert {k: sorted(v) for k, v in texts(tmp_path / "odd" / "shards", tokenizer).items()} == {
        "work/train": sorted(d.text for d in some)
    }
    assert len(read_json(tmp_path / "odd" / "shards" / "work" / "train" / "meta.json")["files"]) == 3


def test_nothing_to_work_on(config: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refine does not exist"):
        shard(replace(config, run=str(tmp_path / "empty")))
    with pytest.raises(UserError, match="no tokenizer here"):
        shard(replace(config, shard=replace(config.shard, tokenizer=str(tmp_path))))
    refined(tmp_path / "none", {"web-00000": []})
    with pytest.raises(UserError, match="no document is left"):
        shard(replace(config, run=str(tmp_path / "none")))
    loaded = load(DataConfig, None, ["sources.a.path=x", "clean={}", "refine={}", "run=runs/山"])
    assert loaded.shard.tokenizer == "runs/山/tokenizer"  # a default that holds {run}
