"""data_pipeline.duplicates.decisions: components cut into tasks, and the fate of every document of a shard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mindllm.stage
from data_pipeline.duplicates import decisions
from data_pipeline.duplicates.arrays import save
from data_pipeline.duplicates.decisions import ChoiceTask, choose, connect, list_choices, load_fates
from data_pipeline.duplicates.sketches import HEAD, Part, load_store, save_store

COUNTS = [4, 0, 7, 5]  # of documents in each shard; the first is an earlier run's
UNITS = [9, 5, 9, 9, 6, 8, 8, 7, 6, 9, 9, 5, 5, 5, 5, 5]


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


def write_store(work: Path, signatures: dict[int, list[int]], copies: dict[int, int]) -> None:
    """Heads, signatures (those not given are like no other) and exact copies of sixteen documents."""
    parts, first = [], 0
    for number, count in enumerate(COUNTS):
        folder, rows = work / str(number), range(first, first + count)
        heads = np.zeros(count, dtype=HEAD)
        heads["num_units"] = UNITS[first : first + count]
        table = [signatures.get(row, [1000 + row] * 4) for row in rows]
        own = [(row, copies[row]) for row in rows if row in copies]
        save(folder / "heads.npy", heads)
        save(folder / "signatures.npy", np.array(table, dtype=np.uint32).reshape(count, 4))
        save(folder / "copies.npy", np.array(own, dtype=np.int64).reshape(-1, 2).T)
        parts.append(Part(str(number), "", str(folder), str(folder), first, count, fixed=number == 0))
        first += count
    save_store(work, parts)


def pairs(work: Path, found: list[tuple[int, int]]) -> list[Path]:
    save(work / "p.npy", np.array(found, dtype=np.int64).reshape(-1, 2))
    return [work / "p.npy"]


def test_components_and_tasks_at_their_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path, {}, {})
    monkeypatch.setattr(decisions, "PAIRS_AT_ONCE", 2)
    connect(
        load_store(tmp_path), pairs(tmp_path, [(5, 9), (12, 13), (2, 9), (0, 15), (13, 14), (5, 7), (3, 4)]), tmp_path
    )
    assert np.load(tmp_path / "members.npy").tolist() == [0, 15, 2, 5, 7, 9, 3, 4, 12, 13, 14]
    assert np.load(tmp_path / "starts.npy").tolist() == [0, 2, 6, 8]
    for size, expected in ((1, [0, 2, 6, 8]), (3, [0, 2, 6, 8]), (5, [0, 2, 6]), (6, [0, 6]), (11, [0]), (99, [0])):
        monkeypatch.setattr(decisions, "MEMBERS_PER_TASK", size)
        assert [task.start for task in list_choices(tmp_path)] == expected
        assert [task.stop for task in list_choices(tmp_path)] == [*expected[1:], 11]


def test_without_pairs_there_is_nothing_to_choose(tmp_path: Path) -> None:
    write_store(tmp_path, {}, {7: 5, 15: 2})
    connect(load_store(tmp_path), pairs(tmp_path, []), tmp_path)
    assert list_choices(tmp_path) == []
    fates = load_fates(load_store(tmp_path).parts[2], tmp_path)
    assert fates.best.tolist() == fates.kept.tolist() == [4, 5, 6, 5, 8, 9, 10]
    assert fates.exact.tolist() == [False, False, False, True, False, False, False]


@pytest.mark.parametrize("size", [1, 100])
def test_fates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """An old short document before new long ones; a chain that is cut; exact copies of kept and of dropped ones."""
    signatures = {
        1: [0, 0, 0, 0],  # old, and shortest of its component
        5: [0, 0, 0, 1],  # near 1
        9: [0, 0, 1, 1],  # near 5, too far from 1
        4: [7, 7, 7, 7],
        10: [7, 7, 7, 8],
    }
    write_store(tmp_path, signatures, {12: 5, 13: 9, 14: 3})
    monkeypatch.setattr(decisions, "MEMBERS_PER_TASK", size)
    connect(load_store(tmp_path), pairs(tmp_path, [(1, 5), (5, 9), (4, 10)]), tmp_path)
    tasks = list_choices(tmp_path)
    assert len(tasks) == (2 if size == 1 else 1) and tasks[0] == ChoiceTask(0, 0, 3 if size == 1 else 5)
    for task in tasks:
        choose(task, tmp_path, 0.75)
    _, _, third, fourth = load_store(tmp_path).parts
    fates = load_fates(third, tmp_path)
    assert fates.kept.tolist() == [10, 1, 6, 7, 8, 9, 10] and fates.best.tolist() == [10, 1, 6, 7, 8, 1, 10]
    assert fates.similarity.tolist() == [0.75, 0.75, 1, 1, 1, 1, 1] and not fates.exact.any()
    fates = load_fates(fourth, tmp_path)
    assert fates.kept.tolist() == [11, 1, 9, 3, 15] and fates.best.tolist() == [11, 1, 1, 3, 15]
    assert fates.similarity.tolist() == [1, 0.75, 1, 1, 1] and fates.exact.tolist() == [False, False, True, True, False]
    assert fates.take(np.array([1, 2])).kept.tolist() == [1, 9]
