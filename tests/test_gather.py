"""An output file: the documents of its range of keys in the order of the keys, however little fits into memory."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.tokens import gather
from data_pipeline.tokens.encode import RUNS
from data_pipeline.tokens.gather import RECORDS, SOURCES, gather_file
from data_pipeline.tokens.plan import KEYS, FilePlan
from data_pipeline.tokens.runs import ROW, write_run
from mindllm.shard_files import write_meta
from mindllm.shards import Shards
from mindllm.stage import write_json
from mindllm.text import LANGUAGES

EOS, VOCAB = 0, 70_000
NUM_RUNS, NUM_DOCUMENTS = 3, 40
LIMIT = 1 << 62  # clusters below are held out


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Three runs of one source on disk, and what is in them."""
    rng = np.random.default_rng(1)
    everything: list[dict[str, Any]] = []
    stretches = []
    for run in range(NUM_RUNS):
        table = np.zeros(NUM_DOCUMENTS, dtype=ROW)
        table["key"] = rng.integers(0, KEYS, NUM_DOCUMENTS, dtype=np.uint64)
        table["cluster"] = rng.integers(0, KEYS, NUM_DOCUMENTS, dtype=np.uint64)
        table["length"] = rng.integers(1, 30, NUM_DOCUMENTS)
        table["start"] = np.cumsum(table["length"]) - table["length"]
        table["bytes"] = 3 * table["length"]
        table["language"] = rng.integers(0, len(LANGUAGES), NUM_DOCUMENTS)
        tokens = rng.integers(1, VOCAB, int(table["length"].sum())).astype(np.uint32)
        tokens[table["start"] + table["length"] - 1] = EOS
        held = table["cluster"] < LIMIT
        found = write_run(tmp_path / RUNS, f"web-{run}/00000", tokens, table, np.zeros(NUM_DOCUMENTS, int), held)
        stretches.append(found[0])
        for row in table:
            ids = tokens[row["start"] : row["start"] + row["length"]].tolist()
            everything.append({name: int(row[name]) for name in ROW.names or ()} | {"ids": ids})
    write_json(tmp_path / SOURCES / "web-zh.json", stretches)
    return everything


def plan(split: str, low: int = 0, high: int = KEYS, number: int = 0) -> FilePlan:
    return FilePlan("web-zh", split, number, low, high, 900, NUM_RUNS * NUM_DOCUMENTS)


def run(folder: Path, split: str, extra: tuple[int, ...] = (), **place: int) -> tuple[list[list[int]], dict[str, Any]]:
    """The documents in the file, and its record."""
    record = gather_file(plan(split, **place), folder, folder / "out", VOCAB, extra)
    where = folder / "out" / "web-zh" / split
    write_meta(where, [record["file"]], VOCAB, "tokenizer-1", record["bytes"], record["languages"])
    shards = Shards(where)
    shards.verify()
    return [d.tolist() for d in shards.documents()], record


@pytest.mark.parametrize(
    ("tokens", "num_rows"), [(1 << 26, 1 << 22), (100, 1 << 22), (20, 1 << 22), (1 << 26, 5), (7, 1)]
)
def test_pieces_of_any_size_give_the_same_file(
    tmp_path: Path, rows: list[dict[str, Any]], tokens: int, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "TASK_TOKENS", tokens)
    monkeypatch.setattr(gather, "TASK_ROWS", num_rows)
    ordered = sorted(rows, key=lambda row: row["key"])
    extra = (ordered[3]["cluster"], ordered[70]["cluster"])
    for split in ("train", "valid"):
        wanted = [r for r in ordered if (r["cluster"] < LIMIT or r["cluster"] in extra) == (split == "valid")]
        found, record = run(tmp_path, split, extra)
        assert found == [row["ids"] for row in wanted]
        assert record["bytes"] == sum(row["bytes"] for row in wanted)
        languages = {}
        for code, lang in enumerate(LANGUAGES):
            mine = [row for row in wanted if row["language"] == code]
            sums = {"tokens": sum(r["length"] for r in mine), "bytes": sum(r["bytes"] for r in mine)}
            languages |= {lang: {"documents": len(mine), **sums}} if mine else {}
        assert record["languages"] == languages


def test_ranges_of_keys_share_out_all_documents(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    borders = [0, KEYS // 7, KEYS // 2, KEYS // 2 + 1, KEYS]
    found: list[list[int]] = []
    for number, (low, high) in enumerate(itertools.pairwise(borders)):
        if number == 2:  # a single key: nobody has it
            record = gather_file(plan("train", low, high, number), tmp_path, tmp_path / "out", VOCAB, ())
            assert record == {"file": None, "bytes": 0, "languages": {}}
            assert not list((tmp_path / "out").rglob("00002.*"))
        else:
            found += run(tmp_path, "train", low=low, high=high, number=number)[0]
            shutil.rmtree(tmp_path / "out")
    ordered = sorted(rows, key=lambda row: row["key"])
    assert found == [row["ids"] for row in ordered if row["cluster"] >= LIMIT]


def test_what_is_complete_is_not_done_again(
    tmp_path: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, "train")
    with monkeypatch.context() as patch:
        patch.setattr(gather, "read_rows", None)
        assert run(tmp_path, "train") == first
    (tmp_path / "out" / "web-zh" / "train" / "00000.bin").unlink()
    assert run(tmp_path, "train") == first
    (tmp_path / RECORDS / "web-zh" / "train" / "00000.json").unlink()
    assert run(tmp_path, "train") == first


def test_memory_is_that_of_a_piece(tmp_path: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece is larger than it may be, but for one document that is."""
    monkeypatch.setattr(gather, "TASK_TOKENS", 60)
    sizes: list[tuple[int, int]] = []
    read = gather._read

    def watch(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        tokens, some = read(*arguments)
        sizes.append((len(tokens), len(some)))
        return tokens, some

    monkeypatch.setattr(gather, "_read", watch)
    run(tmp_path, "train")
    assert len(sizes) > 10 and all(tokens <= 60 for tokens, _ in sizes)
