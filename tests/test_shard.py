"""The shard verb: every document once, in its source and split, in an order that neither workers nor kills change."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_export

from data_pipeline import shard as module
from data_pipeline.config import DataConfig, ShardConfig, Source
from data_pipeline.document import Document
from data_pipeline.parquet import SCHEMA, write_rows
from data_pipeline.shard import shard
from data_pipeline.tokens import gather, runs
from data_pipeline.tokens.encode import cluster_hash
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


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


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
        shards.verify(tokenizer)
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


@pytest.mark.parametrize("small", [False, True])
def test_a_small_source_gives_its_lowest_cluster_wherever_that_is(
    config: DataConfig, tmp_path: Path, tokenizer: Tokenizer, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train and valid never share a cluster, across sources; a source of one cluster is held out only with others."""
    clusters = {"web": "山山水山风水", "书": "水水火山", "词": "山山", "诗": "火"}
    some = []
    for source, names in clusters.items():
        for number, cluster in enumerate(names):
            text, meta = f"{source} {number} {cluster}", {"cluster": cluster}
            some.append(Document(text, f"{source}/{number}", lang="zh-Hans", source=source, meta=meta))
    refined(tmp_path / "few", {"a": some[::2], "b": some[1::2]})
    settings = replace(config.shard, by_language=False, valid_fraction=1e-12)
    if small:
        small_pieces(monkeypatch)
    assert shard(replace(config, run=str(tmp_path / "few"), shard=settings)) == 0
    lowest = {min(names, key=lambda c: cluster_hash(c, 1)) for names in clusters.values() if len(set(names)) > 1}
    expected: dict[str, set[str]] = {}
    for d in some:
        split = "valid" if d.meta["cluster"] in lowest else "train"
        expected.setdefault(f"{d.source}/{split}", set()).add(d.text)
    found = texts(tmp_path / "few" / "shards", tokenizer)
    assert {k: set(v) for k, v in found.items()} == expected and sum(map(len, found.values())) == len(some)
    shutil.rmtree(tmp_path / "few" / "shards")
    shard(replace(config, run=str(tmp_path / "few"), shard=replace(settings, valid_fraction=0.0)))
    assert not list((tmp_path / "few" / "shards").glob("*/valid"))


def test_languages_are_counted(config: DataConfig, tokenizer: Tokenizer) -> None:
    shard(config)
    found = texts(config.folder("shards"), tokenizer)
    langs = {d.text: d.lang for d in documents()}
    for name, some in found.items():
        expected: dict[str, dict[str, int]] = {}
        for text in sorted(some, key=lambda t: langs[t]):
            row = expected.setdefault(langs[text], {"documents": 0, "tokens": 0, "bytes": 0})
            row["documents"] += 1
            row["tokens"] += len(tokenizer.encode_batch([text])[0]) + 1
            row["bytes"] += len(text.encode())
        assert Shards(config.folder("shards") / name).meta["languages"] == expected


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many runs a shard, and many pieces a file, of a few documents each."""
    monkeypatch.setattr(runs, "RUN_TOKENS", 100)
    monkeypatch.setattr(runs, "BLOCK_TOKENS", 40)
    monkeypatch.setattr("data_pipeline.tokens.encode.BATCH", 3)
    monkeypatch.setattr(gather, "TASK_TOKENS", 60)
    monkeypatch.setattr(gather, "TASK_ROWS", 4)


def test_any_number_of_workers_runs_and_pieces_writes_the_same_bytes(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, shard=replace(config.shard, max_tokens_per_file=120))
    shard(config)
    expected = contents(config.folder("shards"))
    assert len([name for name in expected if name.startswith("web-zh/train/") and name.endswith(".bin")]) > 1
    for name, where in {"one": ONE, "two": WorkersConfig(num_workers=2)}.items():
        shutil.copytree(config.folder("refine"), tmp_path / name / "refine")
        with monkeypatch.context() as patch:
            if name == "two":
                patch.setattr(module, "LITTLE", 0)  # gathered by spawned workers, too
            else:
                small_pieces(patch)
            shard(replace(config, run=str(tmp_path / name), workers=where))
        assert contents(tmp_path / name / "shards") == expected


def test_how_documents_are_sharded_changes_no_byte(config: DataConfig, tmp_path: Path) -> None:
    """The order is one of ids: other refined shards, with the documents in another order, give the same files."""
    shard(config)
    some = list(documents())[::-1]
    refined(tmp_path / "other", {f"web-{i:05d}": some[i::7] for i in range(7)})
    shard(replace(config, run=str(tmp_path / "other")))
    expected, found = contents(config.folder("shards")), contents(tmp_path / "other" / "shards")
    assert expected.pop("plan.json") != found.pop("plan.json") and found == expected


def test_more_runs_than_files_may_be_open(tmp_path: Path, config: DataConfig) -> None:
    refined(tmp_path / "many", {f"web-{i:05d}": [d] for i, d in enumerate(documents())})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 50
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, hard))
    try:
        shard(replace(config, run=str(tmp_path / "many")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    shutil.copytree(tmp_path / "many" / "refine", tmp_path / "free" / "refine")
    shard(replace(config, run=str(tmp_path / "free")))
    expected = contents(tmp_path / "free" / "shards")
    assert len(expected) > 12 and contents(tmp_path / "many" / "shards") == expected


class Killed(KeyboardInterrupt):
    """What no stage catches."""


def test_killed_anywhere_it_goes_on_to_the_same_bytes(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at its first rename, then at the second of what is left, then the third ..., going on every time."""
    shard(config)
    expected = contents(config.folder("shards"))
    shutil.copytree(config.folder("refine"), tmp_path / "killed" / "refine")
    killed, rename = replace(config, run=str(tmp_path / "killed")), os.replace
    for number in itertools.count():
        left = [number]  # renames that are still done in this start

        def stop(source: Path, target: Path, left: list[int] = left) -> None:
            if not left[0]:
                (Path(target).parent / f".{Path(target).name}.tmp").write_bytes(b"half")  # as a real kill leaves it
                raise Killed
            left[0] -= 1
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("os.replace", stop)
            try:
                shard(killed)
                break
            except Killed:
                assert not (killed.folder("shards") / "meta.json").exists()
    assert number > 8 and contents(killed.folder("shards")) == expected


def test_what_a_kill_has_left_of_the_output_does_not_matter(config: DataConfig) -> None:
    """The work folder is gone, meta.json is not there yet; of the sources, this or that has gone with it."""
    shard(config)
    folder = config.folder("shards")
    expected = contents(folder)
    for number, kept in enumerate(itertools.product([True, False], repeat=3)):
        for path, stays in zip(sorted(p for p in folder.glob("*/*") if p.is_dir()), itertools.cycle(kept)):
            if not stays:
                (path / "meta.json").unlink() if number % 2 else shutil.rmtree(path)
        (folder / "meta.json").unlink()
        half = folder / module.WORK / "runs" / "web-00000"
        half.mkdir(parents=True)
        (half / "00000.tokens").write_bytes(b"half a file")
        assert shard(config) == 0 and contents(folder) == expected, kept
        assert not (folder / module.WORK).exists()


def test_a_file_that_has_gone_is_written_again(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_complete", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        shard(config)
    monkeypatch.undo()
    next(config.folder("shards").glob("*/train/00000.ends")).unlink()
    assert shard(config) == 0
    for path in config.folder("shards").glob("*/*/meta.json"):
        Shards(path.parent).verify()


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
    sizes = [f["documents"] for f in read_json(tmp_path / "odd" / "shards" / "work" / "train" / "meta.json")["files"]]
    assert sum(sizes) == 3 and min(sizes) > 0  # no file without a document


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
