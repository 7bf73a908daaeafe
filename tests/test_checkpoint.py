"""Checkpoint folders: only complete ones count, older ones go only after a newer is there, strangers are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mindllm import engine as door
from mindllm.checkpoint import Progress, damage, folder_name, latest, read_progress, resume, save
from mindllm.config import UserError
from mindllm.mixture.past import RULES


def fingerprints(until_step: int | None = None, **shares: int) -> dict[str, Any]:
    """Of a run of two sources, whose phase ends at `until_step`, to be followed by one of `shares`."""
    phases = [(0, until_step, {"网页-zh": 1 << 19, "web-en": 1 << 19})]
    phases += [] if until_step is None else [(until_step, None, shares)]
    names = ("from_step", "until_step", "shares")
    more = {"order": "uniform", "blocked_share": 0.0, "anneal_to": {}, "listing": []}
    sources = {"网页-zh": "0a", "web-en": "1b"} | dict.fromkeys(shares, "2c")
    record = {
        "rules": RULES, "seed": 1, "batch_size": 4, "seq_len": 8, "num_steps": 20,
        "sources": {name: {"fingerprint": f, "tokens": 900, "documents": 9} for name, f in sources.items()},
        "phases": [dict(zip(names, phase, strict=True)) | more for phase in phases],
    }  # fmt: skip
    return {"model": {"hidden_size": 32}, "data": record, "world": 2}


FINGERPRINTS = fingerprints()


class Files:
    """In place of the engine, which is tested in test_train: writes two files, and says what it loaded."""

    def __init__(self) -> None:
        self.loaded: list[tuple[Path, str]] = []

    def save(self, folder: Path, tag: str) -> None:
        """As Engine.save."""
        (folder / tag).mkdir()
        (folder / tag / "model.pt").write_bytes(b"weights")
        (folder / tag / "optimizer.pt").write_bytes(b"moments")

    def load(self, folder: Path, tag: str) -> None:
        """As Engine.load."""
        self.loaded.append((folder, tag))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Files, with one process."""
    monkeypatch.setattr(door, "barrier", lambda: None)
    return Files()


def save_all(engine: Any, out: Path, steps: list[int], keep_last: int = 2) -> None:
    """One checkpoint after the other."""
    for step in steps:
        save(engine, out, Progress(step, step * 100, [[3, 5]], FINGERPRINTS), rank=0, keep_last=keep_last)


def found(out: Path) -> list[int]:
    """Steps of the checkpoint folders in `out`."""
    return sorted(int(p.name.split("-")[1]) for p in out.glob("step-*"))


def test_what_is_saved_comes_back(tmp_path: Path, engine: Any) -> None:
    save_all(engine, tmp_path, [12_000])
    folder = latest(tmp_path)
    assert folder == tmp_path / "step-00012000" and damage(folder) is None
    assert resume(engine, folder, FINGERPRINTS) == Progress(12_000, 1_200_000, [[3, 5]], FINGERPRINTS)
    assert engine.loaded == [(tmp_path, "step-00012000")]
    assert latest(tmp_path / "nothing") is None


def test_only_the_last_are_kept_and_leftovers_go(tmp_path: Path, engine: Any) -> None:
    (tmp_path / "step-00000003.tmp").mkdir()
    (tmp_path / "step-notes").mkdir()
    save_all(engine, tmp_path, [1, 2])
    (tmp_path / "step-notes").rmdir()
    assert found(tmp_path) == [1, 2]
    save_all(engine, tmp_path, [10, 9_999, 12_345_678], keep_last=3)
    assert found(tmp_path) == [10, 9_999, 12_345_678]
    assert latest(tmp_path) == tmp_path / "step-12345678"
    save_all(engine, tmp_path, [12_345_679], keep_last=1)
    assert found(tmp_path) == [12_345_679]


@pytest.mark.parametrize("moment", ["pathlib.Path.write_bytes", "mindllm.checkpoint.write_json", "pathlib.Path.rename"])
def test_a_kill_while_saving_leaves_the_previous_one(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    save_all(engine, tmp_path, [1], keep_last=1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(moment, killed)
        save_all(engine, tmp_path, [2], keep_last=1)
    assert latest(tmp_path) == tmp_path / folder_name(1)
    save_all(engine, tmp_path, [2], keep_last=1)
    assert [p.name for p in tmp_path.iterdir()] == [folder_name(2)]


def test_damage_is_named_and_the_one_before_is_used(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    save_all(engine, tmp_path, [1, 2, 3, 4, 5], keep_last=9)
    one, two, three, four, five = sorted(tmp_path.glob("step-*"))
    (five / "meta.json").unlink()
    (four / "meta.json").write_text('{"step": 4, "fil')
    (three / "model.pt").write_bytes(b"weig")
    (two / "optimizer.pt").unlink()
    assert damage(five) == "no meta.json" and "damaged" in str(damage(four))
    assert damage(three) == "model.pt has 4 bytes instead of 7" and damage(two) == "optimizer.pt is missing"
    assert latest(tmp_path) == one
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [str(p) for p in (five, four, three, two)]
    assert "model.pt has 4 bytes instead of 7" in lines[2]
    save_all(engine, tmp_path, [2], keep_last=2)  # what is damaged is not counted, and only replaced by its own step
    assert [damage(p) is None for p in (one, two, three)] == [True, True, False]
    (one / "meta.json").unlink()
    (two / "meta.json").unlink()
    assert latest(tmp_path) is None


def test_another_run_is_refused_with_the_difference(tmp_path: Path, engine: Any) -> None:
    save_all(engine, tmp_path, [7])
    now = fingerprints()
    now["data"]["sources"]["web-en"]["fingerprint"] = "2c"
    now["data"]["seed"] = 2
    now |= {"model": {"hidden_size": 48}, "world": 4}
    with pytest.raises(UserError) as error:
        resume(engine, tmp_path / folder_name(7), now)
    for line in ("model.hidden_size: 32 -> 48", "world: 2 -> 4", "seed: 1 -> 2", "source web-en: served before step 7"):
        assert line in str(error.value)
    assert "网页-zh" not in str(error.value) and not engine.loaded
    assert read_progress(tmp_path / folder_name(7)) == Progress(7, 700, [[3, 5]], FINGERPRINTS)
    with pytest.raises(UserError, match='data: .* -> "\\(absent\\)"'):
        resume(engine, tmp_path / folder_name(7), {"model": {"hidden_size": 32}, "world": 2})


def test_of_the_data_only_the_past_counts(tmp_path: Path, engine: Any) -> None:
    """A source that comes at step 7 or later is none of the checkpoint's business; the next one knows it."""
    save_all(engine, tmp_path, [7])
    later, earlier = fingerprints(7, **{"书": 1 << 20}), fingerprints(6, **{"书": 1 << 20})
    with pytest.raises(UserError, match="phases.0: until_step: None -> 6, before step 7"):
        resume(engine, tmp_path / folder_name(7), earlier)
    assert not engine.loaded
    progress = resume(engine, tmp_path / folder_name(7), later)
    assert progress == Progress(7, 700, [[3, 5]], later) and engine.loaded
    assert read_progress(tmp_path / folder_name(7)).fingerprints == FINGERPRINTS
    progress.step = 9
    save(engine, tmp_path, progress, rank=0, keep_last=2)
    with pytest.raises(UserError, match=r"phases: 2 begun \(at step 0, 7\) -> 1 begun"):
        resume(engine, tmp_path / folder_name(9), FINGERPRINTS)


def test_only_rank_zero_names_damage(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_all(engine, tmp_path, [1, 2])
    (tmp_path / folder_name(2) / "meta.json").unlink()
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert latest(tmp_path) == tmp_path / folder_name(1)
        assert ("no meta.json" in capsys.readouterr().out) == (rank == "0")
