"""dedup.paragraphs in the whole stage: what repeats goes from all documents but the first, and is kept as evidence."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dedup_runs import VOCABULARY, Shards, dropped, kept, limit_renames, new_text, outputs, write, write_clean

import mindllm.stage
from data_pipeline.config import DataConfig, DedupConfig
from data_pipeline.dedup import dedup
from data_pipeline.workers import WorkersConfig
from mindllm.stage import read_json

NOTICES = {
    "zh-Hans": "本站文章均来自读者投稿，转载请注明出处，如有错漏欢迎写信告诉编辑部，我们会在三个工作日之内回复您。",
    "zh-Hant": "本站文章均來自讀者投稿，轉載請註明出處，如有錯漏歡迎寫信告訴編輯部，我們會在三個工作日之內回覆您。",
    "en": "The letters on this page were sent in by readers of the paper, and they do not always say what the editors "
    "think; whoever finds a mistake in one of them is asked to write to the office by the old bridge.",
}
SETTINGS = DedupConfig(bands=2, paragraphs=True, min_paragraph_units=20, min_left_units=10)


def shards() -> Shards:
    """Of each language three documents with its notice at another place, a shard each, and one that is all notice."""
    rng, found = random.Random(4), {name: [] for name in "abc"}
    for lang, notice in NOTICES.items():
        own = [[write(new_text(lang, 60, rng), lang) for _ in range(2)] for _ in range(3)]
        for number, name in enumerate("abc"):
            lines = [*own[number][:number], notice, *own[number][number:]]
            found[name].append((f"{lang}-{name}", "\n".join(lines)))
        short = write(new_text(lang, 5, rng), lang)
        found["c"].append((f"{lang}-short", f"{short}\n{notice}"))
    return found


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small files are written here; waiting for the disk would take most of the time."""
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    config = write_clean(tmp_path / "run", shards())
    config.dedup = SETTINGS
    return config


def test_each_stays_in_one_document(config: DataConfig) -> None:
    assert dedup(config) == 0
    found, before = kept(config), dict(row for rows in shards().values() for row in rows)
    assert set(found) == {f"{lang}-{name}" for lang in VOCABULARY for name in "abc"}
    for lang, notice in NOTICES.items():
        assert found[f"{lang}-a"].text == before[f"{lang}-a"]
        for name in "bc":
            document = found[f"{lang}-{name}"]
            assert document.text == before[document.id].replace(notice, "").replace("\n\n", "\n").strip("\n")
        removed = [found[f"{lang}-{name}"].meta["removed_paragraphs"] for name in "abc"]
        assert removed == [0, 1, 1]
    assert dropped(config) == {f"{lang}-short": "dedup:paragraphs" for lang in VOCABULARY}
    rows = [row for name in "abc" for row in evidence(config, name)]
    assert {(row["id"], row["text"]) for row in rows} == {
        (f"{lang}-{name}", notice) for lang, notice in NOTICES.items() for name in "bc"
    }
    assert {row["num_documents"] for row in rows} == {4}
    assert read_json(config.folder("dedup") / "meta.json")["counts"]["out"] == 9


def evidence(config: DataConfig, shard: str) -> list[dict[str, object]]:
    return pq.read_table(config.folder("dedup") / "paragraphs" / f"{shard}.parquet").to_pylist()


def test_off_means_that_nothing_is_looked_at(config: DataConfig) -> None:
    config.dedup = DedupConfig(bands=2)
    dedup(config)
    assert len(kept(config)) == 12 and not (config.folder("dedup") / "paragraphs").exists()


def test_bytes_do_not_depend_on_workers_or_tasks(config: DataConfig, tmp_path: Path) -> None:
    dedup(config)
    other = write_clean(tmp_path / "other", shards())
    other.dedup = DedupConfig(**{**vars(SETTINGS), "rows_per_task": 3})
    other.workers = WorkersConfig(num_workers=2)
    dedup(other)
    assert outputs(other.folder("dedup")).keys() == outputs(config.folder("dedup")).keys()
    assert {k: v for k, v in outputs(other.folder("dedup")).items() if k != "plan.json"} == {
        k: v for k, v in outputs(config.folder("dedup")).items() if k != "plan.json"
    }


def test_killed_anywhere_it_goes_on_to_the_same_bytes(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = limit_renames(monkeypatch)
    dedup(config)
    expected, total = outputs(config.folder("dedup")), 10**9 - left[0]
    for number in range(2, total - 1, 5):
        shutil.rmtree(config.folder("dedup"))
        left[0] = number
        with pytest.raises(KeyboardInterrupt):
            dedup(config)
        left[0] = 10**9
        dedup(config)
        assert outputs(config.folder("dedup")) == expected
