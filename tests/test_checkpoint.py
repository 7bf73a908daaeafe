"""Checkpoint folders: only complete ones count, older ones go only after a newer is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoint_engine import FILES, Files, save_all

from mindllm.checkpoint import Keep, Progress, damage, folder_name, latest, read_progress
from mindllm.checkpoint.folder import folders
from mindllm.stage import read_json, write_json

FINGERPRINTS = {"model": {"hidden_size": 32}, "data": {"sources": {"网页-zh": "0a", "網頁-zh": "0b", "web-en": "1c"}}}


@pytest.fixture(params=[True, False], ids=["background", "foreground"])
def background(request: pytest.FixtureRequest) -> bool:
    """Both ways of writing."""
    return bool(request.param)


def found(out: Path) -> list[int]:
    """Steps of the checkpoint folders in `out`."""
    return sorted(int(p.name.split("-")[1]) for p in out.glob("step-*"))


def test_what_is_saved_comes_back(tmp_path: Path, background: bool) -> None:
    save_all(Files(), tmp_path, [12_000], background=background, fingerprints=FINGERPRINTS)
    folder = latest(tmp_path)
    assert folder == tmp_path / "step-00012000" and damage(folder) is None
    assert read_progress(folder) == Progress(12_000, 1_200_000, [[3, 5]], FINGERPRINTS)
    meta = read_json(folder / "meta.json")
    assert sorted(p.name for p in folder.iterdir()) == ["meta.json", *FILES] and list(meta["files"]) == [*FILES]
    for name, record in meta["files"].items():
        assert record["size"] == (folder / name).stat().st_size > 20_000 and record["rank"] == 0
        assert len(record["xxh3_128"]) == 32
    assert meta["valid"] == {"valid_loss": 1 / 12_000} and "torch" in meta["versions"]
    assert latest(tmp_path / "nothing") is None


def test_only_the_last_are_kept_and_leftovers_go(tmp_path: Path, background: bool) -> None:
    (tmp_path / "step-00000003.tmp").mkdir()
    (tmp_path / "step-notes").mkdir()
    save_all(Files(), tmp_path, [1, 2], background=background)
    (tmp_path / "step-notes").rmdir()
    assert found(tmp_path) == [1, 2]
    save_all(Files(), tmp_path, [10, 9_999, 12_345_678], Keep(3), background)
    assert found(tmp_path) == [10, 9_999, 12_345_678]
    assert latest(tmp_path) == tmp_path / "step-12345678"
    save_all(Files(), tmp_path, [123_456_789], Keep(1), background)
    assert found(tmp_path) == [123_456_789]


def test_every_and_best(tmp_path: Path, background: bool) -> None:
    """The loss falls with the step here, so the best are the last."""
    save_all(Files(), tmp_path, [10, 20, 25, 30, 35, 40], Keep(1, every=20, best=2), background)
    assert found(tmp_path) == [20, 35, 40]


def damaged(tmp_path: Path) -> list[Path]:
    """Five checkpoints, of which only the first is complete."""
    save_all(Files(), tmp_path, [1, 2, 3, 4, 5], Keep(9))
    one, two, three, four, five = sorted(tmp_path.glob("step-*"))
    (five / "meta.json").unlink()
    (four / "meta.json").write_text('{"step": 4, "fil')
    (three / "model.pt").write_bytes(b"weig")
    (two / "optimizer.pt").unlink()
    return [one, two, three, four, five]


def test_damage_is_named_and_the_one_before_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    one, two, three, four, five = damaged(tmp_path)
    size = read_json(three / "meta.json")["files"]["model.pt"]["size"]
    assert damage(five) == "no meta.json" and "damaged" in str(damage(four))
    assert damage(three) == f"model.pt has 4 bytes instead of {size}" and damage(two) == "optimizer.pt is missing"
    assert latest(tmp_path) == one
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [str(p) for p in (five, four, three, two)]
    assert f"model.pt has 4 bytes instead of {size}" in lines[2]
    assert folders(tmp_path) == [five, four, three, two, one], "nothing is touched"


def test_damaged_ones_are_replaced_by_their_own_step_and_go_with_a_newer_one(tmp_path: Path) -> None:
    one, two, three, four, five = damaged(tmp_path)
    save_all(Files(), tmp_path, [2])
    assert [damage(p) is None for p in (one, two, three)] == [True, True, False] and five.exists()
    save_all(Files(), tmp_path, [4])
    assert found(tmp_path) == [2, 4, 5] and latest(tmp_path) == four
    save_all(Files(), tmp_path, [6], Keep(1))
    assert found(tmp_path) == [6]


@pytest.mark.parametrize("meta", ["[]", "7", "null", "{}", '{"step": "4", "tokens": 1}', '"步"'])
def test_a_meta_that_is_none(tmp_path: Path, meta: str) -> None:
    save_all(Files(), tmp_path, [4])
    (tmp_path / folder_name(4) / "meta.json").write_text(meta, encoding="utf-8")
    problem = damage(tmp_path / folder_name(4))
    assert problem == "no meta.json" if meta == "null" else "not the record of a checkpoint" in str(problem)
    assert latest(tmp_path) is None
    with pytest.raises(RuntimeError):
        read_progress(tmp_path / folder_name(4))


def test_only_rank_zero_names_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_all(Files(), tmp_path, [1, 2])
    (tmp_path / folder_name(2) / "meta.json").unlink()
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert latest(tmp_path) == tmp_path / folder_name(1)
        assert ("no meta.json" in capsys.readouterr().out) == (rank == "0")


def test_older_records_hold_sizes_only(tmp_path: Path) -> None:
    save_all(Files(), tmp_path, [1])
    meta: Any = read_json(tmp_path / folder_name(1) / "meta.json")
    meta["files"] = {name: record["size"] for name, record in meta["files"].items()}
    del meta["valid"], meta["versions"]
    write_json(tmp_path / folder_name(1) / "meta.json", meta)
    assert damage(tmp_path / folder_name(1)) is None
    save_all(Files(), tmp_path, [2, 3], Keep(1, best=1))
    assert found(tmp_path) == [3]
