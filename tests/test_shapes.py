"""Shapes by number of non-embedding parameters: the rule, the docstring's table, counts against real models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError
from mindllm.models import shapes
from mindllm.models.mindllm import MindLLM, MindLLMConfig
from mindllm.models.shapes import TARGETS, num_non_embedding, shape_for


def counted(config: MindLLMConfig) -> int:
    """Parameters of a model without memory, but for its embedding and head."""
    with torch.device("meta"):
        model = MindLLM(replace(config, vocab_size=64))
    return sum(p.numel() for n, p in model.named_parameters() if "embed_tokens" not in n and "lm_head" not in n)


@pytest.mark.parametrize("target", TARGETS)
def test_the_seven_shapes(target: int) -> None:
    config = shape_for(target)
    assert abs(counted(config) - target) <= 0.05 * target and counted(config) == num_non_embedding(config)
    assert config.num_attention_heads * 64 == config.hidden_size and config.head_size == 64
    assert 30 < config.hidden_size / config.num_hidden_layers < 80
    assert config.intermediate_size % 64 == 0 and abs(config.intermediate_size - config.hidden_size * 8 / 3) <= 32
    assert (config.residual, config.tie_word_embeddings, config.max_position_embeddings) == ("deepnorm", False, 2048)
    assert list(config.problems()) == []


def test_the_table_says_what_the_rule_gives() -> None:
    rows = [line for line in (shapes.__doc__ or "").splitlines() if line.startswith("|") and "M " in line]
    for row, target in zip(rows, TARGETS, strict=True):
        config = shape_for(target)
        expected = [f"{target // 10**6}M", config.hidden_size, config.num_hidden_layers, config.intermediate_size,
                    config.num_attention_heads, f"{num_non_embedding(config):,}",
                    round(config.hidden_size / config.num_hidden_layers)]  # fmt: skip
        assert [cell.strip() for cell in row.split("|")[1:-1]] == list(map(str, expected))


@pytest.mark.parametrize("changes", [
    {}, {"num_key_value_heads": 2}, {"head_dim": 40},
    {"qkv_bias": True, "residual": "prenorm", "num_key_value_heads": 1},
])  # fmt: skip
def test_the_count_holds_for_every_form(changes: dict[str, object]) -> None:
    config = replace(MindLLMConfig(hidden_size=128, num_hidden_layers=3), **changes)  # type: ignore[arg-type]
    assert counted(config) == num_non_embedding(config)


@given(st.integers(1_000_000, 20_000_000_000))
@settings(max_examples=40, deadline=None)
def test_every_size_from_a_million_has_a_shape(target: int) -> None:
    config = shape_for(target)
    assert abs(num_non_embedding(config) - target) <= 0.05 * target and list(config.problems()) == []


@pytest.mark.parametrize("target", [-5, 0, 1000, 100_000])
def test_what_no_shape_reaches_is_said(target: int) -> None:
    with pytest.raises(UserError, match="no shape has .* within 5%; try another"):
        shape_for(target)
