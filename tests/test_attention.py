"""`attend`: the formula, the rules of masks, precision, refusals, and GPT-Neo's local layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import TOLERANCE, agree, difference, inputs, masks, packed
from torch import Tensor

from mindllm.attention import Mask, attend

# B batch, T queries, S keys, H heads, K key-value heads, D head dim

BF16, FP32 = torch.bfloat16, torch.float32


def through_attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    return attend(query, key, value, mask, window=window, scale=scale)


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One position and head after the other; (B, H, T, D)."""
    B, H, T, D = query.shape
    out = torch.zeros_like(query)
    for b in range(B):
        for h in range(H):
            shared = h // (H // key.shape[1])
            for t in range(T):
                scores = key[b, shared, : t + 1] @ query[b, h, t] / math.sqrt(D)
                out[b, h, t] = torch.softmax(scores, 0) @ value[b, shared, : t + 1]
    return out


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("T", [1, 9, 131])
def test_attention_equals_its_formula(heads: tuple[int, int], T: int) -> None:
    torch.manual_seed(sum(heads) + T)
    H, K = heads
    query, key, value = (torch.randn(1, n, T, 8, requires_grad=True) for n in (H, K, K))
    out = attend(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2)
    expected = by_hand(query, key, value)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    pull = torch.randn_like(out)
    found = torch.autograd.grad(out, (query, key, value), pull)
    right = torch.autograd.grad(expected, (query, key, value), pull)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("window", [0, 60])
@pytest.mark.parametrize("size", [(2, 150, 150, 4, 2), (2, 50, 50, 2, 2), (1, 3, 150, 4, 2), (2, 1, 30, 4, 2)], ids=str)
def test_every_path_that_a_cpu_has(size: tuple[int, ...], window: int, dtype: torch.dtype) -> None:
    for name, mask in masks(*size[:3]).items():
        agree(through_attend, inputs(*size, dtype=dtype), mask, window, name)


def test_double_precision_stays() -> None:
    data = tuple(x.detach().double().requires_grad_() for x in inputs(1, 140, 140, 2, 2, D=4))
    out = attend(*data, packed(1, 140))
    assert out.dtype == torch.float64
    with torch.autocast("cpu", dtype=BF16):
        assert attend(*data).dtype == torch.float64


@pytest.mark.parametrize("T", [12, 150])
def test_the_past_does_not_know_the_future(T: int) -> None:
    query, key, value = (x.detach() for x in inputs(1, T, T, 2, 2, dtype=BF16))
    before, cut = attend(query, key, value), T // 2
    key[:, cut:], value[:, cut:] = 100.0, -100.0
    after = attend(query, key, value)
    assert torch.equal(before[:, :cut], after[:, :cut]) and not torch.equal(before[:, cut:], after[:, cut:])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("causal", [True, False])
def test_a_document_in_a_row_equals_the_document_alone(causal: bool, dtype: torch.dtype) -> None:
    first = np.zeros((2, 300), dtype=bool)
    first[0, [37, 38, 170]] = first[1, [256]] = True
    data = inputs(2, 300, 300, 4, 2, dtype=dtype)
    out = attend(*data, Mask.packed(first, causal=causal))
    pull = torch.randn_like(out)
    pulled = torch.autograd.grad(out, data, pull)
    for row, begin, end in [(0, 0, 37), (0, 37, 38), (0, 38, 170), (0, 170, 300), (1, 0, 256), (1, 256, 300)]:
        alone = tuple(x[row : row + 1, begin:end].detach().requires_grad_() for x in data)
        result = attend(*alone, Mask(causal=causal))
        gradients = torch.autograd.grad(result, alone, pull[row : row + 1, begin:end])
        for ours, theirs in zip((out, *pulled), (result, *gradients), strict=True):
            assert difference(ours[row : row + 1, begin:end], theirs) < (1e-6 if dtype == FP32 else 1e-2)


def test_no_gradient_crosses_a_document() -> None:
    query, key, value = inputs(1, 300, 300, 2, 2, dtype=BF16)
    first = np.zeros((1, 300), dtype=bool)
    first[0, 100] = True
    out = attend(query, key, value, Mask.packed(first))
    for gradient in torch.autograd.grad(out[:, 100:].float().sum(), (query, key, value)):
        assert not gradient[:, :100].any() and gradient[:, 100:].any()


@pytest.mark.parametrize("T", [1, 4])
def test_left_padding_and_a_cache_change_nothing_for_the_real_tokens(T: int) -> None:
    """Two prompts of 30 and 21 tokens in a batch, with the last T as new queries, against each alone."""
    query, key, value = (x.detach() for x in inputs(2, 30, 30, 4, 2))
    padded = attend(query[:, -T:], key, value, Mask(padding=torch.tensor([0, 9])))
    for row, padding in ((0, 0), (1, 9)):
        alone = attend(*(x[row : row + 1, padding:] for x in (query, key, value)))[:, -T:]
        torch.testing.assert_close(padded[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_autocast_says_the_dtype() -> None:
    """As in a model: rotated query and key in fp32, value in bf16."""
    query, key, value = inputs(1, 150, 150, 2, 2)
    with torch.autocast("cpu", dtype=BF16):
        out = attend(query, key, value.bfloat16())
    assert out.dtype == BF16
    assert torch.equal(out, attend(*(x.bfloat16() for x in (query, key, value))))
    assert [x.dtype for x in torch.autograd.grad(out.sum(), (query, key))] == [FP32, FP32]
    assert attend(query, key, value.bfloat16()).dtype == BF16  # without autocast: the value's


@pytest.mark.parametrize("local", [True, False])
def test_gpt_neo_layers(local: bool) -> None:
    """Its local layer is a window that counts the query's own position, without scaling (window 256, T beyond it)."""
    import transformers
    from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

    torch.manual_seed(0)
    config = transformers.GPTNeoConfig(
        hidden_size=32, num_heads=4, num_layers=2, attention_types=[[["global", "local"], 1]], window_size=256,
        max_position_embeddings=512, attention_dropout=0.0, resid_dropout=0.0,
    )  # fmt: skip
    theirs = GPTNeoSelfAttention(config, "local" if local else "global", 0).eval()
    x, pull = torch.randn(2, 300, 32, requires_grad=True), torch.randn(2, 300, 32)
    right = theirs(x)[0]
    q, k, v = (p(x).unflatten(2, (4, 8)) for p in (theirs.q_proj, theirs.k_proj, theirs.v_proj))
    found = theirs.out_proj(attend(q, k, v, window=256 if local else 0, scale=1.0).flatten(2))
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, pull)[0] for out in (found, right)), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((2, 4, 4, 4, 3), {}, "4 heads cannot share 3"),
        ((2, 5, 4, 2, 2), {}, "5 queries are more than the 4 keys"),
        ((2, 4, 4, 2, 2), {"window": -1}, "a window of -1"),
        ((2, 4, 4, 2, 2), {"scale": 0.0}, "a scale of 0.0"),
        ((2, 4, 6, 2, 2), {"mask": Mask(documents=torch.ones(2, 4))}, "with a cache"),
        ((2, 4, 4, 2, 2), {"mask": Mask(documents=torch.ones(2, 5))}, "for each token"),
        ((2, 4, 4, 2, 2), {"mask": Mask(prefix=torch.ones(3))}, "one number per row"),
        ((2, 4, 4, 2, 2), {"mask": Mask(padding=torch.ones(2, 1))}, "one number per row"),
    ],
)
def test_what_cannot_be_is_refused(sizes: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        attend(*inputs(*sizes), **options)
    with pytest.raises(AssertionError, match="do not fit"):
        query, key, value = inputs(2, 4, 4, 2, 2)
        attend(query, key, value[:, :3])
