"""Metrics: the file of a resumed run reads like that of an undisturbed one; MFU is counted, or not given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mindllm import metrics
from mindllm.metrics import Metrics, flops_per_token, peak_tflops, read_metrics
from mindllm.models.mindllm import MindLLM, MindLLMConfig


def log(out: Path | None, start: int, stop: int, show: bool = False) -> None:
    """Steps start + 1 to stop of ten, a validation every second."""
    with Metrics(out, start, 10, flops_per_token=1e6, world=2) as writer:
        for step in range(start + 1, stop + 1):
            writer.step(
                step, {"loss": 1 / step, "z_loss": 0.0}, 1e-3, 0.1 + 0.2, tokens=100, total_tokens=100 * step, show=show
            )
            if step % 2 == 0:
                writer.valid(step, {"valid_loss": 1 / 3, "valid_bpb/web-zh": 0.7})
                writer.restart_clock()


def without_rate(path: Path) -> list[dict[str, float]]:
    """The lines, but for what a clock says."""
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in read_metrics(path)]


def test_lines_behind_the_checkpoint_are_cut(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    log(tmp_path / "a", 0, 8)
    log(tmp_path / "b", 0, 7)
    with open(tmp_path / "b" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 8, "lo')  # killed while writing
    assert len(read_metrics(tmp_path / "b" / "metrics.jsonl")) == 7 + 3
    log(tmp_path / "b", 4, 8)
    assert without_rate(tmp_path / "a" / "metrics.jsonl") == without_rate(tmp_path / "b" / "metrics.jsonl")
    assert [line["step"] for line in read_metrics(tmp_path / "b" / "metrics.jsonl")] == [
        1,
        2,
        2,
        3,
        4,
        4,
        5,
        6,
        6,
        7,
        8,
        8,
    ]
    log(tmp_path / "b", 0, 0)
    assert (tmp_path / "b" / "metrics.jsonl").read_bytes() == b""
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_line_holds_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(tmp_path, 0, 2, show=True)
    first, _, valid = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    rate = first.pop("tokens_per_second")
    assert rate > 0 and first == {"step": 1, "loss": 1.0, "lr": 1e-3, "grad_norm": 0.1 + 0.2, "tokens": 100}
    assert valid == {"step": 2, "valid_loss": 1 / 3, "valid_bpb/web-zh": 0.7}
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("step      1/10 | loss 1.0000 | lr 1.00e-03 | norm 0.300 |")
    assert "MFU n/a" in shown[0] and shown[2] == "step      2/10 | valid_loss 0.3333 | valid_bpb/web-zh 0.7000"
    assert list((tmp_path / "tensorboard").iterdir())


def test_other_ranks_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(None, 0, 4, show=True)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def test_mfu_is_against_the_device_or_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert peak_tflops() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, peak in (("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA A100-SXM4-40GB", 312.0), ("NVIDIA T4", None)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert peak_tflops() == peak
    monkeypatch.setattr(metrics, "peak_tflops", lambda: 1e-6)  # a million FLOPs a second
    seconds = iter([0.0, 4.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    with Metrics(tmp_path, 0, 10, flops_per_token=20_000.0, world=2) as writer:
        writer.step(1, {"loss": 1.0}, 1.0, 1.0, tokens=100, total_tokens=100, show=False)
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert line["tokens_per_second"] == 25.0 and line["mfu"] == 0.25  # 25 x 20,000 of 2 x 1,000,000


@pytest.mark.parametrize("tied", [False, True])
def test_flops_equal_a_count_of_the_products(tied: bool) -> None:
    """Two FLOPs for every multiply-add of every product; backward twice forward; half of the attention is masked."""
    T, config = 24, MindLLMConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=24, tie_word_embeddings=tied,
    )  # fmt: skip
    model = MindLLM(config)
    products = sum(2 * m.in_features * m.out_features for m in model.modules() if isinstance(m, nn.Linear))
    attention = 2 * (2 * T * config.hidden_size) / 2 * config.num_hidden_layers  # scores and weighted values
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)  # counted as if they were products
    embedding = 0 if tied else 97 * 32
    found = flops_per_token(model.num_parameters(), embedding, config.num_hidden_layers, config.hidden_size, T)
    assert found == 3 * (products + attention) + 6 * norms
