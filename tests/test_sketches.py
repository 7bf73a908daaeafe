"""data_pipeline.duplicates.sketches: what is stored of a shard, its keys in order, rows and names by ordinal."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from dedup_runs import VOCABULARY, new_text, write, write_clean

import mindllm.stage
from data_pipeline.clean import stage_shards
from data_pipeline.config import DedupConfig
from data_pipeline.dedup import list_parts
from data_pipeline.duplicates import minhash, sketches
from data_pipeline.duplicates.sketches import Store, load_store, save_store, sketch_part, write_names

SETTINGS = DedupConfig(bands=5, rows=3, num_hashes=16)


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


def make_store(folder: Path) -> tuple[Store, list[str]]:
    """Three shards, one of them empty, sketched; and all texts by ordinal."""
    rng = random.Random(1)
    texts = [write(new_text(lang, n, rng), lang) for lang in VOCABULARY for n in (1, 0, 30, 40)]
    shards = {"a": texts[:5], "b": [], "c": texts[5:]}
    write_clean(folder, {name: [(f"{name}/{i}", t) for i, t in enumerate(listed)] for name, listed in shards.items()})
    parts = list_parts(stage_shards(folder / "clean"), [], folder / "work")
    for part in parts:
        sketch_part(part, SETTINGS)
    save_store(folder / "work", parts)
    return load_store(folder / "work"), texts


@pytest.mark.parametrize("index_bytes", [1, 100, 10**6])
def test_keys_ascend_and_belong_to_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index_bytes: int
) -> None:
    monkeypatch.setattr(sketches, "INDEX_BYTES", index_bytes)
    monkeypatch.setattr(sketches, "ROWS_AT_ONCE", 3)
    store, texts = make_store(tmp_path)
    found = minhash.sketch(texts, 16, 5, 1)
    expected = np.concatenate([minhash.band_keys(found.signatures, 5, 3), found.exact[None, :, 0]])
    for part in store.parts:
        keys, rows = (np.load(Path(part.index) / f"{name}.npy") for name in ("keys", "rows"))
        filled = [i for i in range(part.count) if found.num_units[part.first + i]]
        assert keys.shape == rows.shape == (6, len(filled)) and rows.dtype == np.uint32
        for band in range(6):
            pairs = sorted((int(expected[band, part.first + row]), row) for row in filled)
            assert list(zip(keys[band].tolist(), rows[band].tolist(), strict=True)) == pairs


def test_rows_and_names_by_ordinal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "NAMES_PER_BATCH", 2)
    monkeypatch.setattr(sketches, "BATCHES_MAPPED", 2)
    store, texts = make_store(tmp_path)
    found = minhash.sketch(texts, 16, 5, 1)
    rng = np.random.default_rng(1)
    assert store.total == len(texts) == 12 and store.num_fixed == 0
    for _ in range(20):
        ordinals = rng.integers(0, len(texts), rng.integers(1, 9))
        assert np.array_equal(store.read("signatures", ordinals), found.signatures[ordinals])
        assert np.array_equal(store.read("heads", ordinals)["num_units"], found.num_units[ordinals])
        names = [f"a/{i}" if i < 5 else f"c/{i - 5}" for i in ordinals.tolist()]
        assert store.names(ordinals, "id") == store.names(ordinals, "cluster") == names
    assert store.names(np.zeros(0, dtype=np.int64), "id") == []


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = make_store(tmp_path)
    monkeypatch.setattr(minhash, "sketch", None)
    (Path(store.parts[0].index) / "rows.npy").unlink()
    for part in store.parts:
        sketch_part(part, SETTINGS)
    (Path(store.parts[0].store) / "heads.npy").unlink()
    with pytest.raises(TypeError):
        sketch_part(store.parts[0], SETTINGS)


@pytest.mark.parametrize("sizes", [[], [0], [3, 1, 9], [1] * 7])
def test_names_are_cut_into_even_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    monkeypatch.setattr(sketches, "NAMES_PER_BATCH", 4)
    total = sum(sizes)
    with write_names(tmp_path / "names.arrow", ("id", "cluster")) as add:
        start = 0
        for n in sizes:
            rows = range(start, start := start + n)
            add([[f"名{i}" for i in rows], [f"cluster {i}" for i in rows]])
    store = Store([sketches.Part("x", "", str(tmp_path), "", 0, total)])
    assert store.names(np.arange(total), "id") == [f"名{i}" for i in range(total)]
    assert store.names(np.arange(total)[::-1], "cluster") == [f"cluster {i}" for i in reversed(range(total))]
