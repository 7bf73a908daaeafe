"""The decoder against stock transformers: logits and gradients of both residuals, shared heads, tied head; its init."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mindllm.config import UserError, load
from mindllm.hf.export import to_huggingface
from mindllm.models import MODELS
from mindllm.models.mindllm import MindLLM, MindLLMConfig

TINY = MindLLMConfig(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=24, rope_theta=500.0, initializer_range=0.1,
)  # fmt: skip


def build(seed: int = 1, **changes: object) -> MindLLM:
    """A tiny model with weights that hide no mistake: norms far from 1."""
    torch.manual_seed(seed)
    model = MindLLM(replace(TINY, **changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("keys", [1, 2, 4])
@pytest.mark.parametrize(("residual", "stock"), [("prenorm", "LlamaForCausalLM"), ("deepnorm", "MiniMaxForCausalLM")])
def test_logits_and_gradients_equal_stock_transformers(residual: str, stock: str, keys: int, tied: bool) -> None:
    ours = build(residual=residual, num_key_value_heads=keys, tie_word_embeddings=tied)
    theirs = to_huggingface(ours.config, ours.state_dict(), eos_id=1, pad_id=2)
    assert type(theirs).__name__ == stock and theirs.config.hidden_act == "gelu_pytorch_tanh"
    tokens = torch.randint(3, 97, (2, 25))  # no padding: stock embeddings keep its gradient at zero
    ids, labels = tokens[:, :-1], tokens[:, 1:]
    logits = theirs(ids).logits
    torch.testing.assert_close(ours(ids), logits, rtol=1e-5, atol=1e-5)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    loss, _ = ours(ids, labels=labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    (loss / labels.numel()).backward()
    (expected / labels.numel()).backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        if residual == "deepnorm" and ".mlp." in name:
            gate_up = gradients[name.split(".mlp.")[0] + ".mlp.experts.gate_up_proj"][0]
            down = gradients[name.split(".mlp.")[0] + ".mlp.experts.down_proj"][0]
            gate, up = gate_up.chunk(2)
            right = {"gate_proj": gate, "up_proj": up, "down_proj": down}[name.split(".")[-2]]
        else:
            right = gradients[name]
        assert parameter.grad is not None and right is not None
        assert float((parameter.grad - right).norm()) < 1e-5 * float(right.norm()), name


@pytest.mark.parametrize("residual", ["prenorm", "deepnorm"])
def test_the_past_does_not_know_the_future(residual: str) -> None:
    model = build(residual=residual)
    ids = torch.randint(97, (1, 20))
    other = ids.clone()
    other[:, 12:] = (other[:, 12:] + 1) % 97
    before, after = model(ids), model(other)
    assert torch.equal(before[:, :12], after[:, :12]) and not torch.equal(before[:, 12:], after[:, 12:])


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
    """arXiv 2203.00555, table 1 (decoder) and figure 2: Xavier with gain beta on all but query and key."""
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


def test_norms_stay_in_fp32_under_bf16() -> None:
    model = build(residual="deepnorm").to(torch.bfloat16)
    norm = model.model.norm
    x = torch.randn(2, 5, 32).to(torch.bfloat16)
    wide = x.float() / (x.float().pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert torch.equal(norm(x), norm.weight * wide.to(torch.bfloat16))
    assert model(torch.randint(97, (1, 5))).dtype == torch.bfloat16


def test_all_problems_of_a_config_at_once() -> None:
    overrides = ["hidden_size=30", "num_attention_heads=4", "num_key_value_heads=3", "num_hidden_layers=0",
                 "residual=postnorm", "rope_theta=0", "vocab_size=-1", "hiden_size=3"]  # fmt: skip
    with pytest.raises(UserError, match="7 problem") as error:
        load(MindLLMConfig, None, overrides)
    assert "did you mean 'hidden_size'" in str(error.value) and "deepnorm, prenorm" in str(error.value)
    for name in ("num_hidden_layers: must", "vocab_size", "rope_theta", "hidden_size: 30", "num_attention_heads: 4"):
        assert name in str(error.value)
    with pytest.raises(UserError, match="even head dimension, not 7"):
        load(MindLLMConfig, None, ["hidden_size=28"])
    assert MODELS["mindllm"] is MindLLM
