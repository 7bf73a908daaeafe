"""The decoder's size, start and config: parameters of large models, DeepNet's initialisation, every problem named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mindllm.config import UserError, load
from mindllm.models import MODELS
from mindllm.models.mindllm import MindLLM, MindLLMConfig
from mindllm.models.shapes import num_non_embedding

TINY = MindLLMConfig(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=24, rope_theta=500.0, initializer_range=0.1,
)  # fmt: skip


def build(**changes: object) -> MindLLM:
    torch.manual_seed(1)
    return MindLLM(replace(TINY, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("keys", [2, 4])
def test_number_of_parameters(tied: bool, keys: int) -> None:
    V, C, N, I, D = 97, 32, 3, 48, 8  # noqa: E741  as in the formula
    layer = 2 * C * C + 2 * C * keys * D + 3 * C * I + 2 * C
    expected = V * C * (1 if tied else 2) + N * layer + C
    assert build(tie_word_embeddings=tied, num_key_value_heads=keys).num_parameters() == expected


def spread(residual: str) -> dict[str, float]:
    """Standard deviation of the initial weights by kind, over 4 layers wide enough to measure it."""
    torch.manual_seed(3)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "initializer_range": 0.02}
    model = MindLLM(replace(TINY, residual=residual, vocab_size=500, **shape))  # type: ignore[arg-type]
    found: dict[str, list[torch.Tensor]] = {}
    for name, weight in model.named_parameters():
        found.setdefault(name.split(".")[-2], []).append(weight.detach().flatten())
    return {kind: float(torch.cat(weights).std()) for kind, weights in found.items() if "norm" not in kind}


def test_deepnorm_starts_as_in_the_paper() -> None:
    """arXiv 2203.00555, section 4 and figure 2 (decoder only): Xavier with gain beta on all but query and key."""
    beta = (8 * 4) ** -0.25
    assert MindLLMConfig(num_hidden_layers=4).residual_scale == (2 * 4) ** 0.25
    assert MindLLMConfig(num_hidden_layers=4, residual="prenorm").residual_scale == 1
    square, keys, wide = (math.sqrt(2 / (128 + n)) for n in (128, 64, 256))
    expected = {"q_proj": square, "k_proj": keys, "v_proj": beta * keys, "o_proj": beta * square,
                "gate_proj": beta * wide, "up_proj": beta * wide, "down_proj": beta * wide,
                "embed_tokens": 0.02, "lm_head": 0.02}  # fmt: skip
    assert spread("deepnorm") == pytest.approx(expected, rel=0.02)


def test_prenorm_starts_as_gpt2() -> None:
    """Section 2.3 there: 0.02, and what goes into the residual stream divided by the root of its 2N additions."""
    expected = dict.fromkeys(["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head"], 0.02)
    expected |= dict.fromkeys(["o_proj", "down_proj"], 0.02 / math.sqrt(8))
    assert spread("prenorm") == pytest.approx(expected, rel=0.02)


def test_biases_start_at_zero_and_exist_on_q_k_v_only() -> None:
    model = build(residual="prenorm", qkv_bias=True)
    biases = {name: p for name, p in model.named_parameters() if name.endswith("bias")}
    assert {name.split(".")[-2] for name in biases} == {"q_proj", "k_proj", "v_proj"} and len(biases) == 9
    assert not any(p.any() for p in biases.values())
    assert not [name for name, _ in build().named_parameters() if name.endswith("bias")]


def test_a_tied_head_is_the_embedding() -> None:
    tied, untied = build(tie_word_embeddings=True), build()
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight
    tied(torch.tensor([[3, 4]]), labels=torch.tensor([[4, 5]]))[0].backward()
    gradient = tied.lm_head.weight.grad
    assert gradient is not None and gradient.any(dim=1).all(), "every row is in the head's softmax"


LARGE: dict[str, tuple[int, int, dict[str, Any]]] = {  # lowest, highest number of parameters, shape
    "3b": (3_050_000_000, 3_150_000_000, {
        "vocab_size": 125_700, "hidden_size": 2560, "num_hidden_layers": 31, "intermediate_size": 6912,
        "num_attention_heads": 20, "num_key_value_heads": 20}),
    "3b-tied": (3_050_000_000, 3_150_000_000, {
        "vocab_size": 125_700, "hidden_size": 3072, "num_hidden_layers": 24, "intermediate_size": 8192,
        "num_attention_heads": 24, "num_key_value_heads": 24, "tie_word_embeddings": True}),
    "1.3b": (1_300_000_000, 1_340_000_000, {  # as wide and deep as GPT-Neo-1.3B
        "vocab_size": 50_257, "hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 5504,
        "num_attention_heads": 16, "num_key_value_heads": 16, "tie_word_embeddings": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_large_models_are_counted_without_memory(name: str) -> None:
    low, high, shape = LARGE[name]
    config = MindLLMConfig(**shape, max_position_embeddings=2048)
    with torch.device("meta"):
        model = MindLLM(config)
    assert low <= model.num_parameters() <= high and list(config.problems()) == []
    assert all(p.is_meta for p in model.parameters())
    head = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    assert model.num_parameters() == num_non_embedding(config) + head


def test_the_3b_has_3_102_billion() -> None:
    with torch.device("meta"):
        assert MindLLM(MindLLMConfig(**LARGE["3b"][2])).num_parameters() == 3_102_000_640


def test_all_problems_of_a_config_at_once() -> None:
    overrides = ["hidden_size=30", "num_attention_heads=4", "num_key_value_heads=3", "num_hidden_layers=0",
                 "residual=postnorm", "rope_theta=0", "vocab_size=-1", "hiden_size=3", "head_dim=-2", "hidden_act=relu",
                 "rms_norm_eps=.inf", "rope_scaling={rope_type: yarn}", "max_position_embeddings=0",
                 "intermediate_size=-4"]  # fmt: skip
    with pytest.raises(UserError, match="13 problem") as error:
        load(MindLLMConfig, None, overrides)
    text = str(error.value)
    assert "did you mean 'hidden_size'" in text and "deepnorm, prenorm" in text and "gelu_pytorch_tanh, silu" in text
    for name in ("num_hidden_layers: must", "vocab_size", "rope_theta", "rms_norm_eps", "head_dim: must",
                 "max_position_embeddings: must", "rope_type must", "heads: 4", "size: 30"):  # fmt: skip
        assert name in text


@pytest.mark.parametrize(("overrides", "message"), [
    (["hidden_size=28"], "hidden_size / num_attention_heads: RoPE needs an even head dimension, not 7"),
    (["head_dim=7"], "head_dim: RoPE needs an even head dimension, not 7"),
    (["hidden_size=30"], "hidden_size: 30 does not divide by num_attention_heads 4; or give head_dim"),
    (["num_key_value_heads=3"], "num_attention_heads: 4 is no multiple of num_key_value_heads 3"),
    (["num_attention_heads=0"], "num_attention_heads: must be at least 1"),
    (["qkv_bias=true"], "qkv_bias: only with residual: prenorm"),
    (["rms_norm_eps=.nan"], "rms_norm_eps: must be above 0, and finite"),
    (["rope_scaling={rope_type: linear, factr: 2}"], "rope_scaling.factr: unknown; linear takes factor"),
    (["vocab_multiple=0"], "vocab_multiple: must be at least 1"),
])  # fmt: skip
def test_a_config_that_cannot_be_built(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        load(MindLLMConfig, None, overrides)
    assert message in str(error.value)


@pytest.mark.parametrize("overrides", [
    ["hidden_size=30", "head_dim=16"], ["qkv_bias=true", "residual=prenorm", "hidden_act=silu"],
    ["rope_scaling={rope_type: linear, factor: 4.0}"], ["num_key_value_heads=1"],
])  # fmt: skip
def test_a_config_that_can(overrides: list[str]) -> None:
    config = load(MindLLMConfig, None, [*overrides, "vocab_size=50", "num_hidden_layers=1", "intermediate_size=16"])
    assert MindLLM(config)(torch.randint(50, (1, 3))).shape == (1, 3, 50) and MODELS["mindllm"] is MindLLM
