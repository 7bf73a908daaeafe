"""duplicates.bands: ranges cut the keys without gap or overlap; copies and pairs are those of a plain search."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from dedup_runs import VOCABULARY, edited, jaccard, new_text, planted, write, write_clean
from hypothesis import given
from hypothesis import strategies as st

import mindllm.stage
from data_pipeline.clean import stage_shards
from data_pipeline.config import DedupConfig
from data_pipeline.dedup import list_parts
from data_pipeline.duplicates import bands, minhash
from data_pipeline.duplicates.bands import BandTask, find_copies, find_pairs, list_tasks, place_copies
from data_pipeline.duplicates.sketches import load_store, save_store, sketch_part


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5).map(lambda n: n << 62), max_size=30), st.integers(1, 9))
def test_ranges_hold_every_key_once(values: list[int], num_ranges: int) -> None:
    keys = np.array(sorted(v % 2**64 for v in values), dtype=np.uint64)
    slices = [BandTask(0, number, num_ranges).slice_of(keys) for number in range(num_ranges)]
    assert [p for s in slices for p in range(s.start, s.stop)] == list(range(len(keys)))
    for number, piece in enumerate(slices):
        assert all(key * num_ranges >> 64 == number for key in keys[piece].tolist()) or num_ranges & (num_ranges - 1)


def test_tasks_are_of_the_size_that_is_asked_for() -> None:
    assert [len(list_tasks(range(3), total, 10)) for total in (0, 1, 10, 11, 95)] == [3, 3, 3, 6, 30]
    assert list_tasks([7], 20, 10)[1] == BandTask(7, 1, 2) and BandTask(7, 1, 2).name == "band 7, range 2 of 2"


def sketch(folder: Path, settings: DedupConfig, shards: dict[str, list[tuple[str, str]]]) -> list[str]:
    """Passes up to the sketches, in folder/work; all texts by ordinal."""
    write_clean(folder, shards)
    parts = list_parts(stage_shards(folder / "clean"), [], folder / "work")
    for part in parts:
        sketch_part(part, settings)
    save_store(folder / "work", parts)
    return [text for name in sorted(shards) for _, text in shards[name]]


@pytest.mark.parametrize("rows_per_task", [1000, 50])
def test_copies_and_pairs_of_planted_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_task: int
) -> None:
    monkeypatch.setattr(bands, "PAIRS_AT_ONCE", 7)
    settings = DedupConfig()
    texts = sketch(tmp_path, settings, {name: list(documents) for name, documents in planted().items()})
    store = load_store(tmp_path / "work")
    tasks = list_tasks([settings.bands], store.total, rows_per_task)
    files = [find_copies(task, tmp_path / "work") for task in tasks]
    found = minhash.sketch(texts, 128, 5, 1)
    exact = [tuple(row) for row in found.exact.tolist()]
    copies = {i: exact.index(row) for i, row in enumerate(exact) if exact.index(row) != i}
    assert dict(np.concatenate([np.load(f) for f in files], axis=1).T.tolist()) == copies and len(copies) == 36
    for part in store.parts:
        place_copies(part, files)
        own = {i: copies[i] for i in range(part.first, part.first + part.count) if i in copies}
        assert np.load(Path(part.index) / "copies.npy").T.tolist() == [[i, own[i]] for i in sorted(own)]
        bits = np.unpackbits(np.load(Path(part.index) / "originals.npy"), count=part.count)
        assert np.flatnonzero(bits == 0).tolist() == [i - part.first for i in sorted(own)]
    keys = minhash.band_keys(found.signatures, settings.bands, settings.rows)
    stays = [i for i in range(len(texts)) if i not in copies]
    for band in range(settings.bands):
        tasks = list_tasks([band], store.total, rows_per_task)
        pairs = np.concatenate([np.load(find_pairs(task, tmp_path / "work", settings)) for task in tasks])
        alike = {
            (a, b)
            for a, b in itertools.combinations(stays, 2)
            if keys[band, a] == keys[band, b]
            and minhash.similarity(found.signatures[a], found.signatures[b]) >= settings.threshold
        }
        assert {tuple(p) for p in pairs.tolist()} <= alike  # of a bucket of three, only those with its first
        assert {b for _, b in alike} == set(pairs[:, 1].tolist())


def test_bands_find_similar_documents_and_only_those(tmp_path: Path) -> None:
    """What is confirmed is truly similar, and above .9 nothing is missed."""
    rng = random.Random(4)
    texts = []
    for lang in VOCABULARY:
        for edits in (1, 2, 3, 12, 40):
            for number in range(8):
                document = new_text(lang, 300, rng)
                name = f"{lang}-{edits}-{number}"
                texts += [(name, write(document, lang)), (f"{name}b", write(edited(document, edits, lang, rng), lang))]
    settings = DedupConfig()
    sketch(tmp_path, settings, {"web": texts})
    store = load_store(tmp_path / "work")
    copies = [find_copies(task, tmp_path / "work") for task in list_tasks([settings.bands], store.total, 100)]
    for part in store.parts:
        place_copies(part, copies)
    tasks = list_tasks(range(settings.bands), store.total, 100)
    files = [find_pairs(task, tmp_path / "work", settings) for task in tasks]
    found = {tuple(pair) for file in files for pair in np.load(file).tolist()}
    true = {(i, i + 1): jaccard(texts[i][1], texts[i + 1][1]) for i in range(0, len(texts), 2)}
    assert found <= set(true) and sum(similarity > 0.9 for similarity in true.values()) >= 70
    assert all(pair in found for pair, similarity in true.items() if similarity > 0.9)
    assert not any(true[pair] < 0.6 for pair in found)
