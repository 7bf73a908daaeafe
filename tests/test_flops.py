"""FLOPs a token, and what devices can do: counted by torch, by hand, and looked up in datasheets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mindllm.attention import CAUSAL, Mask
from mindllm.metrics import flops, peaks
from mindllm.metrics.flops import flops_per_token, mean_keys
from mindllm.metrics.peaks import peak_of, peak_tflops
from mindllm.models import MODELS, GPTNeoConfig, MindLLMConfig, ModelConfig
from mindllm.models.norm import RMSNorm


def test_the_peak_is_the_device_s_or_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert peak_tflops() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, peak in (("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA A100-SXM4-40GB", 312.0), ("Tesla T4", None)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert peak_tflops() == peak


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA H800", 989.4),
        ("NVIDIA H800 PCIe", 756.5),
        ("NVIDIA H20", 148.0),
        ("NVIDIA H20-3e", 148.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100-PCIE-40GB", 312.0),
        ("NVIDIA A800-SXM4-80GB", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA A40", 149.7),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40", 181.05),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA L20", 119.5),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090", 71.0),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA RTX A6000", 154.8),
        ("Tesla V100-SXM2-32GB", None),  # has no bf16
        ("NVIDIA Graphics Device", None),
        ("", None),
    ],
)
def test_each_part_has_its_own_peak(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


def test_every_entry_is_found_by_its_own_name_only() -> None:
    for key, peak in peaks.PEAK_TFLOPS.items():
        assert peak_of(f"NVIDIA {key}") == peak_of(f"NVIDIA {key} 80GB") == peak
        assert peak_of(f"NVIDIA X{key}") is None and peak_of(f"NVIDIA {key.replace(' ', 'X ')}X") is None


@pytest.mark.parametrize("window", [0, 1, 5, 11, 12, 300])
def test_mean_keys_is_the_mean_of_the_mask(window: int) -> None:
    visible = CAUSAL.visible(12, 12, window)
    assert mean_keys(12, window) == pytest.approx(visible.sum().item() / 12)


T = 24
SMALL: dict[str, ModelConfig] = {
    "untied, grouped": MindLLMConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=T,
    ),
    "tied, wide heads": MindLLMConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=T, tie_word_embeddings=True, residual="prenorm",
    ),
    "biases": MindLLMConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=T, qkv_bias=True, hidden_act="silu", residual="prenorm",
    ),
    "windows": GPTNeoConfig(
        vocab_size=97, hidden_size=32, num_layers=4, num_heads=4, window_size=7, max_position_embeddings=T,
    ),
    "windows, untied": GPTNeoConfig(
        vocab_size=97, hidden_size=32, num_layers=3, num_heads=4, window_size=7, max_position_embeddings=T,
        intermediate_size=80, tie_word_embeddings=False,
    ),
}  # fmt: skip


def attend_everywhere(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask = CAUSAL, *, window: int = 0, scale: float | None = None
) -> Tensor:
    """All T x T scores, hidden or not, as products that the counter sees (it knows no kernel of ours)."""
    share = query.shape[2] // key.shape[2]
    q, k, v = query, key.repeat_interleave(share, dim=2), value.repeat_interleave(share, dim=2)
    weights = torch.einsum("bthd,bshd->bhts", q, k).softmax(dim=-1)
    return torch.einsum("bhts,bshd->bthd", weights, v)


def plain_loss(hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """The head by plain products, for the same reason."""
    loss = F.cross_entropy((hidden @ weight.T).flatten(0, 1), labels.flatten(), reduction="sum")
    return loss, loss.detach()


def norm_without_products(norm: RMSNorm, x: Tensor) -> Tensor:
    """Norms are left out of the FLOPs; ours has a product in its backward pass on a CPU."""
    return x * (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight


@pytest.mark.parametrize("shape", SMALL)
def test_flops_equal_a_count_of_the_products(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's counter over forward and backward; a counter of all scores, where ours has those that the mask leaves."""
    config, B = SMALL[shape], 2
    family = "gpt_neo" if isinstance(config, GPTNeoConfig) else "mindllm"
    monkeypatch.setattr(f"mindllm.models.{family}.attend", attend_everywhere)
    monkeypatch.setattr("mindllm.models.base.next_token_loss", plain_loss)
    monkeypatch.setattr(RMSNorm, "forward", norm_without_products)
    model = MODELS[config.model_type](config)
    tokens = torch.randint(0, 97, (B, T + 1))
    with FlopCounterMode(display=False) as counter:
        total, _ = model(tokens[:, :-1].contiguous(), labels=tokens[:, 1:].contiguous())
        total.backward()
    width, windows = flops._attention(config)
    hidden_scores = 12 * width * sum(T - mean_keys(T, window) for window in windows)
    assert counter.get_total_flops() / (B * T) == pytest.approx(flops_per_token(config, T) + hidden_scores)


def test_flops_of_the_large_models() -> None:
    """By hand: GPT-Neo-1.3B, 12 layers of 1,024.5 keys on average and 12 of a window of 256 at 2,048 tokens."""
    config = GPTNeoConfig(vocab_size=50257)
    products = 24 * 12 * 2048**2 + 50257 * 2048
    keys = 12 * 1024.5 + 12 * (256 - 256 * 255 / 4096)
    assert flops_per_token(config, 2048) == 6 * products + 12 * 2048 * keys
    untied = GPTNeoConfig(vocab_size=50257, tie_word_embeddings=False)
    assert flops_per_token(untied, 2048) == flops_per_token(config, 2048)  # the look-up multiplies nothing
    ours = MindLLMConfig(vocab_size=125700, hidden_size=2560, intermediate_size=6912, num_hidden_layers=31,
                         num_attention_heads=20, num_key_value_heads=20, max_position_embeddings=2048)  # fmt: skip
    products = 31 * (4 * 2560**2 + 3 * 2560 * 6912) + 125700 * 2560
    assert flops_per_token(ours, 2048) == 6 * products + 12 * 31 * 2560 * 1024.5
