"""Attention as its formula says, in fp32 and with the whole table of scores: what all other paths are tested against.

memory: B*H*T*S*4 bytes, several times over. No training runs through here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mindllm.attention.mask import CAUSAL, Mask

# B batch, T queries, S keys, H heads, K key-value heads, D head dim


def attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask = CAUSAL, *, window: int = 0, scale: float | None = None
) -> Tensor:
    """softmax(scale * query key' + mask) value: `attend`, written out; the result has the dtype of `value`."""
    T, S, shared = query.shape[1], key.shape[1], query.shape[2] // key.shape[2]
    q = query.transpose(1, 2).float()
    k, v = (x.transpose(1, 2).float().repeat_interleave(shared, dim=1) for x in (key, value))
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scale is None else scale)  # (B, H, T, S)
    seen = mask.visible(T, S, window, query.device)[:, None]
    probabilities = torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1)
    return (probabilities @ v).transpose(1, 2).to(value.dtype)
