"""Rotary positions (RoPE, arXiv 2104.09864) in the half-split form of Llama: channel d turns with channel d + D/2."""

from __future__ import annotations

import torch
from torch import Tensor

# B batch, T time, H heads, D head dim


def rotary(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (T, 1, D) or (B, T, 1, D) of the angle of every position (T,) or (B, T) and channel."""
    half = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions[..., None].float() * (1.0 / theta**half)  # (..., T, D/2)
    angles = torch.cat((angles, angles), dim=-1)[..., None, :]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (d, d + D/2) of x (B, T, H, D) by their position's angle."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
