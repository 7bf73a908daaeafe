"""data_pipeline.dedup on clean/ folders made by hand: what goes, what stays and why, killed anywhere."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from dedup_runs import (
    VOCABULARY,
    Shards,
    copies,
    dropped,
    edited,
    jaccard,
    kept,
    limit_renames,
    new_text,
    outputs,
    planted,
    small,
    write,
    write_clean,
)

import mindllm.stage
from data_pipeline import dedup as module
from data_pipeline.config import DedupConfig
from data_pipeline.dedup import dedup
from data_pipeline.duplicates import bands, clusters, decisions, minhash, sketches
from data_pipeline.parquet import read_documents
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError
from mindllm.stage import read_json


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small files are written here; waiting for the disk would take most of the time."""
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


def test_planted_copies_are_found_in_every_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = planted()
    config = write_clean(tmp_path, shards)
    assert dedup(config) == 0
    texts = dict(itertools.chain(*shards.values()))
    gone, why = dropped(config), copies(config)
    assert kept(config).keys() | gone.keys() == texts.keys() and not kept(config).keys() & gone.keys()
    for id in texts:
        original = "/".join(id.split("/")[:2])
        true = jaccard(texts[id], texts[original])
        if id == original or true < 0.5:
            assert id not in gone
        elif id.endswith("exact"):
            assert gone[id] == "dedup:exact" and why[id] == (original, 1.0, "exact")
        else:
            assert true > 0.85 and gone[id] == "dedup:near" and why[id][::2] == (original, "near")
            assert abs(why[id][1] - true) < 4.5 * (true * (1 - true) / 128) ** 0.5 + 1 / 128
    assert sum(reason == "dedup:near" for reason in gone.values()) == 3 * 12 * 2
    assert {d.lang for d in kept(config).values()} == set(VOCABULARY)
    printed = capsys.readouterr().out
    assert "180 documents in 3 shards; needs" in printed
    assert all(word in printed for word in ("  disk    ", "  memory  ", "  time    about "))


def test_every_document_is_accounted_for(tmp_path: Path) -> None:
    shards = planted()
    config = write_clean(tmp_path, shards)
    dedup(config)
    folder = config.folder("dedup")
    meta, stats = read_json(folder / "meta.json"), read_json(folder / "stats.json")
    assert meta["counts"]["in"] == 180 and meta["counts"]["out"] == len(kept(config)) == 180 - len(dropped(config))
    assert stats["en\texample.com\tdedup:exact"][0] == 12 and stats["zh-Hant\texample.com\t"][0] == 24
    assert meta["counts"]["bytes"] == sum(len(d.text.encode()) for d in kept(config).values())
    assert meta["config"]["signatures"]["signature_version"] == minhash.ALGORITHM_VERSION
    assert not (folder / "work").exists()
    before = {d.id: d for path in (tmp_path / "clean").glob("*.parquet") for d in read_documents(path)}
    for id, document in kept(config).items():
        assert document.meta.pop("cluster") and document == before[id]


def test_the_longest_copy_stays_then_the_first(tmp_path: Path) -> None:
    rng = random.Random(2)
    shards: dict[str, list[tuple[str, str]]] = {"a": [], "b": []}
    for lang in VOCABULARY:
        document = new_text(lang, 200, rng)
        longer = [*document, *new_text(lang, 5, rng)]
        shards["a"] += [(f"{lang}-short", write(document, lang)), (f"{lang}-first", write(longer, lang))]
        shards["b"] += [(f"{lang}-again", write(longer, lang, 2)), (f"{lang}-short-again", write(document, lang, 1))]
    config = write_clean(tmp_path, shards)
    dedup(config)
    assert set(kept(config)) == {f"{lang}-first" for lang in VOCABULARY}
    for lang in VOCABULARY:
        found = {i.removeprefix(f"{lang}-"): row for i, row in copies(config).items() if i.startswith(f"{lang}-")}
        assert {row[0] for row in found.values()} == {f"{lang}-first"}
        assert {i: row[2] for i, row in found.items()} == {"short": "near", "again": "exact", "short-again": "near"}
        assert found["short"] == found["short-again"]


@pytest.mark.parametrize("lang", VOCABULARY)
def test_chains_are_cut_and_stay_one_cluster(tmp_path: Path, lang: str) -> None:
    """A window that slides over a long text: neighbours are copies, both ends have nothing in common."""
    text = new_text(lang, 600, random.Random(3))
    texts = {f"w{i:02d}": write(text[12 * i : 12 * i + 300], lang) for i in range(25)}
    assert jaccard(texts["w00"], texts["w01"]) > 0.9 and jaccard(texts["w00"], texts["w24"]) < 0.1
    config = write_clean(tmp_path, {"web": list(texts.items())})
    dedup(config)
    why = copies(config)
    assert set(kept(config)) & {"w00"} and 4 <= len(kept(config)) <= 12
    for id, (kept_id, similarity, _) in why.items():
        assert kept_id in kept(config) and similarity >= 0.75 and jaccard(texts[id], texts[kept_id]) > 0.6
    assert {d.meta["cluster"] for d in kept(config).values()} == {"w00"}


def test_documents_alone_are_their_own_cluster(tmp_path: Path) -> None:
    texts = [("z", "今天天气很好"), ("t", "今天天氣很好"), ("e", "a fine day"), ("none", "……"), ("none too", " \n")]
    config = write_clean(tmp_path, {"web": texts})
    dedup(config)
    assert {id: d.meta["cluster"] for id, d in kept(config).items()} == {id: id for id, _ in texts}
    assert copies(config) == {} and dropped(config) == {}


def test_unlike_pages_of_one_template_do_not_hide_copies(tmp_path: Path) -> None:
    rng = random.Random(4)
    documents = []
    for lang in VOCABULARY:
        template = new_text(lang, 240, rng)
        for page in range(40):
            documents.append((f"{lang}-{page:02d}", template + new_text(lang, 60, rng)))
        documents.append((f"{lang}-copy", edited(documents[-1][1], 2, lang, rng)))
    texts = {id: write(document, id.rpartition("-")[0]) for id, document in documents}
    assert 0.55 < jaccard(texts["en-01"], texts["en-02"]) < 0.75
    config = write_clean(tmp_path, {"web": list(texts.items())})
    dedup(config)
    assert {f"{lang}-copy" for lang in VOCABULARY} <= set(dropped(config))
    for id, (kept_id, _, _) in copies(config).items():
        assert jaccard(texts[id], texts[kept_id]) > 0.55


@pytest.mark.parametrize(
    "shards", [{}, {"web": []}, {"a": [], "b": [("one", "只有一篇")], "c": []}, {"web": [("x", "")]}]
)
def test_few_or_no_documents(tmp_path: Path, shards: Shards) -> None:
    config = write_clean(tmp_path, shards)
    assert dedup(config) == 0
    ids = [id for documents in shards.values() for id, _ in documents]
    assert list(kept(config)) == ids and dropped(config) == {} and copies(config) == {}
    assert sorted(p.stem for p in config.folder("dedup").glob("*.parquet")) == sorted(shards)
    assert read_json(config.folder("dedup") / "meta.json")["counts"]["out"] == len(ids)


def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file appears by one rename; the n-th of them fails, and one soon after, and the stage is run again."""
    config = write_clean(tmp_path / "whole", small())
    config.dedup = DedupConfig(bands=2)
    left = limit_renames(monkeypatch)
    dedup(config)
    expected, total = outputs(config.folder("dedup")), 10**9 - left[0]
    assert total > 50 and len(copies(config)) == 6
    config = write_clean(tmp_path / "killed", small())
    config.dedup = DedupConfig(bands=2)
    for number in range(1, total - 1, 3):  # after so many renames it is killed, and after two more, and goes on
        shutil.rmtree(config.folder("dedup"), ignore_errors=True)
        for renames in (number, 2):
            left[0] = renames
            with pytest.raises(KeyboardInterrupt):
                dedup(config)
            assert not (config.folder("dedup") / "meta.json").exists()
        left[0] = 10**9
        dedup(config)
        assert outputs(config.folder("dedup")) == expected


def test_missing_files_are_made_again(tmp_path: Path) -> None:
    config = write_clean(tmp_path, planted())
    dedup(config)
    folder = config.folder("dedup")
    expected = outputs(folder)
    rng = random.Random(6)
    results = ["web-00000.parquet", "web-00001.parquet", "stats/web-00002.json", "clusters/web-00001.parquet"]
    for _ in range(4):
        for name in ["meta.json", *rng.sample(results, rng.randint(1, 3))]:
            (folder / name).unlink()
        dedup(config)
        assert outputs(folder) == expected


def test_any_part_of_the_work_may_be_there_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_clean(tmp_path, planted())
    folder = config.folder("dedup")

    def results() -> dict[str, bytes]:
        return {name: data for name, data in outputs(folder).items() if not name.startswith("work/")}

    monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)  # work/ stays
    dedup(config)
    expected = results()
    rng = random.Random(7)
    for _ in range(6):
        (folder / "meta.json").unlink()
        (folder / "web-00001.parquet").unlink()
        found = sorted(p for p in (folder / "work").rglob("*") if p.is_file())
        for path in rng.sample(found, len(found) // 2) + [folder / "clusters" / "web-00001.parquet"]:
            path.unlink()
        dedup(config)
        assert results() == expected


@pytest.mark.parametrize("rows_per_task", [13, 100])
def test_bytes_do_not_depend_on_the_cut_into_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_task: int
) -> None:
    one, two = write_clean(tmp_path / "one", planted()), write_clean(tmp_path / "two", planted())
    dedup(one)
    two.dedup = DedupConfig(rows_per_task=rows_per_task)
    for owner, name, value in (
        (sketches, "DOCUMENTS_PER_BATCH", 7),
        (sketches, "CHARACTERS_PER_BATCH", 1500),
        (sketches, "INDEX_BYTES", 3 * 8 * 60),
        (sketches, "ROWS_AT_ONCE", 11),
        (bands, "PAIRS_AT_ONCE", 5),
        (decisions, "PAIRS_AT_ONCE", 9),
        (decisions, "MEMBERS_PER_TASK", 1 + rows_per_task // 13),
        (clusters, "NODES_AT_ONCE", 10),
    ):
        monkeypatch.setattr(owner, name, value)
    dedup(two)
    assert outputs(one.folder("dedup")) == outputs(two.folder("dedup"))


def test_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    one, many = write_clean(tmp_path / "one", small()), write_clean(tmp_path / "many", small())
    dedup(one)
    many.workers = WorkersConfig(num_workers=2)
    dedup(many)
    assert outputs(one.folder("dedup")) == outputs(many.folder("dedup"))


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers_in_any_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LITTLE", 0)
    monkeypatch.setattr(decisions, "MEMBERS_PER_TASK", 30)
    expected = write_clean(tmp_path / "1", planted())
    dedup(expected)
    for num_workers in (2, 4):
        config = write_clean(tmp_path / str(num_workers), planted())
        config.workers = WorkersConfig(num_workers=num_workers)
        config.dedup = DedupConfig(rows_per_task=50)
        dedup(config)
        assert outputs(config.folder("dedup")) == outputs(expected.folder("dedup"))


def test_a_stage_begun_with_other_tasks_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rows_per_task may be lowered when memory has run out: it changes no output, so the plan does not hold it."""
    config, expected = write_clean(tmp_path / "a", planted()), write_clean(tmp_path / "b", planted())
    dedup(expected)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(decisions, "connect", interrupt)
        dedup(config)
    config.dedup = DedupConfig(rows_per_task=20)
    dedup(config)
    assert outputs(config.folder("dedup")) == outputs(expected.folder("dedup"))
    config.dedup = DedupConfig(rows_per_task=30)
    assert dedup(config) == 0  # done


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_it_asks_for_clean_and_refuses_another(tmp_path: Path) -> None:
    config = write_clean(tmp_path, small())
    (tmp_path / "clean" / "meta.json").rename(tmp_path / "aside")
    with pytest.raises(UserError, match="python -m data_pipeline clean CONFIG"):
        dedup(config)
    (tmp_path / "aside").rename(tmp_path / "clean" / "meta.json")
    dedup(config)
    config.dedup = DedupConfig(threshold=0.9)
    with pytest.raises(UserError, match="threshold: 0.75 -> 0.9"):
        dedup(config)
    config.force = True
    assert dedup(config) == 0


def test_settings_change_what_is_found(tmp_path: Path) -> None:
    """A threshold of 1 keeps near copies; single rows find the pairs that the bands of eight miss."""
    rng = random.Random(8)
    text = new_text("zh-Hant", 300, rng)
    shards = {"web": [("one", write(text, "zh-Hant")), ("two", write(edited(text, 8, "zh-Hant", rng), "zh-Hant"))]}
    for number, (settings, expected) in enumerate(
        [(DedupConfig(threshold=1.0), 2), (DedupConfig(threshold=0.6, bands=128, rows=1), 1), (DedupConfig(bands=1), 2)]
    ):
        config = write_clean(tmp_path / str(number), shards)
        config.dedup = settings
        dedup(config)
        assert len(kept(config)) == expected


@pytest.mark.skipif("MINDLLM_DATA" not in os.environ, reason="MINDLLM_DATA: folder with dedup/mccormick-minhash")
@pytest.mark.parametrize("name", ["articles_100.train", "articles_1000.train.gz"])
def test_public_articles_with_known_copies(tmp_path: Path, name: str) -> None:
    """All true pairs and no others: github.com/chrisjmccormick/MinHash."""
    folder = Path(os.environ["MINDLLM_DATA"]) / "dedup" / "mccormick-minhash"
    data = (folder / name).read_bytes()
    lines = (gzip.decompress(data) if name.endswith(".gz") else data).decode().splitlines()
    documents = [tuple(line.split(" ", 1)) for line in lines if line]
    truth = (folder / f"{name.partition('.')[0]}.truth").read_text().splitlines()
    half = len(documents) // 2
    config = write_clean(tmp_path, {"a": documents[:half], "b": documents[half:]})  # type: ignore[dict-item]
    dedup(config)
    assert {frozenset((id, row[0])) for id, row in copies(config).items()} == {frozenset(t.split()) for t in truth if t}
    assert np.isclose(min(row[1] for row in copies(config).values()), 0.96, atol=0.04)
