"""What the tests of attention share: inputs, masks of every kind, and comparison with the formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mindllm.attention import CAUSAL, Mask
from mindllm.attention.reference import attend_plainly

# B batch, T queries, S keys, H heads, K key-value heads, D head dim

Kernel = Callable[[Tensor, Tensor, Tensor, Mask, int, float], Tensor]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # of the norm of the difference, relative


def inputs(
    B: int, T: int, S: int, H: int, K: int, D: int = 16, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Random query, key and value that want gradients."""
    torch.manual_seed(B + 3 * T + 5 * S + 7 * H + 11 * K)
    query, key, value = (torch.randn(B, n, heads, D).to(dtype) for n, heads in ((T, H), (S, K), (S, K)))
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_()


def packed(B: int, T: int, causal: bool = True) -> Mask:
    """Documents of random lengths, cut at other places in each row."""
    first = np.random.default_rng(B * 1000 + T).random((B, T)) < 4 / T
    return Mask.packed(first, causal=causal)


def masks(B: int, T: int, S: int) -> dict[str, Mask]:
    """One of each kind; documents only where there is no cache (T = S)."""
    numbers = torch.arange(1, B + 1)
    found = {
        "causal": CAUSAL,
        "all": Mask(causal=False),
        "prefix": Mask(prefix=(numbers * 37) % (S + 1)),
        "padding": Mask(padding=(numbers * 5) % S),
        "all, padding": Mask(causal=False, padding=(numbers * 5) % S),
    }
    if T == S:
        shuffled = torch.randint(0, 3, (B, T), generator=torch.Generator().manual_seed(T))
        found |= {
            "packed": packed(B, T),
            "packed, all": packed(B, T, causal=False),
            "documents in no order": Mask(causal=False, documents=shuffled),
            "documents and prefix": Mask(prefix=(numbers * 37) % (S + 1), documents=packed(B, T).documents),
        }
    return found


def difference(found: Tensor, right: Tensor) -> float:
    """Norm of the difference, relative to that of what is right, or to entries of .1 where that is (nearly) zero."""
    found, right = found.detach().double(), right.detach().double()
    return float((found - right).norm() / right.norm().clamp(min=0.1 * right.numel() ** 0.5))


def agree(kernel: Kernel, data: tuple[Tensor, Tensor, Tensor], mask: Mask, window: int = 0, what: str = "") -> None:
    """Result and gradients of `kernel` are those of the formula in fp32."""
    scale, tolerance = 0.3, TOLERANCE[data[0].dtype]
    found = kernel(*data, mask, window, scale)
    exact = tuple(x.detach().float().requires_grad_() for x in data)
    right = attend_plainly(*exact, mask, window=window, scale=scale)
    pull = torch.randn_like(found)
    pairs = [(found, right)]
    if found.requires_grad:
        pulled = torch.autograd.grad(found, data, pull), torch.autograd.grad(right, exact, pull.float())
        pairs += list(zip(*pulled, strict=True))
    assert found.shape == data[0].shape and found.dtype == data[0].dtype, what
    for name, (ours, theirs) in zip(("out", "d query", "d key", "d value"), pairs, strict=False):
        error = difference(ours, theirs)
        assert error < tolerance, f"{what}: {name} is off by {error:.1e} of its norm"
