"""Deduplication against earlier runs: their documents stay, copies of them go, clusters keep their names."""

from __future__ import annotations

import itertools
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
    new_text,
    planted,
    small,
    write,
    write_clean,
)

import mindllm.stage
from data_pipeline.config import DataConfig, DedupConfig
from data_pipeline.dedup import dedup
from data_pipeline.duplicates import minhash
from data_pipeline.duplicates.earlier import SETTINGS
from data_pipeline.duplicates.sketches import Part, Store
from data_pipeline.parquet import read_documents
from mindllm.config import UserError
from mindllm.stage import read_json


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


def run(folder: Path, shards: Shards, *against: Path, rows_per_task: int = 1000) -> DataConfig:
    config = write_clean(folder, shards)
    config.dedup = DedupConfig(against=[str(path) for path in against], rows_per_task=rows_per_task)
    dedup(config)
    return config


def only(shards: Shards, *names: str) -> Shards:
    return {name: documents for name, documents in shards.items() if name in names}


@pytest.mark.parametrize("rows_per_task", [1000, 17])
def test_against_an_earlier_run_is_as_both_together(tmp_path: Path, rows_per_task: int) -> None:
    """Copies have the units of the originals, which stand in the first shard: the rule prefers these both ways."""
    shards = planted()
    together = run(tmp_path / "together", shards)
    one = run(tmp_path / "one", only(shards, "web-00000"))
    two = run(tmp_path / "two", only(shards, "web-00001", "web-00002"), tmp_path / "one", rows_per_task=rows_per_task)
    assert kept(one).keys() | kept(two).keys() == kept(together).keys() and not kept(one).keys() & kept(two).keys()
    assert copies(two) == copies(together) and dropped(two) == dropped(together)
    clusters = {id: d.meta["cluster"] for part in (one, two) for id, d in kept(part).items()}
    assert clusters == {id: d.meta["cluster"] for id, d in kept(together).items()}


def test_runs_in_a_row_with_the_same_names_of_shards(tmp_path: Path) -> None:
    shards = planted()
    together = run(tmp_path / "together", shards)
    folders = [tmp_path / str(number) for number in range(3)]
    parts = [run(folders[i], {"web": documents}, *folders[:i]) for i, documents in enumerate(shards.values())]
    assert set(itertools.chain(*(kept(part) for part in parts))) == kept(together).keys()
    why = {id: row for part in parts for id, row in copies(part).items()}
    assert why == copies(together)
    again = run(tmp_path / "again", {"web": shards["web-00000"]}, *folders)
    assert not kept(again) and {row[1:] for row in copies(again).values()} == {(1.0, "exact")}


@pytest.mark.parametrize("lang", VOCABULARY)
def test_what_was_kept_stays_even_when_shorter(tmp_path: Path, lang: str) -> None:
    rng = random.Random(1)
    document = new_text(lang, 200, rng)
    longer = document + new_text(lang, 8, rng)
    run(tmp_path / "old", {"a": [("old", write(document, lang))]})
    new = [("longer", write(longer, lang)), ("same", write(document, lang, 1)), ("other", write(longer[::-1], lang))]
    config = run(tmp_path / "new", {"a": new}, tmp_path / "old")
    assert set(kept(config)) == {"other"} and dropped(config) == {"longer": "dedup:near", "same": "dedup:exact"}
    assert {id: row[0] for id, row in copies(config).items()} == {"longer": "old", "same": "old"}
    assert set(kept(run(tmp_path / "alone", {"a": new}))) == {"longer", "other"}


@pytest.mark.parametrize("lang", VOCABULARY)
def test_what_hangs_together_with_an_old_cluster_has_its_name(tmp_path: Path, lang: str) -> None:
    """Windows that slide over a text: what stays of the new ones is no copy of an old one, but connected with one."""
    text = new_text(lang, 600, random.Random(2))
    texts = {f"w{i:02d}": write(text[12 * i : 12 * i + 300], lang) for i in range(25)}
    windows = list(texts.items())

    def after(*parts: DataConfig) -> int:
        """The window behind the last one that was kept: of dropped ones no signature is left."""
        return 1 + list(texts).index(max(id for part in parts for id in kept(part)))

    one = run(tmp_path / "one", {"a": windows[:13]})
    two = run(tmp_path / "two", {"a": windows[after(one) : 19]}, tmp_path / "one")
    three = run(tmp_path / "three", {"a": windows[after(one, two) :]}, tmp_path / "one", tmp_path / "two")
    assert len(kept(one)) > 1 and kept(two) and kept(three)
    assert {d.meta["cluster"] for part in (one, two, three) for d in kept(part).values()} == {"w00"}
    stays = kept(one) | kept(two) | kept(three)
    for id, (kept_id, similarity, _) in (copies(two) | copies(three)).items():
        assert kept_id in stays and similarity >= 0.75 and jaccard(texts[id], texts[kept_id]) > 0.6


def test_signatures_of_kept_documents_are_kept(tmp_path: Path) -> None:
    config = run(tmp_path, planted())
    folder = config.folder("dedup") / "signatures"
    assert read_json(folder / SETTINGS) == {
        "num_hashes": 128,
        "shingle_units": 5,
        "seed": 1,
        "signature_version": minhash.ALGORITHM_VERSION,
        "units_version": minhash.UNITS_VERSION,
    }
    first = 0
    for shard in ("web-00000", "web-00001", "web-00002"):
        heads = np.load(folder / shard / "heads.npy")
        store = Store([Part(shard, "", str(folder / shard), "", 0, len(heads))])
        everything = np.arange(len(heads))
        documents = list(read_documents(config.folder("dedup") / f"{shard}.parquet"))
        assert store.names(everything, "id") == [d.id for d in documents]
        assert store.names(everything, "cluster") == [d.meta["cluster"] for d in documents]
        found = minhash.sketch([d.text for d in documents], 128, 5, 1)
        assert np.array_equal(np.load(folder / shard / "signatures.npy"), found.signatures)
        assert np.array_equal(heads["exact"], found.exact) and np.array_equal(heads["num_units"], found.num_units)
        first += len(heads)
    assert first == len(kept(config))


def test_bands_and_threshold_may_differ(tmp_path: Path) -> None:
    run(tmp_path / "old", planted())
    config = write_clean(tmp_path / "new", planted())
    config.dedup = DedupConfig(against=[str(tmp_path / "old")], threshold=0.5, bands=30, rows=4)
    dedup(config)
    assert not kept(config)


@pytest.mark.parametrize("name", ["num_hashes", "shingle_units", "seed"])
def test_signatures_that_mean_something_else_are_refused(tmp_path: Path, name: str) -> None:
    run(tmp_path / "old", small())
    config = write_clean(tmp_path / "new", small())
    config.dedup = DedupConfig(against=[str(tmp_path / "old")], num_hashes=128 + (name == "num_hashes"))
    setattr(config.dedup, name, {"num_hashes": 129, "shingle_units": 4, "seed": 2}[name])
    with pytest.raises(UserError, match=f"signatures of .*old cannot be compared .*{name}: .* -> "):
        dedup(config)
    assert not config.folder("dedup").exists()


def test_runs_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    old = run(tmp_path / "old", small())
    config = write_clean(tmp_path / "new", small())

    def refusal(*against: str) -> str:
        config.dedup = DedupConfig(against=list(against))
        with pytest.raises(UserError) as caught:
            dedup(config)
        return str(caught.value)

    assert "is this run itself" in refusal(str(tmp_path / "old" / ".." / "new"))
    assert "is named twice" in refusal(str(tmp_path / "old"), str(tmp_path / "old") + "/")
    assert "python -m data_pipeline dedup CONFIG run=" in refusal(str(tmp_path / "nothing"))
    (old.folder("dedup") / "signatures" / SETTINGS).rename(tmp_path / "aside")
    assert "keeps no signatures" in refusal(str(tmp_path / "old"))
    (tmp_path / "aside").rename(old.folder("dedup") / "signatures" / SETTINGS)
    (old.folder("dedup") / "meta.json").unlink()
    assert "is not complete" in refusal(str(tmp_path / "old"))


def test_another_earlier_run_is_another_stage(tmp_path: Path) -> None:
    run(tmp_path / "old", small())
    config = run(tmp_path / "new", small(), tmp_path / "old")
    assert not kept(config) and dedup(config) == 0
    config.dedup = DedupConfig()
    with pytest.raises(UserError, match="against .*old"):
        dedup(config)
    rng = random.Random(3)
    shutil.rmtree(tmp_path / "old" / "clean")
    changed = write_clean(tmp_path / "old", {"a": [("x", write(edited(new_text("en", 90, rng), 2, "en", rng), "en"))]})
    changed.force = True
    dedup(changed)
    config.dedup = DedupConfig(against=[str(tmp_path / "old")])
    with pytest.raises(UserError, match='against .*old: "'):
        dedup(config)
    config.force = True
    dedup(config)
    assert len(kept(config)) == 3


def test_documents_of_empty_and_unitless_runs(tmp_path: Path) -> None:
    run(tmp_path / "empty", {})
    run(tmp_path / "blank", {"a": [("none", "……")], "b": []})
    config = run(
        tmp_path / "new", {"a": [("none too", "……"), ("一", "只有一篇")]}, tmp_path / "empty", tmp_path / "blank"
    )
    assert list(kept(config)) == ["none too", "一"]
    assert kept(run(tmp_path / "none", {}, tmp_path / "new")) == {}
