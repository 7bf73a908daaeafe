"""Going on: only from bytes that are what was written, and only in the run that wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoint_engine import Files, save_all

from mindllm import engine as door
from mindllm.checkpoint import Keep, Progress, corruption, folder_name, latest, latest_intact, read_progress, resume
from mindllm.config import RunFailed, UserError
from mindllm.mixture.past import RULES
from mindllm.stage import read_json, write_json


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


def flip(path: Path, where: int = -100) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(bytes(data))


def test_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    engine = Files()
    save_all(engine, tmp_path, [7], fingerprints=FINGERPRINTS)
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
    assert resume(engine, tmp_path / folder_name(7), FINGERPRINTS) == Progress(7, 700, [[3, 5]], FINGERPRINTS)
    assert engine.loaded == [(tmp_path, "step-00000007")]


def test_of_the_data_only_the_past_counts(tmp_path: Path) -> None:
    """A source that comes at step 7 or later is none of the checkpoint's business; the next one knows it."""
    engine = Files()
    save_all(engine, tmp_path, [7], fingerprints=FINGERPRINTS)
    later, earlier = fingerprints(7, **{"书": 1 << 20}), fingerprints(6, **{"书": 1 << 20})
    with pytest.raises(UserError, match="phases.0: until_step: None -> 6, before step 7"):
        resume(engine, tmp_path / folder_name(7), earlier)
    assert not engine.loaded
    progress = resume(engine, tmp_path / folder_name(7), later)
    assert progress == Progress(7, 700, [[3, 5]], later) and engine.loaded
    assert read_progress(tmp_path / folder_name(7)).fingerprints == FINGERPRINTS
    save_all(engine, tmp_path, [9], fingerprints=progress.fingerprints)
    with pytest.raises(UserError, match=r"phases: 2 begun \(at step 0, 7\) -> 1 begun"):
        resume(engine, tmp_path / folder_name(9), FINGERPRINTS)


@pytest.mark.parametrize(("name", "where"), [("model.pt", 0), ("model.pt", -1), ("optimizer.pt", 7_000)])
def test_one_flipped_bit_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, where: int) -> None:
    save_all(Files(), tmp_path, [1, 2, 3], Keep(9))
    one, two, three = (tmp_path / folder_name(step) for step in (1, 2, 3))
    assert latest_intact(tmp_path) == three and not capsys.readouterr().out
    flip(three / name, where)
    (two / "model.pt").write_bytes(b"")
    content = {p: p.read_bytes() for p in three.iterdir()}
    assert latest(tmp_path) == three, "by size nothing is wrong"
    assert latest_intact(tmp_path) == one
    first, second = capsys.readouterr().out.splitlines()
    assert first == (f"checkpoint {three} is damaged ({name} is not what was written: its checksum differs); "
                     "using the one before it, if any")  # fmt: skip
    assert f"checkpoint {two} is damaged (model.pt has 0 bytes instead of" in second
    assert {p: p.read_bytes() for p in three.iterdir()} == content, "it stays untouched"
    assert corruption(three) == f"{name} is not what was written: its checksum differs" and corruption(one) is None
    flip(one / name, where)
    with pytest.raises(RunFailed, match="no checkpoint in it can be used"):
        latest_intact(tmp_path)
    assert latest_intact(tmp_path / "nothing") is None


@pytest.mark.parametrize("keep", [1, 2])
def test_one_that_was_passed_over_pushes_no_other_out(tmp_path: Path, keep: int) -> None:
    """The newest one's checksum is wrong; the run goes on from the one before, and is stopped before that step."""
    save_all(Files(), tmp_path, [20, 30], Keep(2))
    flip(tmp_path / folder_name(30) / "model.pt")
    assert latest_intact(tmp_path) == tmp_path / folder_name(20)
    save_all(Files(), tmp_path, [24], Keep(keep))
    assert latest_intact(tmp_path) == tmp_path / folder_name(24)
    assert (tmp_path / folder_name(20)).exists() == (keep == 2)


def test_each_process_compares_what_it_wrote(tmp_path: Path) -> None:
    save_all(Files(), tmp_path, [1])
    folder = tmp_path / folder_name(1)
    meta = read_json(folder / "meta.json")
    meta["files"]["optimizer.pt"]["rank"] = 3
    write_json(folder / "meta.json", meta)
    flip(folder / "optimizer.pt")
    assert [corruption(folder, rank, 4) is None for rank in range(4)] == [True, True, True, False]
    assert [corruption(folder, rank, 2) is None for rank in range(2)] == [True, False], "with fewer processes, too"
    (folder / "model.pt").unlink()
    assert "model.pt cannot be read: No such file" in str(corruption(folder, 0, 4))


def test_what_one_process_finds_all_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other process has found a damaged file in step 2."""
    save_all(Files(), tmp_path, [1, 2])
    answers = iter([[(1, None), (1, "optimizer.pt is not what was written")], [(1, None), (1, None)]])
    monkeypatch.setattr(door, "from_every_rank", lambda mine: next(answers))
    assert latest_intact(tmp_path) == tmp_path / folder_name(1)
    assert "damaged (optimizer.pt is not" in capsys.readouterr().out


def test_without_checksums_it_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_all(Files(), tmp_path, [1])
    meta: Any = read_json(tmp_path / folder_name(1) / "meta.json")
    meta["files"] = {name: record["size"] for name, record in meta["files"].items()}
    write_json(tmp_path / folder_name(1) / "meta.json", meta)
    assert latest_intact(tmp_path) == tmp_path / folder_name(1)
    assert capsys.readouterr().out.count("has no checksums: only the sizes") == 1
    assert resume(Files(), tmp_path / folder_name(1), {}).step == 1
