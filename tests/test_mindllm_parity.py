"""The decoder against stock transformers, logits and gradients: Llama, Qwen2, Gemma, MiniMax; padding, caches, bf16.

Weights are renamed by hand here, so that a mistake of mindllm/hf cannot hide one of the model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from mindllm.attention import Mask
from mindllm.models.mindllm import MindLLM, MindLLMConfig

TINY = MindLLMConfig(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rope_theta=500.0, initializer_range=0.1, residual="prenorm",
)  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {  # what stock class it is, how our config differs
    "llama": ("Llama", {"hidden_act": "silu"}),
    "llama-geglu": ("Llama", {}),
    "llama-tied-one-key": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "llama3-rope": ("Llama", {"hidden_act": "silu", "rope_scaling": LLAMA3, "rope_theta": 50.0}),
    "llama-linear-rope": ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
    "llama-head-dim": ("Llama", {"head_dim": 12}),
    "qwen2": ("Qwen2", {"hidden_act": "silu", "qkv_bias": True}),
    "qwen2-tied": ("Qwen2", {"hidden_act": "silu", "qkv_bias": True, "tie_word_embeddings": True}),
    "gemma": ("Gemma", {"tie_word_embeddings": True, "head_dim": 16}),
    "minimax": ("MiniMax", {"residual": "deepnorm"}),
    "minimax-silu": ("MiniMax", {"residual": "deepnorm", "hidden_act": "silu", "head_dim": 10}),
    "minimax-llama3-rope": ("MiniMax", {"residual": "deepnorm", "rope_scaling": LLAMA3, "rope_theta": 50.0}),
}
each = pytest.mark.parametrize("case", CASES)


def build(case: str) -> tuple[MindLLM, Any]:
    """Ours, with weights that hide no mistake (norms far from 1, biases far from 0), and theirs with the same."""
    stock, changes = CASES[case]
    torch.manual_seed(1)
    ours = MindLLM(replace(TINY, **changes))
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            if name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    c = ours.config
    extra: dict[str, Any] = {}
    if stock == "MiniMax":
        factors = {f"{kind}_alpha_factor": c.residual_scale for kind in ("full_attn", "mlp")}
        extra = factors | {f"{kind}_beta_factor": 1.0 for kind in ("full_attn", "mlp")}
        extra |= {"layer_types": ["full_attention"] * 3, "num_local_experts": 1, "num_experts_per_tok": 1}
    config = getattr(transformers, f"{stock}Config")(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=c.num_key_value_heads, head_dim=c.head_size, hidden_act=c.hidden_act,
        max_position_embeddings=128, rms_norm_eps=c.rms_norm_eps, tie_word_embeddings=c.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta, **c.rope_scaling},
        pad_token_id=None, bos_token_id=0, eos_token_id=1, **extra,
    )  # fmt: skip
    theirs = getattr(transformers, f"{stock}ForCausalLM")(config).eval()
    weights = rename(stock, {k: v.detach() for k, v in ours.state_dict().items()}, scale=32**0.5)
    if stock == "MiniMax":
        weights |= {f"model.layers.{i}.mlp.gate.weight": torch.zeros(1, 32) for i in range(3)}  # picks one of one
    theirs.load_state_dict(weights)
    return ours, theirs


def rename(stock: str, weights: dict[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
    """Our names and values as a stock class has them. Gemma multiplies embeddings by sqrt(C), norms by 1 + weight."""
    if stock == "Gemma":
        last = {"model.norm.weight": weights["model.norm.weight"] * scale - 1}
        weights = {k: v - 1 if "layernorm" in k else v / scale if "embed" in k or "lm_head" in k else v
                   for k, v in weights.items()} | last  # fmt: skip
    if stock == "MiniMax":
        for name in [k for k in weights if ".mlp.gate_proj" in k]:
            gate, up, down = (weights.pop(name.replace("gate_proj", f"{p}_proj")) for p in ("gate", "up", "down"))
            experts = name.split("gate_proj")[0] + "experts."
            weights |= {experts + "gate_up_proj": torch.cat([gate, up])[None], experts + "down_proj": down[None]}
    return weights


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@each
def test_logits_and_gradients(case: str) -> None:
    ours, theirs = build(case)
    tokens = torch.randint(97, (2, 51), generator=torch.Generator().manual_seed(2))
    ids, labels = tokens[:, :-1], tokens[:, 1:]
    logits = theirs(ids).logits
    close(ours(ids), logits)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    total, nll = ours(ids, labels=labels)
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(total, nll)
    (total / labels.numel()).backward()
    (expected / labels.numel()).backward()
    found = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert len(found) == len(list(ours.named_parameters()))
    stock = CASES[case][0]
    if stock == "Gemma":  # by the chain rule: theirs is a weight divided or multiplied
        scale = 32**0.5
        found = {k: v / scale if k == "model.norm.weight" else v * scale if "embed" in k else v
                 for k, v in found.items()}  # fmt: skip
    found = rename("" if stock == "Gemma" else stock, found)
    right = {k: p.grad for k, p in theirs.named_parameters() if ".mlp.gate.weight" not in k}
    assert found.keys() == right.keys()
    for name, gradient in found.items():
        distance = float((gradient - right[name]).norm())
        assert distance < 1e-5 * float(right[name].norm()) + 1e-7, name


@each
def test_left_padding_equals_theirs_under_a_2d_mask(case: str) -> None:
    ours, theirs = build(case)
    padding, T = torch.tensor([0, 7, 3]), 20
    ids = torch.randint(97, (3, T), generator=torch.Generator().manual_seed(3))
    kept = torch.arange(T) >= padding[:, None]
    positions = (torch.arange(T) - padding[:, None]).clamp(min=0)
    with torch.no_grad():
        right = theirs(ids, attention_mask=kept.long(), position_ids=positions).logits
        found = ours(ids, mask=Mask(padding=padding), position_ids=positions)
        close(found[kept], right[kept])
        for row, pad in enumerate(padding.tolist()):  # and equals the text without padding
            close(found[row, pad:], ours(ids[row : row + 1, pad:])[0])


@each
def test_positions_far_away_equal_theirs(case: str) -> None:
    ours, theirs = build(case)
    ids, positions = torch.randint(97, (2, 10)), torch.arange(10) + torch.tensor([[0], [90]])
    with torch.no_grad():
        close(ours(ids, position_ids=positions), theirs(ids, position_ids=positions).logits)


@pytest.mark.parametrize("case", ["llama-geglu", "qwen2", "minimax"])
def test_bf16_weights_are_as_near_as_theirs(case: str) -> None:
    """In bf16 the two round at other places: ours must not be further from fp32 than theirs is."""
    ours, theirs = build(case)
    ids = torch.randint(97, (4, 40), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        right = theirs(ids).logits
        found, other = (m.to(torch.bfloat16)(ids) for m in (ours, theirs))
    ours_off, theirs_off = ((x.float() - right).norm() / right.norm() for x in (found, other.logits))
    assert found.dtype == torch.bfloat16 and float(ours_off) < 1.2 * float(theirs_off) < 0.05


@pytest.mark.parametrize("case", ["llama-geglu", "qwen2", "minimax"])
def test_autocast_is_as_near_as_theirs(case: str) -> None:
    ours, theirs = build(case)
    ids = torch.randint(97, (4, 40), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        right = theirs(ids).logits
        with torch.autocast("cpu", torch.bfloat16):
            found, other = ours(ids), theirs(ids).logits
            assert ours.hidden_states(ids).dtype == torch.float32
    ours_off, theirs_off = ((x.float() - right).norm() / right.norm() for x in (found, other))
    assert float(ours_off) < 1.2 * float(theirs_off) < 0.05
