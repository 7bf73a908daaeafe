#!/usr/bin/env python3
"""Attention, forward and backward: milliseconds of each kernel that is there, next to torch's plain SDPA.

    python bench/attention.py [--shapes 8x512x6x6x64 ...] [--dtype bfloat16 float32] [--threads 1] [--rounds 5]

A shape is batch x tokens x heads x key-value heads x head dimension. Cases: causal, a causal window, packed documents
(SDPA gets a ready table of who sees whom for the last two). Kernels take turns, so that a busy machine is equally bad
for all; the median counts, and ratios inside a row. On a CPU processor time (all threads), on a GPU the device's clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import common  # noqa: F401  (puts the repository on the path)
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindllm.attention import CAUSAL, Mask, attend, describe, flash, kernels
from mindllm.attention.blocked import attend_in_blocks

CPU_SHAPES = ["8x512x6x6x64", "2x2048x6x6x64", "4x512x16x4x64"]
GPU_SHAPES = ["8x2048x16x16x128", "2x8192x20x20x128", "8x2048x32x8x128"]

Run = Callable[[Tensor, Tensor, Tensor], Tensor]


def cases(B: int, T: int, window: int, document: int, device: str) -> dict[str, tuple[Mask, int]]:
    """Name -> mask and window."""
    first = np.random.default_rng(0).random((B, T)) < 1 / document
    return {
        "causal": (CAUSAL, 0),
        f"window {window}": (CAUSAL, window),
        f"documents of {document}": (Mask.packed(first, device), 0),
    }


def sdpa(mask: Mask, window: int, T: int, grouped: bool, device: str) -> Run:
    """What people call: SDPA, causal by flag, all else by a table made beforehand."""
    plain = mask.plain and not window
    seen = None if plain else mask.visible(T, T, window, device)[:, None]

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=plain, enable_gqa=grouped)
        return out.transpose(1, 2)

    return run


def contenders(mask: Mask, window: int, sizes: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Run]:
    """Name -> kernel, for all that take the case here."""
    _, T, H, K, D = sizes
    inner: dict[str, Any] = {}
    if device == "cpu":
        inner["blocks"] = attend_in_blocks
    elif dtype != torch.float32:
        inner["varlen"], inner["flex"] = kernels.attend_packed, kernels.attend_with_flex
        if flash.usable():
            inner["flash-attn"] = flash.attend_with_flash
    runs: dict[str, Run] = {"SDPA": sdpa(mask, window, T, H != K, device)}
    for name, kernel in inner.items():
        runs[name] = lambda q, k, v, kernel=kernel: kernel(q, k, v, mask, window, D**-0.5)
    runs["attend"] = lambda q, k, v: attend(q, k, v, mask, window=window)
    return runs


def once(run: Run, data: tuple[Tensor, ...], pull: Tensor, device: str) -> float:
    """Milliseconds of a forward and a backward pass."""
    if device == "cpu":
        start = time.process_time()
        torch.autograd.grad(run(*data), data, pull)
        return 1e3 * (time.process_time() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    torch.autograd.grad(run(*data), data, pull)
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def row(runs: dict[str, Run], sizes: tuple[int, ...], dtype: torch.dtype, device: str, rounds: int) -> str:
    """Median milliseconds of each, and how many times faster than SDPA, round by round."""
    B, T, H, K, D = sizes
    torch.manual_seed(0)
    data = tuple(torch.randn(B, T, n, D, device=device).to(dtype).requires_grad_() for n in (H, K, K))
    pull = torch.randn(B, T, H, D, device=device).to(dtype)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(2 + rounds):  # the first two warm up
        for name, run in runs.items():
            times[name].append(once(run, data, pull, device))
    peer = times["SDPA"][2:]
    cells = []
    for name, all_of_it in times.items():
        measured = all_of_it[2:]
        ratio = statistics.median(p / m for p, m in zip(peer, measured, strict=True))
        cells.append(f"{name} {statistics.median(measured):8.2f} ms ({ratio:.2f})")
    return "   ".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", metavar="BxTxHxKxD")
    parser.add_argument("--dtype", nargs="+", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--document", type=int, default=200, help="tokens of a document, on average")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options: Any = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}; {device}; attend: {describe()}; forward + backward, in brackets SDPA's time / it"
    )
    for shape in options.shapes or (GPU_SHAPES if device == "cuda" else CPU_SHAPES):
        sizes = tuple(int(n) for n in shape.split("x"))
        if len(sizes) != 5:
            sys.exit(f"{shape}: a shape is batch x tokens x heads x key-value heads x head dimension, as 8x512x6x6x64")
        for name in options.dtype or (["bfloat16"] if device == "cuda" else ["bfloat16", "float32"]):
            dtype = getattr(torch, name)
            for case, (mask, window) in cases(*sizes[:2], options.window, options.document, device).items():
                runs = contenders(mask, window, sizes, dtype, device)
                print(f"{shape:18s} {name:9s} {case:17s} {row(runs, sizes, dtype, device, options.rounds)}", flush=True)


if __name__ == "__main__":
    main()
