"""Next-token loss from hidden states without ever building the full logits.

Tokens go through the head in chunks; each chunk's gradient is made in the forward pass and its logits are thrown
away, so the memory is one chunk of logits plus the gradient of the head, instead of num_tokens x vocab_size x 4 bytes
(2 GB at 8k x 64k). Sum and count are returned separately: who averages over what is the training loop's business.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # label of a position that is no target
CHUNK_TOKENS = 256  # larger chunks are slower on a CPU

# N tokens, C hidden, V vocab


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T`, gradients computed chunk by chunk on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, needs_grad: bool) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs_grad else None
        # memory: V*C*4, because many chunks are added up
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_grad else None
        for start in range(0, len(labels), CHUNK_TOKENS):
            part, target = hidden[start : start + CHUNK_TOKENS], labels[start : start + CHUNK_TOKENS]
            logits = (part @ weight.T).float()  # memory: CHUNK_TOKENS*V*4
            total += F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
            if d_hidden is not None and d_weight is not None:
                d_logits = _softmax_gradient(logits, target).to(weight.dtype)
                d_hidden[start : start + CHUNK_TOKENS] = d_logits @ weight
                d_weight += d_logits.T @ part
        if d_hidden is not None and d_weight is not None:
            ctx.save_for_backward(d_hidden, d_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * grads[0].to(d_hidden.dtype), d_weight * grads[0].to(d_weight.dtype), None, None


def _softmax_gradient(logits: Tensor, target: Tensor) -> Tensor:
    """d(sum of cross-entropies) / d(logits), in place: softmax minus one-hot, zero on ignored rows."""
    gradient = torch.softmax(logits, dim=-1)
    kept = target != IGNORED
    rows = torch.arange(len(target), device=target.device)
    gradient[rows, target.clamp(min=0)] -= 1
    return gradient.mul_(kept[:, None])


def next_token_loss(hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """(what to optimise, negative log-likelihood), fp32 scalars, sums over the targets; they differ by the z-loss.

    hidden (B, T, C), weight (V, C), labels (B, T): token ids, or IGNORED. Natural log. z_loss: weight of the squared
    log of the softmax's denominator (PaLM, arXiv 2204.02311, section 5: 1e-4). The second scalar has no gradient.
    """
    needs_grad = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    loss: Tensor = _HeadLoss.apply(hidden.flatten(0, -2), weight, labels.flatten(), needs_grad)
    return loss, loss.detach()


def num_targets(labels: Tensor) -> int:
    """How many positions carry a label."""
    return int((labels != IGNORED).sum())


def describe() -> str:
    """Which path the loss takes on this machine."""
    return f"chunked head and cross-entropy ({CHUNK_TOKENS} tokens at a time)"
