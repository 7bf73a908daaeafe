"""A shard that cannot be done is set aside with its reason, the others are done, and the stage says so and fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_pipeline import workers
from data_pipeline.clean import clean, refine
from data_pipeline.config import DataConfig, Source
from data_pipeline.dedup import dedup
from data_pipeline.workers import WorkersConfig
from mindllm.cli import Verb, main
from mindllm.config import RunFailed, UserError
from mindllm.stage import read_json

TEXTS = {
    "1.txt": "城市图书馆在春天重新开放，读者们带着孩子来借书，管理员介绍新的阅览室。",
    "2.txt": "臺灣的夏天很熱，漁夫們清晨出海，傍晚才回到港口，把鮮魚賣給鎮上的人們。",
    "3.txt": "The river runs past the old mill, and a small boat lies in the harbour before the rain.",
    "4.txt": "A crow sat on the wall of the garden and did not leave it until the bells had rung twice.",
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAUSES", (0.0,))


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """Four texts, a shard each."""
    (tmp_path / "web").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "web" / name).write_text(text, encoding="utf-8")
    settings = WorkersConfig(num_workers=1, attempts=2)
    run = str(tmp_path / "run")
    sources = {"web": Source(str(tmp_path / "web"))}
    return DataConfig(sources, {"html": {}}, {"pii": {}}, run, workers=settings, shard_bytes=1, document_seconds=0)


def block(config: DataConfig, stage: str, shard: str) -> Path:
    """Something that no process of ours could write over, where the shard's temporary file would be."""
    path = config.folder(stage) / f".{shard}.parquet.tmp"
    (path / "x").mkdir(parents=True)
    return path


def unblock(path: Path) -> None:
    (path / "x").rmdir()
    path.rmdir()


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("stage", ["clean", "refine"])
def test_it_is_set_aside_and_the_same_command_tries_it_again(config: DataConfig, stage: str, num_workers: int) -> None:
    config.workers.num_workers = num_workers
    verb = {"clean": clean, "refine": refine}[stage]
    if stage == "refine":
        clean(config), dedup(config)
    obstacle = block(config, stage, "web-00001")
    with pytest.raises(RunFailed) as caught:
        verb(config)
    message = str(caught.value)
    assert "1 shard failed and set aside in" in message and "web-00001: " in message and "Error" in message
    assert "The same command tries these again; workers.max_failed=1 completes the stage without them." in message
    folder = config.folder(stage)
    found = read_json(folder / "failed" / "web-00001.json")
    assert found["name"] == "web-00001" and found["attempts"] == 2 and "Traceback" in found["trace"]
    assert {p.stem for p in folder.glob("web-*.parquet")} == {"web-00000", "web-00002", "web-00003"}
    assert not (folder / "meta.json").exists()
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("web-*.parquet")}
    unblock(obstacle)
    assert verb(config) == 0 and not (folder / "failed").exists()
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("web-*.parquet")}.items() >= before.items()
    assert read_json(folder / "meta.json")["counts"]["in"] == 4


def test_a_stage_can_be_complete_without_it(config: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    block(config, "clean", "web-00002")
    config.workers.max_failed = 1
    assert clean(config) == 0
    assert "the stage is complete without them" in capsys.readouterr().err
    meta = read_json(config.folder("clean") / "meta.json")
    assert meta["counts"]["in"] == 3 and meta["counts"]["failed"] == ["web-00002"]
    assert dedup(config) == 0 and refine(config) == 0
    whole = replace(config, run=config.run + "-whole")
    clean(whole)
    hashes = [read_json(c.folder("dedup") / "meta.json")["inputs"]["clean"] for c in (config, whole) if not dedup(c)]
    assert hashes[0] != hashes[1]  # what is missing is another content


def test_the_command_fails_without_a_traceback(
    config: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block(config, "clean", "web-00000")
    path = tmp_path / "config.yaml"
    path.write_text(
        f"run: {config.run}\nsources: {{web: {{path: {tmp_path}/web}}}}\nclean: {{html: {{}}}}\nrefine: {{}}\n"
    )
    words = ["clean", str(path), "workers.num_workers=1", "workers.attempts=1", "shard_bytes=1", "document_seconds=0"]
    assert main("program", {"clean": Verb(DataConfig, clean)}, words) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("program: clean: 1 shard failed") and "Traceback" not in shown


def test_a_mistake_of_the_user_is_no_failed_shard(config: DataConfig) -> None:
    config.sources["web"].path += "/nowhere"
    with pytest.raises(UserError, match="does not exist"):
        clean(config)
