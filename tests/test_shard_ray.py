"""Token shards made and checked on Ray: the same bytes as here. Skipped where Ray is not installed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_ray_engine import RAY, needs_ray, one_ray  # noqa: F401  it serves this module, too
from test_shard import config, contents, tokenizer  # noqa: F401

from data_pipeline import shard as module
from data_pipeline.config import DataConfig
from data_pipeline.shard import shard
from data_pipeline.verify import verify


@needs_ray
def test_ray_changes_no_byte(
    config: DataConfig,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard(config)
    monkeypatch.setattr(module, "LITTLE", 0)
    shutil.copytree(config.folder("refine"), tmp_path / "ray" / "refine")
    there = replace(config, run=str(tmp_path / "ray"), workers=RAY)
    shard(there)
    assert contents(there.folder("shards")) == contents(config.folder("shards"))
    assert verify(there) == 0
    next(there.folder("shards").glob("*/train/00000.bin")).unlink()
    assert verify(there) == 1
