"""Rotary positions (RoPE, arXiv 2104.09864) in the half-split form of Llama: channel d turns with channel d + D/2.

`rotary` makes cosines and sines once per forward pass, in fp32 until the last step; `rotate` applies them. The rotation
has a backward pass of its own, for it is its own inverse with the sine's sign turned: nothing but cos and sin is kept,
and halves are updated in place instead of put together anew (half the time of the plain form on a CPU). torch.compile
sees the plain form and fuses it. `rope_scaling` stretches positions beyond the trained length, as transformers does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# B batch, T time, H heads, D head dim

_SCALING_KEYS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def scaling_problems(scaling: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a `rope_scaling`, a line each: {}, or rope_type and exactly the numbers that go with it."""
    if not scaling:
        return
    kind = scaling.get("rope_type")
    if not isinstance(kind, str) or kind not in _SCALING_KEYS:
        yield f"rope_scaling: rope_type must be one of {', '.join(_SCALING_KEYS)}, not {_show(kind)}"
        return
    wanted = _SCALING_KEYS[kind]
    for name in sorted(set(map(str, scaling)) - {"rope_type", *wanted}):
        yield f"rope_scaling.{name}: unknown; {kind} takes {', '.join(wanted) or 'nothing'}"
    for name in wanted:
        if name not in scaling:
            yield f"rope_scaling.{name}: missing; {kind} needs it"
        elif not _is_number(scaling[name]):
            yield f"rope_scaling.{name}: must be a number above 0, not {_show(scaling[name])}"
    numbers = {name: scaling[name] for name in wanted if _is_number(scaling.get(name))}
    if numbers.get("factor", 1) < 1:
        yield f"rope_scaling.factor: must be at least 1, not {numbers['factor']}"
    if numbers.get("low_freq_factor", 0) >= numbers.get("high_freq_factor", math.inf):
        yield "rope_scaling: low_freq_factor must be below high_freq_factor"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e15


def _show(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]


def frequencies(head_dim: int, theta: float, scaling: Mapping[str, Any], device: torch.device | str = "cpu") -> Tensor:
    """Radians per position of every channel pair, fp32 (D/2,).

    linear divides all by `factor` (arXiv 2306.15595). llama3 (Llama 3.1, arXiv 2407.21783, as transformers computes it)
    divides those that turn fewer than low_freq_factor times within original_max_position_embeddings, keeps those above
    high_freq_factor turns, and blends between.
    """
    plain = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
    kind = scaling.get("rope_type", "default")
    if kind == "default":
        return plain
    if kind == "linear":
        return plain / scaling["factor"]
    assert kind == "llama3", f"rope_type {kind!r} passed the config's check"
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] / (2 * math.pi / plain)
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # share of the frequency that stays as it is
    return (1 - kept) * plain / scaling["factor"] + kept * plain  # in this order: bit for bit as in transformers


def rotary(positions: Tensor, turning: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (T, 1, D) or (B, T, 1, D) of the angle of every position (T,) or (B, T) at `turning` (D/2,)."""
    angles = positions[..., None].float() * turning  # (..., T, D/2)
    angles = torch.cat((angles, angles), dim=-1)[..., None, :]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (d, d + D/2) of x (B, T, H, D) by their position's angle; cos and sin have x's dtype."""
    if torch.compiler.is_compiling():
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin
    if not torch.is_grad_enabled():
        return _turn(x, cos, sin, 1)
    result: Tensor = _Rotate.apply(x, cos, sin)
    return result


class _Rotate(torch.autograd.Function):
    """`rotate` that keeps only cos and sin: the gradient is turned back by the same angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    out, half = x * cos, x.shape[-1] // 2
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-sign)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)
    return out
