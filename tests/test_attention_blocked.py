"""The CPU's training path against the formula: masks, windows, shared heads, odd lengths, both precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_cases import TOLERANCE, agree, difference, inputs, masks, packed
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.attention import CAUSAL, Mask, blocked
from mindllm.attention.blocked import BLOCK, attend_in_blocks, blocks

# B batch, T queries, S keys, H heads, K key-value heads, D head dim

SIZES = [(2, 300, 300, 4, 2), (1, 130, 203, 3, 1), (3, 5, 5, 2, 2), (1, 1, 40, 2, 1)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("window", [0, 1, 7, 200])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_blocks_equal_the_formula(size: tuple[int, int, int, int, int], window: int, dtype: torch.dtype) -> None:
    for name, mask in masks(*size[:3]).items():
        agree(attend_in_blocks, inputs(*size, dtype=dtype), mask, window, f"{name}, window {window}")


@given(
    st.integers(1, 2), st.integers(1, 290), st.sampled_from([(2, 2), (4, 2), (3, 1)]), st.integers(0, 300),
    st.booleans(), st.lists(st.integers(0, 579), max_size=8),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_shape_and_any_cut(
    B: int, T: int, heads: tuple[int, int], window: int, causal: bool, cuts: list[int]
) -> None:
    first = np.zeros((B, T), dtype=bool)
    first.flat[[cut for cut in cuts if cut < first.size]] = True
    agree(attend_in_blocks, inputs(B, T, T, *heads, D=8), Mask.packed(first, causal=causal), window, str(cuts))


@given(st.integers(1, 400), st.integers(0, 300), st.integers(0, 300), st.sampled_from(["causal", "all", "packed"]))
@settings(max_examples=60, deadline=None)
def test_blocks_leave_out_nothing_that_is_seen(T: int, more: int, window: int, kind: str) -> None:
    mask = {"causal": CAUSAL, "all": Mask(causal=False), "packed": packed(1, T)}[kind]
    S = T if kind == "packed" else T + more
    seen, covered = mask.visible(T, S, window)[0], torch.zeros(T, S, dtype=torch.bool)
    size = 0
    for block in blocks(T, S, mask, window, 0):
        covered[block.first : block.last, block.low : block.high] = True
        for low, high in block.edges:
            assert block.low <= low < high <= block.high
            covered[block.first : block.last, low:high] = seen[block.first : block.last, low:high]
        size += (block.last - block.first) * (block.high - block.low)
    assert torch.equal(covered, seen)
    assert size <= blocked._room(T, S, mask, window)


def test_probabilities_made_again_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in TOLERANCE:
        data, results = inputs(2, 300, 300, 4, 2, dtype=dtype), []
        for limit in (1 << 40, 0):
            monkeypatch.setattr(blocked, "KEPT_BYTES", limit)
            out = attend_in_blocks(*data, packed(2, 300), 50, 0.25)
            results.append((out, *torch.autograd.grad(out, data, torch.ones_like(out))))
        assert all(torch.equal(kept, again) for kept, again in zip(*results, strict=True))


def test_nothing_is_kept_that_no_gradient_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms, forward = [], blocked._forward

    def count(*args: object) -> object:
        rooms.append(args[-1])
        return forward(*args)

    monkeypatch.setattr(blocked, "_forward", count)
    data = inputs(1, 2 * BLOCK, 2 * BLOCK, 2, 2)
    attend_in_blocks(*data, CAUSAL, 0, 0.25)
    with torch.no_grad():
        attend_in_blocks(*data, CAUSAL, 0, 0.25)
    attend_in_blocks(*(x.detach() for x in data), CAUSAL, 0, 0.25)
    assert rooms == [2 * 3 * BLOCK * BLOCK, 0, 0]  # the first block one square of probabilities a head, the second two


def test_inputs_that_are_views() -> None:
    """Query, key and value cut out of one projection; a gradient with holes."""
    torch.manual_seed(0)
    whole = torch.randn(2, 200, 3 * 4 * 16)
    views = [x.requires_grad_() for x in whole.unflatten(2, (3, 4, 16)).unbind(2)]
    copies = [x.detach().clone().requires_grad_() for x in views]
    pull = torch.randn(2, 4, 200, 16).transpose(1, 2)
    results = []
    for data in (views, copies):
        out = attend_in_blocks(*data, CAUSAL, 0, 0.25)
        results.append((out, *torch.autograd.grad(out, data, pull)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_large_scores_stay_finite() -> None:
    query, key, value = inputs(1, 260, 260, 2, 2)
    out = attend_in_blocks(query * 100, key * 100, value, packed(1, 260), 3, 1.0)
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(x).all() for x in torch.autograd.grad(out.sum(), (query, key, value)))


def test_sums_over_blocks_are_fp32() -> None:
    """A key that 2,000 queries look at: bf16 sums would lose most of its gradient."""
    T = 16 * BLOCK
    query, key = (torch.zeros(1, T, 1, 8, dtype=torch.bfloat16).requires_grad_() for _ in range(2))
    value = torch.zeros(1, T, 1, 8, dtype=torch.bfloat16).requires_grad_()
    out = attend_in_blocks(query, key, value, Mask(causal=False), 0, 1.0)
    (found,) = torch.autograd.grad(out, value, torch.ones_like(out))
    assert difference(found, torch.ones_like(found)) < 1e-2
