"""Do the kernels of this machine compute what their formulas say? Exit code 1 if one does not.

    python bench/gpu_parity.py                 (or: python bench/gpu.py --parity)

- attention: `attend`, and every path that it could take here, under every kind of mask: output and gradients
- the loss head: loss and gradients, with ignored positions and z-loss
- one training step of each model family: nothing in it may make the host wait for the GPU

The truth is plain arithmetic in fp64. A kernel may be off by a small factor more than the same plain arithmetic in its
own precision is (rounding grows with length and is not a mistake), plus a floor. Takes about two minutes on a GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import common  # noqa: F401  the repository on Python's path
import numpy as np
import torch
import torch.nn.functional as F
from gpu_step import SHAPES, MasterAdamW, Side, build_ours, train_step
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from mindllm import attention, loss
from mindllm.attention import CAUSAL, Mask, attend, flash
from mindllm.attention.attend import PATHS
from mindllm.loss import IGNORED, next_token_loss

FACTOR = 3.0  # times the error of plain arithmetic in the same precision
FLOOR = {torch.float32: 2e-6, torch.bfloat16: 2e-3}  # of the largest true value
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16"}

# B batch, T queries, S keys, H heads, K key-value heads, D head dim, C hidden, V vocab


class Check(NamedTuple):
    """One line of the table: error and what is allowed, as shares of the largest true value; or what went wrong."""

    name: str
    precision: str
    error: float
    allowed: float
    note: str = ""

    @property
    def good(self) -> bool:
        """Within what is allowed (a NaN is not)."""
        return not self.note and self.error <= self.allowed


class Attention(NamedTuple):
    """A call of `attend`."""

    name: str
    mask: Mask
    T: int = 384
    S: int = 384
    H: int = 4
    K: int = 4
    D: int = 64
    window: int = 0
    scale: float | None = None


def attention_calls(device: torch.device) -> Iterator[Attention]:
    """Every kind of mask, head shape and length that the models use."""
    first = np.zeros((2, 384), dtype=bool)
    first[0, [7, 100, 101, 300]] = first[1, [128, 256]] = True
    documents, lengths = Mask.packed(first, device), torch.tensor([5, 130], device=device)
    yield Attention("causal", CAUSAL)
    yield Attention("causal, heads of 128", CAUSAL, D=128)
    yield Attention("causal, odd length", CAUSAL, T=333, S=333)
    yield Attention("causal, grouped heads", CAUSAL, K=2)
    yield Attention("no scaling of scores", CAUSAL, scale=1.0)
    yield Attention("window 64", CAUSAL, window=64)
    yield Attention("window 64, no scaling", CAUSAL, window=64, scale=1.0)
    yield Attention("documents", documents)
    yield Attention("documents, grouped heads", documents, K=1)
    yield Attention("documents, window 64", documents, window=64)
    yield Attention("prefix", Mask(prefix=lengths))
    yield Attention("both ways", Mask(causal=False))
    yield Attention("both ways, padding", Mask(causal=False, padding=lengths))
    yield Attention("padding", Mask(padding=lengths))
    yield Attention("16 new tokens of a cache", CAUSAL, T=16)
    yield Attention("1 new token of a cache, padding", Mask(padding=lengths), T=1)
    yield Attention("1 new token, window 64", CAUSAL, T=1, window=64)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, call: Attention) -> Tensor:
    """softmax(scale * q k' + mask) v, in the precision of the inputs."""
    k, v = (x.repeat_interleave(call.H // call.K, dim=2) for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) * (call.D**-0.5 if call.scale is None else call.scale)
    seen = call.mask.visible(call.T, call.S, call.window, q.device)[:, None]
    return torch.einsum("bhts,bshd->bthd", scores.masked_fill(~seen, float("-inf")).softmax(dim=-1), v)


def paths_for(call: Attention, dtype: torch.dtype, device: torch.device) -> list[str]:
    """The paths that can take a call on this device, whether or not `attend` would choose them; "" for its choice."""
    cuda, packable = device.type == "cuda", call.mask.plain or call.mask.boundaries is not None
    half = cuda and dtype == torch.bfloat16
    able = {
        "": True,
        "sdpa": call.mask.plain and not call.window and (call.T == call.S or not call.mask.causal),
        "table": True,
        "one": call.T == 1,
        "blocks": not cuda,
        "packed": half and packable,
        "flash": half and packable and flash.usable(),
        # slow: a kernel is compiled for each mask; so where it is needed, and for the two simplest. None on a CPU
        "flex": half and call.T == call.S and (not packable or call.name in ("causal", "window 64")),
    }
    assert set(able) == {"", *PATHS}, "a new path of attention needs a line here"
    return [path for path, can in able.items() if can]


def check_attention(call: Attention, path: str, dtype: torch.dtype, device: torch.device) -> Check:
    """Output and gradients of q, k, v; the worst of the four counts."""
    generator = torch.Generator().manual_seed(1)
    sizes = ((call.T, call.H), (call.S, call.K), (call.S, call.K))
    strength = call.D**-0.25 if call.scale == 1.0 else 1.0  # so that scores stay of order 1
    inputs = [torch.randn(2, n, heads, call.D, generator=generator).to(device, dtype) * strength for n, heads in sizes]
    pull = torch.randn(2, call.T, call.H, call.D, generator=generator).to(device, dtype)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not path:
            return attend(q, k, v, call.mask, window=call.window, scale=call.scale)
        return PATHS[path](q, k, v, call.mask, call.window, call.D**-0.5 if call.scale is None else call.scale)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return plain_attention(q, k, v, call)

    return _compare(attention_name(call, path), ours, plain, inputs, pull)


def attention_name(call: Attention, path: str) -> str:
    """What the table calls it."""
    return f"attention: {call.name}, {path or 'as chosen'}"


def chunked_loss() -> AbstractContextManager[object]:
    """Inside, the loss is that in chunks, whether or not liger-kernel is there."""
    return patch.object(loss, "_liger", lambda: None)


def check_loss(z_loss: float, vocab_size: int, chunked: bool, dtype: torch.dtype, device: torch.device) -> Check:
    """Loss and gradients of hidden states and head; a tenth of the positions is ignored."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, 300, 128, generator=generator).to(device, dtype)
    weight = (torch.randn(vocab_size, 128, generator=generator) * 0.1).to(device, dtype)
    labels = torch.randint(0, vocab_size, (2, 300), generator=generator)
    labels[torch.rand(2, 300, generator=generator) < 0.1] = IGNORED
    labels = labels.to(device)

    def ours(x: Tensor, w: Tensor) -> Tensor:
        with chunked_loss() if chunked else nullcontext():
            return next_token_loss(x, w, labels, z_loss)[0]

    def plain(x: Tensor, w: Tensor) -> Tensor:
        logits = (x @ w.T).flatten(0, 1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        squared = (torch.logsumexp(logits, dim=-1)[labels.flatten() != IGNORED] ** 2).sum()
        return F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum") + z_loss * squared

    name = f"loss: vocabulary {vocab_size:,}, z-loss {z_loss:g}, {'in chunks' if chunked else 'as chosen'}"
    return _compare(name, ours, plain, [hidden, weight], torch.ones((), device=device))


def _compare(
    name: str, kernel: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: list[Tensor], pull: Tensor
) -> Check:
    """The worst output or gradient of kernel(*inputs) against plain(*inputs) in fp64. pull: gradient of the output."""
    dtype = inputs[0].dtype
    truth, usual, found = (
        _results(plain, [x.double() for x in inputs], pull), _results(plain, inputs, pull),
        _results(kernel, inputs, pull),
    )  # fmt: skip
    worst = Check(name, PRECISIONS[dtype], 0.0, FLOOR[dtype])
    for ours, normal, true in zip(found, usual, truth, strict=True):
        size = float(true.abs().max()) or 1.0
        error, common_error = (float((x.double() - true).abs().max()) / size for x in (ours, normal))
        this = Check(name, PRECISIONS[dtype], error, FACTOR * common_error + FLOOR[dtype])
        if not this.error / this.allowed <= worst.error / worst.allowed:  # a NaN is worse than anything
            worst = this
    return worst


def _results(function: Callable[..., Tensor], inputs: list[Tensor], pull: Tensor) -> list[Tensor]:
    """The value of a function and the gradients of its inputs."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    out.backward(pull.to(out.dtype))
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


def check_no_wait(shape: str, documents: bool, device: torch.device) -> Check:
    """A step under torch's debug mode, in which every wait for the device raises. (liger-kernel's loss does wait.)"""
    torch.manual_seed(1)
    with device:
        side = build_ours(SHAPES[shape].config, 1)
    model = side.model.to(torch.bfloat16).train()
    first = np.zeros((2, 128), dtype=bool)
    first[:, 50] = True
    mask = Mask.packed(first, device) if documents else CAUSAL
    side = Side(model, side.layers, lambda x, y: model(x, labels=y, mask=mask)[0] / y.numel(), "")
    optimizer, tokens = MasterAdamW(model, 2), torch.randint(0, 256, (2, 2, 129), device=device)
    batches = [(t[:, :-1].contiguous(), t[:, 1:].contiguous()) for t in tokens]
    train_step(side, optimizer, batches)  # what is made once may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with chunked_loss():
            train_step(side, optimizer, batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Check(f"no wait in a step: {shape}{', documents' if documents else ''}", "bf16", 0.0, 0.0)


def checks(device: torch.device) -> Iterator[Check]:
    """All lines; a kernel that raises has one, too."""
    for dtype in PRECISIONS:
        for call in attention_calls(device):
            for path in paths_for(call, dtype, device):
                yield _try(attention_name(call, path), dtype, partial(check_attention, call, path, dtype, device))
        for z_loss, vocab_size in ((0.0, 1000), (0.01, 1000), (0.0, 12345)):
            for chunked in (False, True):
                yield _try("loss", dtype, partial(check_loss, z_loss, vocab_size, chunked, dtype, device))
    if device.type == "cuda":
        for shape, documents in (("tiny", False), ("tiny", True), ("tiny-neo", False), ("tiny-neo", True)):
            yield _try("no wait in a step", torch.bfloat16, partial(check_no_wait, shape, documents, device))


def _try(name: str, dtype: torch.dtype, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # any kernel's any error is a line of the table, and exit code 1
        return Check(name, PRECISIONS[dtype], float("nan"), 0.0, f"{type(error).__name__}: {error}"[:200])


def main() -> int:
    """Run all checks, print what is wrong; exit code 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = torch.device(parser.parse_args().device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu_parity.py: torch finds no GPU here; --device cpu checks the paths of a CPU")
    print(f"attention by {attention.describe()}; loss by {loss.describe()}; torch {torch.__version__}", flush=True)
    found = list(checks(device))
    table = Table(title="largest error of output and gradients, as a share of the largest true value")
    for column in ("check", "precision", "error", "allowed", ""):
        table.add_column(column, justify="right" if column in ("error", "allowed") else "left")
    for c in found:
        verdict = "ok" if c.good else "[bold red]WRONG[/] " + escape(c.note)
        table.add_row(escape(c.name), c.precision, f"{c.error:.1e}", f"{c.allowed:.1e}", verdict)
    Console(width=140).print(table)
    wrong = sum(not c.good for c in found)
    print(
        f"{len(found)} checks, {wrong} wrong" + ("" if device.type == "cuda" else "; waiting was not checked: no GPU")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
