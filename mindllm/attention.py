"""Causal attention behind one signature. This file is the only place that knows which kernel runs.

torch's scaled_dot_product_attention: on a GPU it carries the FlashAttention-2 kernel, on a CPU a blocked one. Nothing
of size T x T is kept for the backward pass.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# B batch, T time, H heads, K key-value heads, D head dim


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention. query (B, H, T, D), key and value (B, K, T, D) with H a multiple of K; returns (B, H, T, D).

    Softmax of query @ key / sqrt(D), Vaswani et al. 2017; K < H shares keys among heads, Ainslie et al. 2023 (arXiv
    2305.13245).
    """
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=query.shape[1] != key.shape[1])


def describe() -> str:
    """Which path `attend` takes on this machine, for the doctor's page and the start of a run."""
    if torch.cuda.is_available():
        return "torch SDPA (its FlashAttention-2 kernel) on the GPU"
    return "torch SDPA on the CPU"
