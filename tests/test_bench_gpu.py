"""The GPU benches, as far as a CPU reaches: tiny shapes, the optimizer's arithmetic, memory that runs out, parity."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import deepnorm  # noqa: E402
import gpu  # noqa: E402
import gpu_parity as parity  # noqa: E402
import gpu_step  # noqa: E402

from mindllm.models import MODELS  # noqa: E402

CPU = torch.device("cpu")


def options(*words: str) -> argparse.Namespace:
    """Of one case, tiny and on the CPU."""
    given = ["--shape", "tiny", "--device", "cpu", "--seq-len", "32", "--steps", "2", "--warmup", "1", "--no-compile"]
    return gpu_step.arguments().parse_args([*given, *words])


@pytest.mark.parametrize("shape", ["tiny", "tiny-neo"])
def test_both_sides_are_the_same_shape(shape: str) -> None:
    counters.clear()  # tests before this one may have compiled something in this process
    ours, theirs = (gpu_step.run(options("--shape", shape, "--side", side, "--micro-batch", "2"))
                    for side in gpu_step.SIDES)  # fmt: skip
    for found in (ours, theirs):
        assert found["micro_batch"] == 2 and len(found["step_seconds"]) == 2 and found["tokens_per_second"] > 0
        assert found["mfu"] is None and found["peak_gib"] is None and found["graphs"] == 0
        assert math.isfinite(found["loss"]) and abs(found["loss"] - math.log(256)) < 0.5
    assert ours["parameters"] == theirs["parameters"] and ours["flops_per_token"] == theirs["flops_per_token"]


def test_accumulation_and_recomputation_change_no_loss() -> None:
    runs = [gpu_step.run(options("--micro-batch", str(4 // n), "--accumulation", str(n), "--recompute", layers))
            for n, layers in ((1, "0"), (2, "0"), (2, "-1"))]  # fmt: skip
    assert len({run["flops_per_token"] for run in runs}) == 1
    assert [run["loss"] for run in runs] == pytest.approx([runs[0]["loss"]] * 3, abs=0.01)


@pytest.mark.parametrize("num_micro_batches", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_the_optimizer_is_adamw_with_clipping(num_micro_batches: int, scale: float) -> None:
    """In fp32, where masters and weights are the same numbers, against torch's own on summed gradients."""
    torch.manual_seed(1)
    ours, theirs = (nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    decayed, others = ([p for p in theirs.parameters() if (p.dim() > 1) == wide] for wide in (True, False))
    reference = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=3e-4, betas=(0.9, 0.95))  # fmt: skip
    optimizer = gpu_step.MasterAdamW(ours, num_micro_batches)
    for _ in range(3):
        for _ in range(num_micro_batches):
            x = torch.randn(4, 5)
            for model in (ours, theirs):
                (model(x).pow(3).sum() * scale).backward()
            optimizer.add()
        optimizer.step()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), gpu_step.MAX_GRAD_NORM)
        reference.step()
        reference.zero_grad()
    assert all(p.grad is None for p in ours.parameters())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_masters_remember_what_bf16_cannot() -> None:
    model = nn.Linear(64, 64).to(torch.bfloat16)
    before, optimizer = model.weight.detach().clone(), gpu_step.MasterAdamW(model, 1)
    for _ in range(4):
        model(torch.ones(2, 64, dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
    assert torch.equal(model.weight, optimizer.masters[0].bfloat16()) and not torch.equal(model.weight, before)
    assert not torch.equal(optimizer.masters[0], model.weight.float())
    assert sorted(i for part, _ in optimizer.parts for i in part) == [0, 1]


def test_micro_batches_are_tried_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    measure = gpu_step.measure

    def short_of_memory(side: Any, given: argparse.Namespace, micro_batch: int, vocab_size: int) -> dict[str, Any]:
        tried.append(micro_batch)
        if micro_batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(side, given, micro_batch, vocab_size)

    monkeypatch.setattr(gpu_step, "measure", short_of_memory)
    assert gpu_step.run(options("--micro-batch", "8"))["micro_batch"] == 2 and tried == [8, 4, 2]

    def always(*_: Any) -> dict[str, Any]:
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")

    monkeypatch.setattr(gpu_step, "measure", always)
    assert gpu_step.run(options()) == {"failed": "out of memory"}

    def broken(*_: Any) -> dict[str, Any]:
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(gpu_step, "measure", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        gpu_step.run(options())


def test_mfu_is_of_the_given_peak() -> None:
    given = argparse.Namespace(accumulation=2, seq_len=10, peak_tflops=1e-6, device="cuda")
    config = gpu_step.SHAPES["tiny"].config
    found = gpu_step._rates({"micro_batch": 3, "step_seconds": [1.0, 2.0, 30.0]}, config, given)
    assert found["tokens_per_second"] == 30 and found["mfu"] == round(30 * found["flops_per_token"] / 1e6, 4)


def test_the_large_shapes() -> None:
    """Parameters on the meta device: 1.3B, 1.3B and 3.1B."""
    found = {}
    for name in gpu.LARGE:
        config = gpu_step.SHAPES[name].config
        assert config.vocab_size % 128 == 0
        with torch.device("meta"):
            found[name] = sum(p.numel() for p in MODELS[config.model_type](config).parameters())
    assert found["gpt-neo-1.3b"] == 1_315_575_808 + (50304 - 50257) * 2048
    assert 1.30e9 < found["mindllm-1.3b"] < 1.33e9 and 3.05e9 < found["mindllm-3.1b"] < 3.15e9


def test_the_whole_script_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.jsonl"
    words = ["--cpu", "--shapes", "tiny", "--sides", "mindllm", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    assert gpu.main() == 0
    (line,) = map(json.loads, out.read_text().splitlines())
    assert line["shape"] == "tiny" and line["seq_len"] == 64 and line["micro_batch"] == 2
    shown = capsys.readouterr().out
    assert f"{line['tokens_per_second']:,}" in shown and "n/a" in shown


def test_a_case_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    case, given = {"shape": "a", "seq_len": 8, "side": "mindllm"}, argparse.Namespace()
    for code, reason in (
        ("import sys; sys.exit('no such [kernel]')", "no such [kernel]"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed (main memory?)"),
        ("import time; time.sleep(60)", "out of time"),
        ('print(\'{"failed": "out of memory"}\')', "out of memory"),
    ):
        monkeypatch.setattr(gpu, "command", lambda case, options, code=code: [sys.executable, "-c", code])
        assert gpu.run_case(case, given, 0.5 if "sleep" in code else None) == case | {"failed": reason}
    about = {"micro_batch": 1, "mfu": 0.5, "peak_gib": 1.0, "step_seconds": [1.0], "warmup_seconds": 1.0,
             "attention": "x [y]", "device": "GPU", "torch": "2"}  # fmt: skip
    rows = [{"shape": "a", "seq_len": 8, "side": side, "tokens_per_second": rate, **about}
            for side, rate in (("mindllm", 300), ("hf", 200))]  # fmt: skip
    gpu.print_table([*rows, case | about | {"failed": "out of memory [x]"}])
    shown = capsys.readouterr().out
    assert "1.50" in shown and "50.0%" in shown and "out of memory [x]" in shown and "x [y]" in shown


def test_every_case_has_both_sides() -> None:
    given = argparse.Namespace(cpu=False, quick=False, shapes=None, seq_lens=None, sides=["mindllm", "hf"])
    found = list(gpu.cases(given))
    assert len(found) == 12 and {c["seq_len"] for c in found} == {2048, 8192}
    assert [c["side"] for c in found] == ["mindllm", "hf"] * 6


@pytest.mark.parametrize("dtype", parity.PRECISIONS)
@pytest.mark.parametrize("call", list(parity.attention_calls(CPU))[::5], ids=lambda call: call.name)
def test_parity_of_attention(call: parity.Attention, dtype: torch.dtype) -> None:
    paths = parity.paths_for(call, dtype, CPU)
    assert {"", "table", "blocks"} <= {*paths}
    for path in paths:
        found = parity.check_attention(call, path, dtype, CPU)
        assert found.good, found


def test_every_path_of_a_gpu_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity.flash, "usable", lambda: True)
    gpu_device, seen = torch.device("cuda"), set()
    for call in parity.attention_calls(CPU):
        paths = parity.paths_for(call, torch.bfloat16, gpu_device)
        assert "blocks" not in paths and ("flash" in paths) == (call.mask.prefix is None and call.mask.padding is None)
        seen |= {*paths}
    assert seen == {"", *parity.PATHS} - {"blocks"}


@pytest.mark.parametrize("dtype", parity.PRECISIONS)
def test_parity_of_the_loss(dtype: torch.dtype) -> None:
    for z_loss, chunked in ((0.0, False), (0.01, True)):
        found = parity.check_loss(z_loss, 300, chunked, dtype, CPU)
        assert found.good, found


def test_parity_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def without_z(x: Tensor, w: Tensor, labels: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
        return right_loss(x, w, labels, 0.0)

    right_loss = parity.next_token_loss
    with monkeypatch.context() as change:
        change.setattr(parity, "next_token_loss", without_z)
        assert not any(parity.check_loss(0.01, 300, False, dtype, CPU).good for dtype in parity.PRECISIONS)
    calls = {call.name: call for call in parity.attention_calls(CPU)}
    right = parity.attend

    def blind(q: Tensor, k: Tensor, v: Tensor, mask: parity.Mask, **given: Any) -> Tensor:
        return right(q, k, v, **given)

    def off_by_one(q: Tensor, k: Tensor, v: Tensor, mask: parity.Mask, *, window: int, **given: Any) -> Tensor:
        return right(q, k, v, mask, window=window and window + 1, **given)

    def not_a_number(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Tensor:
        return right(q, k, v) * float("nan")

    for kernel, name in ((blind, "documents"), (off_by_one, "window 64"), (not_a_number, "causal")):
        monkeypatch.setattr(parity, "attend", kernel)
        for dtype in parity.PRECISIONS:
            assert not parity.check_attention(calls[name], "", dtype, CPU).good

    def missing(*_: Any, **__: Any) -> Tensor:
        raise NotImplementedError("no kernel [x]")

    monkeypatch.setattr(parity, "attend", missing)
    monkeypatch.setattr(parity, "attention_calls", lambda device: [calls["causal"]])
    monkeypatch.setattr(parity, "check_loss", missing)
    monkeypatch.setattr(sys, "argv", ["gpu_parity.py", "--device", "cpu"])
    assert parity.main() == 1
    shown = capsys.readouterr().out
    assert "no kernel [x]" in shown and "no GPU" in shown


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parity_on_the_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_parity.py"])
    assert parity.main() == 0, capsys.readouterr().out


def test_the_three_residuals() -> None:
    """Post-norm is x = norm(x + f(x)) with Xavier's gain of 1; DeepNorm's matrices are smaller by beta."""
    built = {kind: deepnorm.build(kind, 3, 1) for kind in deepnorm.KINDS}
    plain, deep = (dict(built[kind].named_parameters()) for kind in ("post-norm", "DeepNorm"))
    for name, weight in plain.items():
        smaller = any(part in name for part in ("v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
        torch.testing.assert_close(weight * (24**-0.25 if smaller else 1.0), deep[name])
    down = plain["model.layers.0.mlp.down_proj.weight"]
    assert down.std().item() == pytest.approx(math.sqrt(2 / (64 + 176)), rel=0.05)
    assert [layer.scale for layer in built["post-norm"].decoder_layers()] == [1.0] * 3
    assert built["DeepNorm"].decoder_layers()[0].scale == 6**0.25
    assert {built[kind].config.residual for kind in ("post-norm", "pre-norm")} == {"deepnorm", "prenorm"}


def test_the_depth_experiment_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = deepnorm.read_bytes()
    assert "的".encode() in text.tobytes() and b" the " in text.tobytes() and 3 < deepnorm.entropy(text) < 5
    monkeypatch.setattr(deepnorm, "run", lambda jobs, processes: {job: deepnorm.train(job) for job in jobs})
    words = ["--layers", "2", "--steps", "3", "--rates", "1e-3", "--out", str(tmp_path / "plot.png")]
    monkeypatch.setattr(sys, "argv", ["deepnorm.py", *words])
    threads = torch.get_num_threads()
    try:
        assert deepnorm.main() == 0
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert all(kind in shown for kind in deepnorm.KINDS)


def test_a_run_that_breaks_off_has_no_result() -> None:
    assert deepnorm.result(deepnorm.Curve([2.0, float("nan")], [1.0, 1.0]), 2) == math.inf
    assert deepnorm.result(deepnorm.Curve([2.0], [1.0]), 2) == math.inf
    assert deepnorm.result(deepnorm.Curve([float(n) for n in range(40)], [1.0] * 40), 40) == 29.5
