"""mindllm.generate.sampling: scores equal transformers' logits processors exactly; draws have their probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as hf

from mindllm.config import UserError, load
from mindllm.generate import Settings
from mindllm.generate.sampling import best, draw, shape_scores, uniforms

GOLDEN = [0.5475641289003113, 0.49727566012078295, 0.45254964367921513, 0.8257430077237722]  # uniforms(1, [1, 5, 9], 4)


@st.composite
def cases(draw_: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, Settings]:
    """Logits, ids that were there before, settings."""
    V, B = draw_(st.integers(1, 40)), draw_(st.integers(1, 3))
    numbers = np.random.default_rng(draw_(st.integers(0, 1 << 32)))
    few = numbers.choice([-2.0, -0.5, 0.0, 0.0, 1.0, 1.5], (B, V))  # equal ones are common
    logits = draw_(st.sampled_from([few, numbers.normal(0, 3, (B, V)), numbers.uniform(-30, 30, (B, V))]))
    ids = numbers.integers(0, V, (B, 5))
    shaping = Settings(
        temperature=draw_(st.sampled_from([1.0, 0.7, 2.5, 1e-3])), top_k=draw_(st.sampled_from([0, 1, 2, 5, 100])),
        top_p=draw_(st.sampled_from([1.0, 0.9, 0.5, 0.25, 1e-6])),
        repetition_penalty=draw_(st.sampled_from([1.0, 1.3, 0.5])),
    )  # fmt: skip
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(ids), shaping


def seen_of(ids: torch.Tensor, V: int) -> torch.Tensor:
    return torch.zeros(len(ids), V, dtype=torch.bool).scatter_(1, ids, True)


@given(cases())
@settings(max_examples=200, deadline=None)
def test_scores_equal_transformers(case: tuple[torch.Tensor, torch.Tensor, Settings]) -> None:
    logits, ids, shaping = case
    theirs = hf.RepetitionPenaltyLogitsProcessor(shaping.repetition_penalty)(ids, logits.clone())
    theirs = hf.TemperatureLogitsWarper(shaping.temperature)(ids, theirs)
    if shaping.top_k:
        theirs = hf.TopKLogitsWarper(shaping.top_k)(ids, theirs)
    if shaping.top_p < 1:
        theirs = hf.TopPLogitsWarper(shaping.top_p)(ids, theirs)
    before = logits.clone()
    ours = shape_scores(logits, seen_of(ids, logits.shape[1]), shaping)
    assert torch.equal(ours.sort().values, theirs.sort().values)
    if shaping.top_p == 1 or all(len(row.unique()) == len(row) for row in logits):
        assert torch.equal(ours, theirs)  # of equal scores, theirs lets an unstable sort choose which ones top_p cuts
    assert torch.equal(logits, before), "logits were changed in place"


def test_temperature_0_penalises_and_nothing_else() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    seen = torch.tensor([[True, False, True]])
    scores = shape_scores(logits, seen, Settings(temperature=0, top_k=1, top_p=0.1, repetition_penalty=2.0))
    assert scores.tolist() == [[1.0, pytest.approx(1.9), -2.0]]
    assert best(scores).tolist() == [1] and best(logits).tolist() == [0]


def test_draws_have_the_probabilities_of_the_scores() -> None:
    """At evenly spaced numbers every token comes as often as its probability says, to one."""
    scores = torch.tensor([[0.3, -math.inf, 2.0, -1.0, -math.inf, 0.0, -math.inf]])
    num = 10_000
    found = draw(scores.expand(num, -1), (torch.arange(num, dtype=torch.float64) + 0.5) / num)
    counts = torch.bincount(found, minlength=7).double()
    assert (counts - num * scores[0].double().softmax(0)).abs().max() <= 1
    assert counts[1] == counts[4] == counts[6] == 0


@given(cases(), st.sampled_from([0.0, 0.5, 1 - 2.0**-53]) | st.floats(0, 1, exclude_max=True))
@settings(max_examples=200, deadline=None)
def test_a_token_without_probability_is_never_drawn(
    case: tuple[torch.Tensor, torch.Tensor, Settings], u: float
) -> None:
    logits, ids, shaping = case
    scores = shape_scores(logits, seen_of(ids, logits.shape[1]), shaping)
    found = draw(scores, torch.full((len(scores),), u, dtype=torch.float64))
    assert (scores.gather(1, found[:, None]) > -math.inf).all()


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_broken_logits_are_told(wrong: float) -> None:
    scores = torch.tensor([[0.0, wrong], [1.0, 2.0]])
    assert draw(scores, torch.tensor([0.9, 0.9], dtype=torch.float64)).tolist() == [-1, 1]
    assert best(torch.tensor([[0.0, math.nan, 7.0], [1.0, 3.0, 2.0]])).tolist() == [-1, 1]


def test_uniforms_are_the_same_for_ever() -> None:
    found = uniforms(1, [1, 5, 9], 4)
    assert found.dtype == np.float64 and found.tolist() == uniforms(1, [1, 5, 9], 3).tolist() + [found[3]]
    assert found.tolist() == GOLDEN
    others = [
        uniforms(2, [1, 5, 9], 4),
        uniforms(1, [1, 9, 5], 4),
        uniforms(1, [1, 5], 4),
        uniforms(1, [1, 5, 9, 0], 4),
    ]
    assert len({tuple(numbers) for numbers in (found, *others)}) == 5


def test_uniforms_are_uniform() -> None:
    table = np.concatenate([uniforms(seed, [seed % 7], 500) for seed in range(200)])
    assert 0 <= table.min() and table.max() < 1
    counts = np.histogram(table, 100, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 150, "chi-square of 99 degrees of freedom: above once in 1,000"
    assert abs(np.corrcoef(table[:-1], table[1:])[0, 1]) < 0.015


def test_all_problems_at_once() -> None:
    bad = ["max_new_tokens=0", "batch_size=0", "top_k=-1", "seed=-1", "temperature=1e-9", "top_p=0", "stop=[a, '']",
           "repetition_penalty=0"]  # fmt: skip
    with pytest.raises(UserError) as error:
        load(Settings, None, bad)
    assert all(word.split("=")[0] in str(error.value) for word in bad) and "8 problem" in str(error.value)
    for fine in ("temperature=0", "temperature=1e-3", "top_p=1", "stop=[]", "seed=0"):
        load(Settings, None, [fine])
    for strange in ("temperature=.inf", "temperature=.nan", "top_p=.nan", "repetition_penalty=.nan"):
        with pytest.raises(UserError, match=strange.split("=")[0]):
            load(Settings, None, [strange])
