"""RMSNorm (arXiv 1910.07467), computed in fp32 whatever the precision around it, and rounded once.

Three ways to the same numbers. On a CPU a backward pass of its own, which keeps the input and 1 / rms (memory: 4 bytes
a row beside the input) and gets both gradients from one product of input and gradient: several times faster than what
autograd makes of the formula. On a GPU torch's fused kernel. Under torch.compile the formula, which it fuses.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# N rows, C channels


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension: rms(x) = sqrt(mean(x^2) + eps)."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) of any precision to the same shape and precision."""
        if torch.compiler.is_compiling():
            wide = _wide(x)
            return (wide * (wide.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight).to(x.dtype)
        if x.is_cuda and x.dtype == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        if not torch.is_grad_enabled():
            return _normalise(x, self.weight, self.eps)[0]
        result: Tensor = _RMSNorm.apply(x, self.weight, self.eps)
        return result


class _RMSNorm(torch.autograd.Function):
    """The norm with its gradients written out: with r = 1 / rms and n = x r, for a gradient g,

    d weight = sum over rows of g n, and dx = r (g weight - n mean(g weight n)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, inverse = _normalise(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        size = x.shape[-1]
        wide, gradient = _wide(x).reshape(-1, size), _wide(grads[0]).reshape(-1, size)  # (N, C)
        inverse, wide_weight = inverse.reshape(-1, 1), weight.to(wide.dtype)
        with torch.autocast(x.device.type, enabled=False):  # it would round the two products
            product = gradient * wide
            d_weight = inverse.flatten() @ product
            shared = (product @ wide_weight)[:, None] * inverse.pow(3).div_(-size)
        dx = (gradient * wide_weight).mul_(inverse).addcmul_(wide, shared)
        return dx.view_as(x).to(x.dtype), d_weight.to(weight.dtype), None


def _normalise(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of x, and 1 / rms (..., 1) in fp32."""
    wide = _wide(x)
    inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide * inverse).mul_(weight).to(x.dtype), inverse


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
