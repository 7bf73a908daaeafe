"""The pretrain command: stops and resumes, refuses what is not its run, validates as a plain computation does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_export import CHINESE, write_shards, write_tokenizer
from training_script import AT_MOST, SEQ_LEN, TINY, VALID, command_lines, write_inputs

from mindllm.checkpoint import folder_name, latest
from mindllm.config import UserError, load
from mindllm.engine import load_weights
from mindllm.export import restore
from mindllm.metrics import read_metrics
from mindllm.models.mindllm import MindLLM
from mindllm.pretrain import PretrainConfig, identity, open_sources
from mindllm.shards import Shards
from mindllm.tokenizer import Tokenizer, load_tokenizer


def plain_validation(model: MindLLM, folder: Path, tokenizer: Tokenizer) -> dict[str, float]:
    """Loss per token, bits per byte overall and by source: one sample after the other, full logits, one process."""
    nats: dict[str, float] = {}
    tokens, text = 0, {}
    for name in VALID:
        shards = Shards(folder / "shards" / name / "valid", SEQ_LEN)
        nats[name], text[name] = 0.0, 0
        for k in range(min(AT_MOST, VALID[name])):
            ids = torch.from_numpy(shards[k].tokens)
            with torch.no_grad():
                nats[name] += F.cross_entropy(model(ids[None, :-1])[0].double(), ids[1:], reduction="sum").item()
            tokens += SEQ_LEN
            text[name] += int(tokenizer.token_bytes[ids[1:]].sum())
    bits = {name: nats[name] / math.log(2) / text[name] for name in nats}
    total = sum(nats.values())
    overall = {"valid_loss": total / tokens, "valid_bpb": total / math.log(2) / sum(text.values())}
    return overall | {f"valid_bpb/{name}": value for name, value in bits.items()}


def test_one_process_from_start_to_refusals(tmp_path: Path) -> None:
    words = write_inputs(tmp_path)
    calls: list[dict[str, Any]] = [
        {"words": words, "stop_at": 1},
        {"words": words},
        {"words": words},
        {"words": [*words, "train.log_every=1", "train.save_every=1", "train.num_threads=2", "train.keep_last=7"]},
        {"words": [*words, "train.learning_rate=1e-4", "model.residual=prenorm"]},
        {"words": [*words, f"out={tmp_path}/straight", "train.seed=2"], "stop_at": 0},
        {"words": [*words, f"out={tmp_path}/straight"]},
        {"words": [*words, f"out={tmp_path}/straight", "force=true"]},
        {"words": [*words, f"out={tmp_path}/small", "model.vocab_size=100"]},
        {"words": [*words, f"out={tmp_path}/often", "train.steps=4000"]},
        {"words": [*words, f"shards={tmp_path}/nowhere"]},
    ]
    stopped, resumed, again, logging, changed, *others = command_lines(tmp_path, calls)
    begun, refused, straight, small, often, absent = others
    assert stopped["code"] == 0 and "stopped on request and saved at step 2" in stopped["out"]
    assert resumed["code"] == 0 and f"resuming from {tmp_path}/pretrain/{folder_name(2)}" in resumed["out"]
    assert [c["code"] for c in (again, logging)] == [0, 0]
    assert "done before, nothing to do" in again["out"] and "done before, nothing to do" in logging["out"]
    assert changed["code"] == 2 and "config.train.learning_rate: 0.002 -> 0.0001" in changed["err"]
    assert 'config.model.residual: "deepnorm" -> "prenorm"' in changed["err"] and "force=true" in changed["err"]
    assert straight["code"] == 0 and "short has" in straight["out"] and "web-zh" in straight["out"]
    assert small["code"] == 2 and "model.vocab_size 100 is less than the" in small["err"]
    assert often["code"] == 2 and "epochs, more than max_epochs=40" in often["err"]
    assert absent["code"] == 2 and "python -m data_pipeline shard" in absent["err"]
    assert begun["code"] == 0 and refused["code"] == 2 and "config.train.seed: 2 -> 1" in refused["err"]
    assert "recomputing it" in straight["out"] and "resuming" not in straight["out"]

    runs = [tmp_path / "pretrain", tmp_path / "straight"]
    lines = [[{**m, "tokens_per_second": 0} for m in read_metrics(run / "metrics.jsonl")] for run in runs]
    assert lines[0] == lines[1] and len(lines[0]) == 4 + 2
    run = runs[1]
    meta = json.loads((run / "meta.json").read_text(encoding="utf-8"))
    assert meta["counts"]["out"] == 4 and meta["counts"]["in"] == 4 * 8 * SEQ_LEN
    assert meta["counts"]["checkpoint"] == folder_name(4) and meta["counts"]["world"] == 1
    model, settings = restore(run / folder_name(4), run)
    assert settings.model.vocab_size == model.config.vocab_size == meta["config"]["model"]["vocab_size"]
    expected = plain_validation(model, tmp_path, load_tokenizer(tmp_path / "tokenizer"))
    found = {name: value for name, value in meta["counts"].items() if name.startswith("valid")}
    assert found == pytest.approx(expected, rel=1e-6)
    assert read_metrics(run / "metrics.jsonl")[-1] == {"step": 4, **found}


def test_two_processes(tmp_path: Path) -> None:
    """Validation text does not divide evenly by them, which under ZeRO-3 must not leave one waiting."""
    words = [*write_inputs(tmp_path), "train.micro_batch_size=1"]
    calls: list[dict[str, Any]] = [
        {"words": [*words, f"out={tmp_path}/{zero}", f"train.zero_stage={zero}"]} for zero in (1, 3)
    ]
    calls.append({"words": [*words, "train.batch_size=6", "train.micro_batch_size=2"]})
    calls.append({"words": words, "stop_at": 0})
    *runs, uneven, stopped = command_lines(tmp_path, calls, world=2)
    assert uneven["code"] == 2 and "batch_size 6 is no multiple of micro_batch_size x 2 processes" in uneven["err"]
    assert stopped["code"] == 0 and latest(tmp_path / "pretrain") == tmp_path / "pretrain" / folder_name(1)
    assert {name: len(Shards(tmp_path / "shards" / name / "valid", SEQ_LEN)) for name in VALID} == VALID
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    for call, zero in zip(runs, (1, 3), strict=True):
        run = tmp_path / f"{zero}"
        counts = json.loads((run / "meta.json").read_text(encoding="utf-8"))["counts"]
        settings = load(PretrainConfig, run / "config.yaml")
        model = MindLLM(settings.model)
        model.load_state_dict(load_weights(run / folder_name(4), zero))
        found = {name: value for name, value in counts.items() if name.startswith("valid")}
        assert call["code"] == 0 and counts["world"] == 2 and counts["zero_stage"] == zero
        assert found == pytest.approx(plain_validation(model, tmp_path, tokenizer), rel=1e-6)
    (other,) = command_lines(tmp_path, [{"words": words}])
    assert other["code"] == 2 and "belongs to another run" in other["err"] and "world: 2 -> 1" in other["err"]


def test_the_shipped_config_loads_and_identity_leaves_out_logging() -> None:
    config = load(PretrainConfig, TINY)
    named = [f"train.{name}=3" for name in ("log_every", "eval_every", "save_every", "keep_last", "num_threads")]
    elsewhere = ["run=elsewhere", "out=x", "shards=y", "force=true", "max_epochs=9"]
    assert identity(load(PretrainConfig, TINY, [*named, *elsewhere])) == identity(config)
    assert config == load(PretrainConfig, TINY), "identity must not change the config itself"
    for change in ("seq_len=7", "train.steps=9999", "train.seed=99", "train.zero_stage=2", "model.residual=prenorm",
                   "phases.0.weights.zh=1", "valid_samples=3", "train.deepspeed.prescale_gradients=true"):  # fmt: skip
        assert identity(load(PretrainConfig, TINY, [change])) != identity(config), change


def test_bad_settings_are_named() -> None:
    def problems(*overrides: str) -> str:
        with pytest.raises(UserError) as error:
            load(PretrainConfig, TINY, overrides)
        return str(error.value)

    assert "seq_len: 99999 is not between 1 and model.max_position_embeddings" in problems("seq_len=99999")
    assert "phases: at least one" in problems("phases=[]") and "valid_samples" in problems("valid_samples=0")
    assert "every phase but the last needs until_step" in problems("phases=[{}, {}]")
    assert "the last must not have one" in problems("phases=[{until_step: 5}]")
    assert "until_step must grow" in problems("phases=[{until_step: 5}, {until_step: 5}, {}]")
    assert "did you mean 'learning_rate'" in problems("train.learningrate=1")


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    write_shards(tmp_path / "shards", tokenizer, {"web-zh/train": CHINESE})
    assert list(open_sources(tmp_path / "shards", "train", 8, tokenizer)) == ["web-zh"]
    assert open_sources(tmp_path / "shards", "train", 900, tokenizer) == {}
    tokenizer.fingerprint = "0" * 16
    with pytest.raises(UserError, match="written with tokenizer .* not 0000000000000000"):
        open_sources(tmp_path / "shards", "train", 8, tokenizer)
