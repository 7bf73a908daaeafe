"""plan=true: the numbers of every shipped recipe, what is refused, what is said where something is not there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_script import ROOT, write_inputs

from mindllm.config import UserError, load
from mindllm.metrics.flops import flops_per_token
from mindllm.mixture import Mixture
from mindllm.models import MODELS, GPTNeoConfig, MindLLMConfig
from mindllm.plan import HardwareConfig, check_batches, memory, print_plan, rows, with_vocabulary
from mindllm.plan.hardware import MEMORY_GIB, find_device
from mindllm.pretrain import PretrainConfig, shard_folders
from mindllm.tokenizer import Tokenizer
from mindllm.train.config import RampConfig, TrainConfig
from mindllm.training_data import open_sources

RECIPES = ROOT / "configs" / "pretrain"


def plan(path: Path, *words: str) -> PretrainConfig:
    """Print the plan of a config, as the command does."""
    config = load(PretrainConfig, path, list(words))

    def mixture_of(tokenizer: Tokenizer) -> Mixture:
        sources = open_sources(shard_folders(config), "train", config.seq_len, tokenizer)
        train = config.train
        return Mixture(sources, config.phases, train.sizes_of_steps(), train.steps, train.seed)

    def check(mixture: Mixture) -> None:
        mixture.check_epochs(config.max_epochs, config.max_epochs_by_source)

    assert print_plan(config, mixture_of, check) == 0
    return config


def flat(text: str) -> str:
    """Without the tables' lines, and with single blanks."""
    return " ".join(re.sub(r"[│┃━─┏┓┗┛┡┩┳┻╇┬┴├┤┌┐└┘╋┼]", " ", text).split())


def recipe(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    plan(RECIPES / f"{name}.yaml", f"run={tmp_path}", *words)
    return flat(capsys.readouterr().out)


def test_the_3b(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("hardware.gpus=8", "hardware.gpu=H100", "hardware.vocab_size=125700", "hardware.price=2.5")
    found = recipe("mindllm-3b", tmp_path, capsys, *words)
    for expected in (
        "ASSUMED: a vocabulary of 125,700",
        "31 layers, 2,560 wide, feed-forward 6,912, 20 heads of 128",
        "125,824 x 2,560 = 322,109,440",
        "31 x 79,303,680 = 2,458,414,080",
        "3,102,635,520 (3.10B; without embedding and head 2.46B)",
        "1,024 = micro-batch 4 x accumulation 32 x 8 process(es)",
        "244,121,600 samples in 238,400 steps = 499,961,036,800 (499.96B), 161.1 a parameter",
        "= 17.658G",
        "989.4 TFLOP/s x MFU 0.4 / 17.658G = 22,413; x 8 = 179,302",
        "= 774.5 hours = 32.3 days",
        "774.5 x 8 = 6,196.4",
        "6,196.4 x 2.5 = 15,491",
        "3,102,635,520 x 14 bytes = 40.5 GiB",
        "weights 5.8 + gradients 11.6 + masters 1.4 + AdamW 2.9 + activations and loss 25.2 = 46.8 GiB; it fits",
        "phases.0: steps 0 to 238,400, 499.96B tokens: weights *-en 0.75 *-zh 0.25",
        "python -m data_pipeline shard CONFIG",
    ):
        assert expected in found


def test_the_1_3b(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("hardware.gpus=64", "hardware.gpu=A100", "hardware.vocab_size=75278", "train.micro_batch_size=4")
    found = recipe("mindllm-1.3b", tmp_path, capsys, *words)
    for expected in (
        "75,328 x 2,048 + 2,048 x 2,048 positions = 158,466,048",
        "24 x 50,352,128 = 1,208,451,072",
        "1,521,192,960",
        "768 = micro-batch 4 x accumulation 3 x 64 process(es)",
        "207,000 steps = 325,582,848,000",
        "A100: 40 and 80 GB are sold, 40 GiB taken",
        "phases.1: steps 101,100 to 207,000, 166.57B tokens: weights *-en 0.5 *-zh 0.5",
    ):
        assert expected in found
    for line in found.split("plan: "):
        assert not line.startswith("memory") or "it fits into 40.0 GiB" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says without a GPU")
def test_tiny_on_a_machine_without_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = recipe("tiny", tmp_path, capsys, "hardware.gpu=")
    for expected in ("ASSUMED: a vocabulary of 4,096", "time on 1 x CPU hours n/a", "set train.peak_tflops",
                     "8 = micro-batch 4 x accumulation 2 x 1", "steps 0 to 240, 491,520 tokens: by size"):  # fmt: skip
        assert expected in found
    assert "it fits" not in found and "NOT fit" not in found
    found = recipe("tiny", tmp_path, capsys, "hardware.gpu=", "train.peak_tflops=0.1", "hardware.memory_gib=8")
    assert "0.1 TFLOP/s x MFU 0.4" in found and "it fits into 8.0 GiB" in found


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_has_a_plan(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(path, f"run={tmp_path}", "hardware.gpu=H100", f"hardware.gpus={8 if 'mindllm-' in path.stem else 1}")
    assert "it fits into 79.6 GiB" in flat(capsys.readouterr().out)


def test_mixture_and_vocabulary_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [path] = write_inputs(tmp_path)
    plan(Path(path))
    found = flat(capsys.readouterr().out)
    assert "web-zh" in found and "web-en" in found and "ASSUMED" not in found and "not be looked at" not in found
    assert re.search(r"\d+ x 32 = [\d,]+", found)
    with pytest.raises(UserError, match="max_epochs"):
        plan(Path(path), "max_epochs=0.01")
    assert "web-zh" in capsys.readouterr().out, "the table is shown before the error"
    with pytest.raises(UserError, match="model.vocab_size 100 is less than"):
        plan(Path(path), "model.vocab_size=100")


def test_a_ramp_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ramp = "train.batch_ramp=[{until_step: 10, batch_size: 4}]"
    found = recipe("tiny", tmp_path, capsys, ramp)
    assert "steps 0 to 10: 4 = micro-batch 4 x accumulation 1" in found
    assert "steps 10 to 240: 8 x 256 = 2,048" in found
    assert f"{10 * 4 + 230 * 8:,} samples in 240 steps = {(10 * 4 + 230 * 8) * 256:,}" in found


def test_only_the_first_process_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "x 2 process(es)" in recipe("tiny", tmp_path, capsys)
    monkeypatch.setenv("RANK", "1")
    assert recipe("tiny", tmp_path, capsys) == ""


def test_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = recipe("tiny", tmp_path / "[red]运行", capsys, "hardware.gpu=[bold]顯卡")
    assert "[red]运行" in found and "[bold]顯卡" in found


@pytest.mark.parametrize("size, micro, world, ways", [
    (1024, 4, 7, "= 28; what would do: batches of 1008 or 1036, or 4 processes"),
    (1024, 3, 8, "= 24; what would do: batches of 1008 or 1032, or micro_batch_size 2"),
    (6, 4, 3, "= 12; what would do: batches of 12, or micro_batch_size 2"),
])  # fmt: skip
def test_a_batch_that_does_not_divide(size: int, micro: int, world: int, ways: str) -> None:
    train = TrainConfig(batch_size=size, micro_batch_size=micro)
    with pytest.raises(UserError, match=re.escape(ways)):
        check_batches(train, world)
    with pytest.raises(UserError, match=re.escape(ways)):
        check_batches(replace(train, batch_size=micro * world, batch_ramp=[RampConfig(5, size)]), world)
    check_batches(replace(train, batch_size=3 * micro * world), world)


def test_vocabulary() -> None:
    assert with_vocabulary(MindLLMConfig(vocab_multiple=128), 125_700, "there").vocab_size == 125_824
    assert with_vocabulary(MindLLMConfig(vocab_size=500), 400, "there").vocab_size == 500
    with pytest.raises(UserError, match="300 is less than the 400 tokens of there"):
        with_vocabulary(MindLLMConfig(vocab_size=300), 400, "there")


MODELS_OF_ALL_KINDS = [
    MindLLMConfig(vocab_size=300), MindLLMConfig(vocab_size=300, tie_word_embeddings=True, num_key_value_heads=2),
    MindLLMConfig(vocab_size=300, residual="prenorm", qkv_bias=True),
    GPTNeoConfig(vocab_size=300, hidden_size=64, num_layers=3, num_heads=4),
    GPTNeoConfig(vocab_size=300, hidden_size=64, num_layers=2, num_heads=4, tie_word_embeddings=False),
]  # fmt: skip


@pytest.mark.parametrize("config", MODELS_OF_ALL_KINDS)
def test_the_arithmetic_is_that_of_the_model(config: MindLLMConfig | GPTNeoConfig) -> None:
    model = MODELS[config.model_type](config)
    sizes, seq_len = memory.sizes_of(memory.empty_model(config)), 32
    train = TrainConfig(steps=7, batch_size=8, micro_batch_size=2)
    work = rows.Work(config, sizes, seq_len, train, 2, train.sizes_of_steps(), flops_per_token(config, seq_len))
    found = dict(rows.model_rows(work))
    layers = sum(p.numel() for p in model.decoder_layers().parameters())
    tables = sum(p.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters())
    assert found["parameters"].startswith(f"{model.num_parameters():,} ")
    assert found["layers"] == f"{config.num_hidden_layers} x {layers // config.num_hidden_layers:,} = {layers:,}"
    assert found["embedding"].endswith(f" = {tables:,}")
    head = 0 if config.tie_word_embeddings else model.lm_head.weight.numel()
    assert found["head"].endswith(f"{head:,}")
    multiplied = sum(
        p.numel() for m in model.modules() if not isinstance(m, torch.nn.Embedding)
        for p in m.parameters(recurse=False) if p.dim() == 2
    )  # fmt: skip
    assert f"6 x {multiplied:,} + " in dict(rows.work_rows(work))["FLOPs a token"]
    assert work.tokens == 7 * 8 * 32


def test_devices() -> None:
    def gib(**changes: float | str) -> float | None:
        memory_bytes = find_device(HardwareConfig(**changes)).memory  # type: ignore[arg-type]
        return None if memory_bytes is None else memory_bytes / 2**30

    assert gib(gpu="H100") == gib(gpu="NVIDIA H100 80GB HBM3") - 0.4 == pytest.approx(79.6)  # type: ignore[operator]
    assert (gib(gpu="A100"), gib(gpu="A100 80GB"), gib(gpu="NVIDIA A100-SXM4-80GB")) == (40, 80, 80)
    assert (gib(gpu="H100 NVL"), gib(gpu="H200"), gib(gpu="L4"), gib(gpu="L40S")) == (93.6, 140.4, 22.5, 45.0)
    assert gib(gpu="rtx 4090") == 24 and gib(gpu="RTX 4090 Laptop GPU") is None
    assert gib(gpu="Something") is None and gib(gpu="Something", memory_gib=12.5) == 12.5
    assert find_device(HardwareConfig(gpu="A100", memory_gib=80)).notes == []
    assert find_device(HardwareConfig(gpu="Something"), 100.0).tflops == 100.0
    both = " ".join(find_device(HardwareConfig(gpu="Something")).notes)
    assert "hardware.memory_gib" in both and "train.peak_tflops" in both
    for name in MEMORY_GIB:
        found = find_device(HardwareConfig(gpu=name))
        assert found.memory == MEMORY_GIB[name] * 2**30 and found.tflops, name


def test_wrong_hardware() -> None:
    wrong = HardwareConfig(gpus=-1, memory_gib=-2, mfu=1.5, price=float("nan"), vocab_size=-1)
    assert [line.split(":")[0] for line in wrong.problems()] == ["mfu", "gpus", "memory_gib", "price", "vocab_size"]


def test_more_of_anything_takes_more_memory() -> None:
    config = MindLLMConfig(vocab_size=32_000, hidden_size=512, num_attention_heads=8, num_key_value_heads=8)
    sizes = memory.sizes_of(memory.empty_model(config))

    def total(world: int = 8, **changes: int) -> float:
        train = replace(TrainConfig(micro_batch_size=4), **changes)  # type: ignore[arg-type]
        return memory.need(config, train, 1024, world, sizes=sizes).total

    assert total(micro_batch_size=8) > total() > total(recompute_layers=3) > total(recompute_layers=-1)
    for stage in (1, 2, 3):
        assert total(1, zero_stage=stage) > total(2, zero_stage=stage) > total(64, zero_stage=stage)
    assert total(zero_stage=0) == total(64, zero_stage=0)
