"""data_pipeline.duplicates.estimate: sizes against those of a real run, and refusals before any work."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from dedup_runs import ONE, planted, write_clean

import mindllm.stage
from data_pipeline import dedup as module
from data_pipeline.clean import stage_shards
from data_pipeline.config import DedupConfig
from data_pipeline.dedup import dedup, list_parts
from data_pipeline.duplicates import estimate as estimates
from data_pipeline.duplicates.estimate import estimate
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_disk_is_what_a_run_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to headers of files (which are what counts with 180 documents), and pairs: at most one a band is counted."""
    config = write_clean(tmp_path, planted())
    parts = list_parts(stage_shards(tmp_path / "clean"), [], tmp_path / "work")
    needs = estimate(parts, config.dedup, ONE)
    monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)  # work/ stays
    dedup(config)
    work = tmp_path / "dedup" / "work"
    arrays = [p for p in work.rglob("*.npy") if p.parent.parent.name == "sketches"]
    exact = sum(np.load(p).nbytes for p in arrays if p.stem in ("heads", "signatures", "keys", "rows"))
    assert exact == 180 * (24 + 512 + 12 * 15)
    assert exact < needs.work_disk < 2 * size(work)
    assert 180 * 536 < needs.kept_disk < 3 * size(tmp_path / "dedup")
    assert needs.documents == 180 and needs.shards == 3 and needs.fixed == 0 and needs.seconds > 0


def test_earlier_documents_count_for_memory_and_keys_only(tmp_path: Path) -> None:
    dedup(write_clean(tmp_path / "old", planted()))
    config = write_clean(tmp_path / "new", planted())
    config.dedup = DedupConfig(against=[str(tmp_path / "old")])
    found = module.find_earlier(config.dedup, config.run)
    shards = stage_shards(tmp_path / "new" / "clean")
    alone = estimate(list_parts(shards, [], tmp_path), config.dedup, ONE)
    needs = estimate(list_parts(shards, found, tmp_path), config.dedup, ONE)
    assert needs.documents == 180 and needs.fixed == 72 and needs.kept_disk == alone.kept_disk
    assert needs.work_disk == alone.work_disk + 72 * (12 * 15 + 16 * 14 + 32)
    assert "180 documents in 3 shards, and 72 of earlier runs; needs" in needs.describe()


def test_a_disk_that_is_too_small_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_clean(tmp_path, planted())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match="its disk has 0 MB free; make room"):
        dedup(config)
    assert not (tmp_path / "dedup" / "work").exists()
    monkeypatch.undo()
    assert dedup(config) == 0


def test_tasks_at_once_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_clean(tmp_path, planted())
    parts = list_parts(stage_shards(tmp_path / "clean"), [], tmp_path)
    eight = WorkersConfig(num_workers=8)
    task = estimate(parts, config.dedup, eight).task_memory
    for memory, expected in ((100 * task, 8), (5.1 * task, 3), (1.7 * task, 1)):
        monkeypatch.setattr(estimates, "machine_memory", lambda memory=memory: int(memory))
        assert estimate(parts, config.dedup, eight).at_once == expected
    cluster = WorkersConfig(engine="ray", num_workers=16, address="auto")
    assert estimate(parts, config.dedup, cluster).at_once == 16  # docs/dedup.md says what a machine must have
    monkeypatch.setattr(estimates, "machine_memory", lambda: task)
    with pytest.raises(UserError, match=r"dedup.rows_per_task: 50,000,000 rows need .* up to [\d,]+ fit"):
        estimate(parts, config.dedup, eight)


def test_this_machine_has_memory() -> None:
    total = int(re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text()).group(1))  # type: ignore[union-attr]
    assert 0 < estimates.machine_memory() <= total * 1024
