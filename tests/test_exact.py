"""What comes out of a run depends neither on when it was killed nor on how its batches are cut up."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from killed_script import killed_runs
from test_ramp import assert_equal_to_plain_loops
from test_train import PARITY, assert_same_run
from training_script import BATCH_SIZE, write_inputs

from mindllm.checkpoint import folder_name
from mindllm.stage import read_json

STEPS, SAVE_EVERY = 20, 3
WINDOWS = (range(2, 7), range(8, 13), range(14, 19))  # steps in which a run is killed
KINDS = ("between checkpoints", "right after one", "in the middle of one")
# A phase boundary amid the steps, and a second phase whose order depends on where it ends; sources are read again and
# again. Every checkpoint and batch is made beside the training.
WORDS = [
    f"train.steps={STEPS}", f"train.save_every={SAVE_EVERY}", "train.eval_every=5", "train.keep_last=2",
    "train.prefetch=2", "train.async_save=true", "train.warmup_steps=4",
    "phases=[{weights: {web-zh: 1, web-en: 2}, until_step: 11}, {weights: {web-*: 1}, blocked_share: 0.25}]",
]  # fmt: skip
RAMP = "train.batch_ramp=[{until_step: 5, batch_size: 2}, {until_step: 9, batch_size: 6}]"
DIAGONAL = {1: [(1, "fp32", ["mask_documents=true"]), (2, "bf16", [RAMP])], 2: [(3, "fp32", [RAMP])]}
REST: list[tuple[int, str, list[str]]] = [(zero, precision, []) for zero in (1, 2, 3) for precision in ("fp32", "bf16")]
SLOW = [*REST, (0, "bf16", [RAMP]), (2, "fp32", ["mask_documents=true"])]


def kills(name: str, world: int) -> list[dict[str, Any]]:
    """Three kills at random steps, one of each kind, of any process."""
    rng, found = random.Random(name), []
    for window, kind in zip(WINDOWS, rng.sample(KINDS, 3), strict=True):
        saved = next(step for step in window if step % SAVE_EVERY == 0)
        if kind == KINDS[2]:
            found.append({"rank": 0, "file": folder_name(saved), "number": rng.randint(1, 4), "after": saved})
        else:
            step = saved if kind == KINDS[1] else rng.choice([step for step in window if step % SAVE_EVERY])
            found.append({"rank": rng.randrange(world), "step": step, "after": step})
    return found


def position(run: Path) -> dict[str, Any]:
    """What the last checkpoint says about where the run stands."""
    meta = read_json(run / folder_name(STEPS) / "meta.json")
    return {key: meta[key] for key in ("step", "tokens", "skipped", "fingerprints")}


@pytest.mark.parametrize(
    ("world", "cases"),
    [
        *DIAGONAL.items(),
        *(pytest.param(world, SLOW, marks=pytest.mark.slow) for world in (1, 2)),
        pytest.param(1, [(1, "fp32", ["train.compile=true"])], marks=pytest.mark.slow),
    ],
)
def test_twenty_steps_however_often_killed(tmp_path: Path, world: int, cases: list[tuple[int, str, list[str]]]) -> None:
    """Weights, optimizer, metrics, samples served, position, to the last bit; little is done twice."""
    if any("compile" in word for *_, more in cases for word in more) and shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    words = write_inputs(tmp_path)
    jobs: list[dict[str, Any]] = []
    for number, (zero, precision, more) in enumerate(cases):
        settings = [*WORDS, f"train.zero_stage={zero}", f"train.precision={precision}", *more,
                    f"train.micro_batch_size={2 // world}"]  # fmt: skip
        for kind, planned in (("straight", []), ("killed", kills(f"{zero} {precision} {world}", world))):
            jobs.append({"words": [*words, f"out={tmp_path}/{number}-{kind}", *settings], "kills": planned})
    found = killed_runs(tmp_path, jobs, world)
    for number, case in enumerate(cases):
        straight, killed = found[2 * number : 2 * number + 2]
        assert straight["ends"] == [0] and killed["ends"] == [-9, -9, -9, 0], (case, found)
        for kill, after in zip(jobs[2 * number + 1]["kills"], killed["served"][1:], strict=True):
            lost = kill["after"] - kill["after"] % SAVE_EVERY - min(map(int, after))
            assert 0 <= lost <= SAVE_EVERY, f"{case}: {kill} cost more than what came after a checkpoint"
        for served in killed["served"]:
            assert served.items() <= straight["served"][0].items(), case
        assert len(straight["served"][0]) == STEPS
        runs = [tmp_path / f"{number}-{kind}" for kind in ("straight", "killed")]
        assert_same_run(runs[0], runs[1], STEPS)
        assert position(runs[0]) == position(runs[1])
        assert read_json(runs[0] / "mixture.json") == read_json(runs[1] / "mixture.json")
        counts = [read_json(run / "meta.json")["counts"] for run in runs]
        assert counts[0] == counts[1] and counts[0]["out"] == STEPS
        rows = read_json(runs[0] / "mixture.json")["table"]
        assert all(max(row["epochs"] for row in rows if row["source"] == name) > 1 for name in ("web-zh", "web-en"))


@pytest.mark.parametrize(
    ("world", "stages"),
    [(1, [1, 3]), *(pytest.param(w, [0, 1, 2, 3], marks=pytest.mark.slow) for w in (1, 2))],
)
def test_cutting_up_a_batch_and_leaving_out_targets_biases_nothing(
    tmp_path: Path, world: int, stages: list[int]
) -> None:
    """1 x 8 and 8 x 1 samples equal one plain batch, where every sample has another number of targets, or none."""
    sizes = [size for size in (1, 2, 8) if size * world <= BATCH_SIZE]
    jobs = [
        {"out": f"{zero}-{size}", "train": {**PARITY, "zero_stage": zero, "micro_batch_size": size}, "ignores": True}
        for zero in stages
        for size in sizes
    ]
    assert_equal_to_plain_loops(tmp_path, jobs, world)
