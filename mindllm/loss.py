"""Next-token loss from hidden states without ever building the full logits.

Tokens go through the head in chunks; each chunk's gradient is made in the forward pass, in the memory of its logits,
so what is held is one chunk of logits, a few MB of fp32 probabilities and the head's gradient in fp32 (V*C*4 bytes),
instead of 3 x num_tokens x V x 4 (2.9 GiB at 2,048 tokens and V = 125,700; bench/head_loss.py). No product is computed
twice. On a GPU liger-kernel's fused loss, which works the same way, is taken where it is installed. Sum and count are
apart: who averages over what is the training loop's business.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100  # label of a position that is no target
MIN_TOKENS = 256  # of a chunk: below, products lose more than the memory is worth
LOGITS_BYTES = {"cpu": 32 << 20, "cuda": 512 << 20}  # of a chunk; small vocabularies gain from larger chunks
SOFTMAX_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}  # of probabilities in fp32; on a CPU they stay in its cache
VOCAB_ROWS = 8192  # of the head's gradient that a CPU adds up at once; a product of all rows would need V*C*2 more

# N tokens, n tokens of a chunk, C hidden, V vocab


class _HeadLoss(torch.autograd.Function):
    """Sums over the targets of (negative log-likelihood + z-loss, negative log-likelihood), gradients made forward.

    The two kept gradients are those of the first sum; backward multiplies them, in fp32, by what comes from above.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float, for_hidden: bool, for_weight: bool
    ) -> tuple[Tensor, Tensor]:
        """hidden (N, C), weight (V, C), labels (N,)."""
        device, ctx.dtypes = hidden.device.type, (hidden.dtype, weight.dtype)
        if torch.is_autocast_enabled(device):
            # memory: V*C*2; by hand, since autocast would cast the transposed weight again for every chunk
            hidden, weight = (x.to(torch.get_autocast_dtype(device)) for x in (hidden, weight))
        d_hidden = torch.empty_like(hidden) if for_hidden else None
        # memory: V*C*4, because many chunks are added up
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if for_weight else None
        with torch.autocast(device, enabled=False):
            nll, log_z = _chunks(hidden, weight, labels, z_loss, d_hidden, d_weight)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.set_materialize_grads(False)
        plain = nll.sum()
        total = plain + z_loss * log_z.square().sum() if z_loss else plain.clone()
        ctx.mark_non_differentiable(plain)
        return total, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Changes what was kept, to spare a copy of V*C*4 bytes: torch refuses a second call (retain_graph)."""
        scaled = [
            None if kept is None else kept.float().mul_(grads[0]).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return *scaled, None, None, None, None


def _chunks(
    hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float, d_hidden: Tensor | None, d_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(N,) negative log-likelihoods and logs of the softmax's denominators in fp32, 0 where ignored; fills d_*."""
    N, V = len(hidden), len(weight)
    nll = torch.empty(N, dtype=torch.float32, device=hidden.device)
    log_z = torch.empty_like(nll)
    tokens, rows = chunk_sizes(V, hidden)
    # memory: tokens*V of hidden's dtype; one buffer for all chunks, since fresh pages are slow on a CPU
    buffer = hidden.new_empty(min(tokens, N), V)
    for start in range(0, N, tokens):
        part = hidden[start : start + tokens]
        logits = torch.mm(part, weight.T, out=buffer[: len(part)])  # (n, V)
        for first in range(0, len(part), rows):
            block, i = logits[first : first + rows], slice(start + first, min(start + first + rows, start + len(part)))
            nll[i], log_z[i] = _losses(block, labels[i], z_loss, d_hidden is not None or d_weight is not None)
        if d_hidden is not None:
            torch.mm(logits, weight, out=d_hidden[start : start + len(part)])
        if d_weight is not None:
            _add_product(d_weight, logits, part)
    return nll, log_z


def _losses(logits: Tensor, labels: Tensor, z_loss: float, into_gradient: bool) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood and log of the denominator of each row of logits (n, V), both 0 where ignored.

    With `into_gradient` the logits become the gradient of sum(nll + z_loss * log_z^2) by them, which is
    softmax * (1 + 2 * z_loss * log_z) - one_hot(label), 0 where ignored.
    """
    kept = labels != IGNORED
    column = torch.where(kept, labels, 0)[:, None]
    probability = torch.softmax(logits, -1, dtype=torch.float32)  # memory: n*V*4
    # The largest probability is exp(0) / denominator, so the denominator needs no second pass of exponentials.
    log_z = (logits.amax(-1).float() - probability.amax(-1).log()) * kept
    nll = (log_z - logits.gather(1, column)[:, 0].float()) * kept
    if into_gradient:
        factor = (kept * (1 + 2 * z_loss * log_z))[:, None]
        at_label = probability.gather(1, column) * factor - kept[:, None].float()  # before anything is rounded
        torch.mul(probability, factor, out=logits)
        logits.scatter_(1, column, at_label.to(logits.dtype))
    return nll, log_z


def _add_product(d_weight: Tensor, d_logits: Tensor, part: Tensor) -> None:
    """d_weight (V, C) in fp32 += d_logits (n, V) transposed @ part (n, C)."""
    if part.dtype == torch.float32:
        d_weight.addmm_(d_logits.T, part)
    elif _sums_in_fp32(part):
        torch.addmm(d_weight, d_logits.T, part, out_dtype=torch.float32, out=d_weight)
    else:
        product = part.new_empty(min(VOCAB_ROWS, len(d_weight)), part.shape[1])  # each is rounded once
        for first in range(0, len(d_weight), VOCAB_ROWS):
            into = d_weight[first : first + VOCAB_ROWS]
            into += torch.mm(d_logits[:, first : first + VOCAB_ROWS].T, part, out=product[: len(into)])


def _sums_in_fp32(part: Tensor) -> bool:
    """Whether a product of bf16 matrices can be added to an fp32 one: no CPU and no GPU before Ampere does it."""
    return part.is_cuda and torch.cuda.get_device_capability(part.device)[0] >= 8


def chunk_sizes(vocab_size: int, hidden: Tensor) -> tuple[int, int]:
    """(tokens that go through the head at once, tokens whose softmax is taken at once) for hidden's device and dtype.

    A CPU's time hardly depends on the first, so its memory decides; a GPU wants large products.
    """
    kind = "cuda" if hidden.is_cuda else "cpu"
    tokens = max(MIN_TOKENS, LOGITS_BYTES[kind] // (vocab_size * hidden.element_size()) // MIN_TOKENS * MIN_TOKENS)
    return tokens, min(tokens, max(16, SOFTMAX_BYTES[kind] // (vocab_size * 4)))


@torch.compiler.disable  # it would unroll the loops
def next_token_loss(hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """(what to optimise, negative log-likelihood), fp32 scalars, sums over the targets; they differ by the z-loss.

    hidden (B, T, C), weight (V, C), labels (B, T): token ids, or IGNORED. Natural log. z_loss: weight of the squared
    log of the softmax's denominator (PaLM, arXiv 2204.02311, section 5: 1e-4). The second scalar has no gradient.
    Under torch.autocast the products are in its dtype. Gradients have the dtypes of hidden and weight. torch.compile
    leaves this function as it is. Raises RuntimeError for a second backward pass through one result.
    """
    assert hidden.shape[:-1] == labels.shape, f"{tuple(labels.shape)} labels for {tuple(hidden.shape[:-1])} tokens"
    assert hidden.shape[-1] == weight.shape[-1], f"a head {tuple(weight.shape)} for hidden {tuple(hidden.shape)}"
    hidden, labels = hidden.flatten(0, -2), labels.flatten()
    wanted = [torch.is_grad_enabled() and x.requires_grad for x in (hidden, weight)]
    fused = _liger() if _on_gpu(hidden) else None
    if fused is not None and _suits_liger(hidden, weight, wanted):
        return _with_liger(fused, hidden, weight, labels, z_loss)
    total, plain = _HeadLoss.apply(hidden, weight, labels, z_loss, *wanted)
    return total, plain


@functools.cache
def _liger() -> Callable[..., tuple[Tensor, ...]] | None:
    """liger-kernel's fused loss (0.6.5 or newer; arXiv 2410.10989), where it and a GPU are there."""
    if not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None:
        return None
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    apply: Callable[..., tuple[Tensor, ...]] = LigerFusedLinearCrossEntropyFunction.apply
    return apply


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _suits_liger(hidden: Tensor, weight: Tensor, wanted: list[bool]) -> bool:
    """liger makes no gradient of the weight alone, rounds it to bf16 under autocast, and wants at least one token."""
    one_dtype = hidden.dtype == weight.dtype and not torch.is_autocast_enabled(hidden.device.type)
    return one_dtype and len(hidden) > 0 and (wanted[0] or not wanted[1])


def _with_liger(
    fused: Callable[..., tuple[Tensor, ...]], hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float
) -> tuple[Tensor, Tensor]:
    """The same contract; the z-loss that is taken off for the second scalar is a sum in hidden's dtype.

    sync: liger asks for the number of targets, and whether the factor from above is 1; the GPU idles for a moment.
    """
    # bias, ce_weight, ignore_index, lse_square_scale, label_smoothing, reduction, softcap, return_z_loss, accum_dtype
    settings = (None, None, IGNORED, z_loss, 0.0, "sum", None, z_loss > 0, torch.float32)
    total, of_z, *_ = fused(hidden, weight, labels, *settings)
    total = total.float()
    return total, total.detach() - of_z.detach().float() if z_loss > 0 else total.detach()


def num_targets(labels: Tensor) -> int:
    """How many positions carry a label. Count on the host, before the labels go to a device: there it would wait."""
    assert labels.device.type == "cpu", "count the targets before the labels go to the device"
    return int((labels != IGNORED).sum())


def describe() -> str:
    """Which path the loss takes on this machine, for the doctor's page and the start of a run."""
    if not torch.cuda.is_available():
        return "chunked head and cross-entropy in torch"
    if _liger() is not None:
        return "liger-kernel's fused head and cross-entropy on the GPU (chunked in torch under autocast)"
    return "chunked head and cross-entropy in torch: reduced, no liger-kernel from 0.6.5 on (pip install '.[liger]')"
