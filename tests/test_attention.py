"""Attention against its formula written out: causal softmax(q k / sqrt(D)) v, with keys shared among heads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mindllm.attention import attend, describe

# B batch, T time, H heads, K key-value heads, D head dim


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One position and head after the other."""
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
@pytest.mark.parametrize("T", [1, 9])
def test_attention_equals_its_formula(heads: tuple[int, int], T: int) -> None:
    torch.manual_seed(sum(heads) + T)
    H, K = heads
    query, key, value = (torch.randn(2, n, T, 8, requires_grad=True) for n in (H, K, K))
    out, expected = attend(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2), plain(query, key, value)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    pull = torch.randn_like(out)
    found = torch.autograd.grad(out, (query, key, value), pull)
    right = torch.autograd.grad(expected, (query, key, value), pull)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_the_past_does_not_know_the_future() -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(1, 2, 12, 8) for _ in range(3))
    before = attend(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2)
    key[:, :, 7:], value[:, :, 7:] = 100.0, -100.0
    after = attend(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2)
    assert torch.equal(before[:, :, :7], after[:, :, :7]) and not torch.equal(before[:, :, 7:], after[:, :, 7:])


def test_the_path_is_named() -> None:
    assert "SDPA" in describe()
