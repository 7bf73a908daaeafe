"""Rotary positions: angles against transformers for every scaling, the rotation's own backward, problems of configs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from mindllm.models.rope import frequencies, rotary, rotate, scaling_problems

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
SCALINGS: list[dict[str, Any]] = [{}, {"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}, LLAMA3]
ids = [s.get("rope_type", "none") for s in SCALINGS]


def theirs(scaling: dict[str, Any], head_dim: int, theta: float) -> LlamaRotaryEmbedding:
    parameters = {"rope_type": "default", "rope_theta": theta, **scaling}
    return LlamaRotaryEmbedding(LlamaConfig(
        hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim, max_position_embeddings=4096,
        rope_parameters=parameters))  # fmt: skip


@pytest.mark.parametrize("scaling", SCALINGS, ids=ids)
@pytest.mark.parametrize(("head_dim", "theta"), [(64, 10000.0), (128, 500000.0), (2, 10.0)])
def test_frequencies_are_those_of_transformers(scaling: dict[str, Any], head_dim: int, theta: float) -> None:
    """Bit for bit: at position 100,000 the last bit of a frequency is a hundredth of a radian."""
    assert torch.equal(frequencies(head_dim, theta, scaling), theirs(scaling, head_dim, theta).inv_freq)


def test_llama3_keeps_fast_channels_and_divides_slow_ones() -> None:
    plain, found = frequencies(64, 10000.0, {}), frequencies(64, 10000.0, LLAMA3)
    turns = plain * 64 / (2 * math.pi)
    assert torch.equal(found[turns >= 4], plain[turns >= 4]) and (turns >= 4).any()
    assert torch.equal(found[turns <= 1], plain[turns <= 1] / 8) and (turns <= 1).any()
    between = (turns > 1) & (turns < 4)
    assert between.any() and ((found < plain) & (found > plain / 8))[between].all()


@pytest.mark.parametrize("scaling", SCALINGS, ids=ids)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_is_that_of_transformers(scaling: dict[str, Any], dtype: torch.dtype) -> None:
    q, k = torch.randn(2, 9, 4, 16).to(dtype), torch.randn(2, 9, 2, 16).to(dtype)
    positions = torch.randint(0, 4000, (2, 9))
    right = apply_rotary_pos_emb(q, k, *theirs(scaling, 16, 500.0)(q, positions), unsqueeze_dim=2)
    cos, sin = rotary(positions, frequencies(16, 500.0, scaling), dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    for ours, expected in zip((rotate(q, cos, sin), rotate(k, cos, sin)), right, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def angles(T: int, head_dim: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return rotary(torch.arange(T), frequencies(head_dim, 100.0, {}), dtype)


def test_one_row_of_positions_is_the_same_for_all_samples() -> None:
    x = torch.randn(3, 7, 2, 8)
    cos, sin = angles(7, 8)
    assert cos.shape == sin.shape == (7, 1, 8)
    rows = rotary(torch.arange(7).expand(3, 7), frequencies(8, 100.0, {}), torch.float32)
    assert rows[0].shape == (3, 7, 1, 8) and torch.equal(rotate(x, cos, sin), rotate(x, *rows))


def test_gradients_by_finite_differences() -> None:
    x = torch.randn(2, 5, 2, 6, dtype=torch.float64, requires_grad=True)
    cos, sin = angles(5, 6, torch.float64)
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), x)


def test_lengths_stay_and_scores_depend_on_distance_only() -> None:
    q, k = torch.randn(1, 1, 1, 16, dtype=torch.float64), torch.randn(1, 1, 1, 16, dtype=torch.float64)
    cos, sin = angles(30, 16, torch.float64)
    turned_q, turned_k = rotate(q.expand(1, 30, 1, 16), cos, sin)[0, :, 0], rotate(k.expand(1, 30, 1, 16), cos, sin)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(30), rtol=1e-6, atol=1e-6)
    scores = turned_q @ turned_k[0, :, 0].T
    for distance in range(-29, 30):
        line = scores.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand(len(line)), rtol=1e-4, atol=1e-4)


def test_compiled_is_the_same_in_one_graph() -> None:
    x, upstream = torch.randn(2, 5, 2, 6), torch.randn(2, 5, 2, 6)
    cos, sin = angles(5, 6)
    found = []
    for function in (rotate, torch.compile(rotate, backend="aot_eager", fullgraph=True)):
        leaf = x.clone().requires_grad_()
        out = function(leaf, cos, sin)
        out.backward(upstream)
        found.append((out.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("scaling", SCALINGS, ids=ids)
def test_what_works_has_no_problems(scaling: dict[str, Any]) -> None:
    assert list(scaling_problems(scaling)) == []


@pytest.mark.parametrize(("scaling", "messages"), [
    ({"factor": 2.0}, ["rope_type must be one of default, linear, llama3, not missing"]),
    ({"rope_type": "yarn", "factor": 2.0}, ["not 'yarn'"]),
    ({"rope_type": ["linear"]}, ["rope_type must be one of"]),
    ({"rope_type": "linear"}, ["factor: missing; linear needs it"]),
    ({"rope_type": "linear", "factor": 0.5}, ["factor: must be at least 1, not 0.5"]),
    ({"rope_type": "linear", "factor": "四"}, ["factor: must be a number above 0, not '四'"]),
    ({"rope_type": "linear", "factor": True}, ["factor: must be a number"]),
    ({"rope_type": "linear", "factor": float("nan"), "beta": 1}, ["beta: unknown; linear takes", "factor: must"]),
    ({"rope_type": "default", "factor": 2.0}, ["factor: unknown; default takes nothing"]),
    ({**LLAMA3, "low_freq_factor": 4.0}, ["low_freq_factor must be below high_freq_factor"]),
    ({"rope_type": "llama3"}, ["factor: missing", "low_freq_factor: missing", "high_freq_factor: missing",
                               "original_max_position_embeddings: missing"]),
])  # fmt: skip
def test_every_problem_of_a_scaling_is_named(scaling: dict[str, Any], messages: list[str]) -> None:
    found = list(scaling_problems(scaling))
    assert len(found) == len(messages)
    for problem, message in zip(found, messages, strict=True):
        assert message in problem and problem.startswith("rope_scaling")


odd = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)
names = st.sampled_from(["rope_type", *LLAMA3]) | st.text(max_size=5)


@given(st.dictionaries(names, odd | st.sampled_from(["default", "linear", "llama3", 2, 8.0])))
@settings(max_examples=200, deadline=None)
def test_a_scaling_is_refused_or_computed(scaling: dict[str, Any]) -> None:
    if not list(scaling_problems(scaling)):
        assert frequencies(8, 10000.0, scaling).isfinite().all()
