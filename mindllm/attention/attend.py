"""Attention under a mask, by the best kernel that is there. This file chooses, the others of the package compute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mindllm.attention.mask import CAUSAL, Mask

# B batch, T queries, S keys, H heads, K key-value heads, D head dim


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask = CAUSAL, *, window: int = 0, scale: float | None = None
) -> Tensor:
    """Softmax attention. query (B, T, H, D), key and value (B, S, K, D) with H a multiple of K; returns (B, T, H, D).

    window: a query sees the last so many keys, itself included; 0: all that `mask` allows.  scale: of the scores, None:
    1 / sqrt(D) (Vaswani et al. 2017); K < H shares keys among heads (Ainslie et al. 2023, arXiv 2305.13245).
    """
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    grouped = query.shape[2] != key.shape[2]
    if mask.plain and mask.causal and not window and query.shape[1] == key.shape[1]:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    else:
        seen = mask.visible(query.shape[1], key.shape[1], window, query.device)[:, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2)


def describe() -> str:
    """Which path `attend` takes on this machine, for the doctor's page and the start of a run."""
    if torch.cuda.is_available():
        return "torch SDPA (its FlashAttention-2 kernel) on the GPU"
    return "torch SDPA on the CPU"
