"""Which class a model is exported as, and why not as another."""

from __future__ import annotations

from typing import Any

import pytest

from mindllm.config import UserError
from mindllm.hf.classes import choose, huggingface_config, natural, reasons_against
from mindllm.models import GPTNeoConfig, MindLLMConfig

PRE = {"residual": "prenorm", "vocab_size": 40}
DEEP = MindLLMConfig(vocab_size=40)
TIED = MindLLMConfig(**PRE, tie_word_embeddings=True)  # type: ignore[arg-type]
BIAS = MindLLMConfig(**PRE, qkv_bias=True, hidden_act="silu")  # type: ignore[arg-type]


@pytest.mark.parametrize(("config", "came_from", "expected"), [
    (DEEP, "", "minimax"), (TIED, "", "llama"), (BIAS, "", "llama"), (GPTNeoConfig(vocab_size=40), "", "gpt_neo"),
    (TIED, "gemma", "gemma"), (TIED, "llama", "llama"), (TIED, "mistral", "llama"), (BIAS, "qwen2", "llama"),
    (DEEP, "minimax", "minimax"), (TIED, "bert", "llama"),
])  # fmt: skip
def test_auto(config: Any, came_from: str, expected: str) -> None:
    assert choose("auto", came_from, config, "float32") == expected


def test_a_qwen2_stays_one_with_its_own_tokenizer() -> None:
    assert choose("auto", "qwen2", BIAS, "float32", qwen2_tokenizer=True) == "qwen2"
    assert choose("auto", "qwen2", TIED, "float32", qwen2_tokenizer=True) == "llama"  # no biases any more
    assert choose("auto", "", BIAS, "float32", qwen2_tokenizer=True) == "llama"


def test_auto_says_why_a_class_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    untied = MindLLMConfig(**PRE, hidden_act="silu")  # type: ignore[arg-type]
    assert choose("auto", "gemma", untied, "float32") == "llama"
    said = capsys.readouterr().out
    assert "not as GemmaForCausalLM" in said and "tie_word_embeddings: false" in said and "hidden_act: silu" in said


@pytest.mark.parametrize(("wanted", "config", "message"), [
    ("gemma", MindLLMConfig(**PRE, hidden_act="silu", qkv_bias=True),  # type: ignore[arg-type]
     "GemmaForCausalLM does not compute .*qkv_bias: true\n.*hidden_act: silu\n.*tie_word_embeddings: false\nLlama"),
    ("llama", DEEP, "residual: deepnorm\nMiniMaxForCausalLM computes the same: architecture=minimax"),
    ("qwen2", TIED, "qkv_bias: false\nLlamaForCausalLM"),
    ("minimax", TIED, "residual: prenorm\nLlama"), ("gpt_neo", TIED, "another family\nLlama"),
    ("gemma", GPTNeoConfig(), "another family\nGPTNeo"),
    ("auto", MindLLMConfig(qkv_bias=True), "MiniMaxForCausalLM does not compute .*\n  qkv_bias: true$"),
    ("llama", MindLLMConfig(**PRE, hidden_size=30, num_attention_heads=4, head_dim=8),  # type: ignore[arg-type]
     "hidden_size 30 does not divide by num_attention_heads 4"),
])  # fmt: skip
def test_refused(wanted: str, config: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        choose(wanted, "", config, "float32")


@pytest.mark.parametrize(
    ("hidden_size", "exact"), [(256, True), (1024, True), (2304, True), (2048, False), (3072, False)]
)
def test_gemma_is_exact_where_bfloat16_holds_the_root(hidden_size: int, exact: bool) -> None:
    config = MindLLMConfig(**PRE, tie_word_embeddings=True, hidden_size=hidden_size)  # type: ignore[arg-type]
    assert not list(reasons_against("gemma", config, "float32"))
    reasons = list(reasons_against("gemma", config, "bfloat16"))
    assert (not reasons) == exact
    if not exact:
        with pytest.raises(UserError, match="(?s)does not hold sqrt.*LlamaForCausalLM computes the same"):
            choose("gemma", "", config, "bfloat16")
        assert choose("auto", "gemma", config, "bfloat16") == "llama"


def test_the_configs_that_stock_classes_get() -> None:
    kind, values = huggingface_config("minimax", DEEP, 39, 1, 2)
    assert kind == "MiniMaxConfig" and values["vocab_size"] == 39 and values["mlp_alpha_factor"] == 12**0.25
    scaling = {"rope_type": "linear", "factor": 4.0}
    config = MindLLMConfig(**PRE, rope_scaling=scaling, rope_theta=500.0)  # type: ignore[arg-type]
    assert huggingface_config("llama", config, 40, 1, 2)[1]["rope_parameters"] == {**scaling, "rope_theta": 500.0}
    neo = GPTNeoConfig(vocab_size=40, num_layers=3, attention_types=["local", "global"])
    assert huggingface_config("gpt_neo", neo, 40, 1, 2)[1]["attention_types"] == [[["local", "global", "local"], 1]]
    assert natural(neo) == "gpt_neo"
