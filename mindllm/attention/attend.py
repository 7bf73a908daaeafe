"""Attention under a mask, by the best kernel that is there. This file chooses, the others of the package compute.

    case                                    CPU                    GPU, bf16 or fp16             GPU, fp32
    one query (T = 1: generation)           SDPA                   SDPA                          SDPA
    causal or all, T = S, no window         blocks (fp32: *)       flash-attn, else SDPA         SDPA
    window, or causal with T < S            blocks                 flash-attn, else varlen       SDPA with a table
    packed documents (Mask.packed)          blocks                 flash-attn, else varlen       SDPA with a table
    prefix, padding, other documents        blocks                 flex (small: SDPA, a table)   SDPA with a table

On a CPU less than 64 queries go to SDPA, too. * plain fp32 goes to blocks only where heads share keys or T is within
FP32_BLOCKS. GPUs without FlashAttention-2 (before compute capability 8.0) and head dimensions that it does not take
(over 256, no multiple of 8) are treated as fp32. Nothing here waits for the device.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor

from mindllm.attention import flash
from mindllm.attention.blocked import attend_in_blocks
from mindllm.attention.kernels import (
    attend_from_one,
    attend_packed,
    attend_with_flex,
    attend_with_sdpa,
    attend_with_table,
)
from mindllm.attention.mask import CAUSAL, Mask

HALF = (torch.bfloat16, torch.float16)
FEW_QUERIES = 64  # of a CPU: below, what blocks cost before they begin counts
FP32_BLOCKS = (384, 1023)  # tokens, from and to, for which blocks train 1.05 to 1.3 times as fast as SDPA on a CPU
TABLE_BYTES = 1 << 24  # up to this a table is better than to compile a kernel for the mask

PATHS = {
    "one": attend_from_one, "blocks": attend_in_blocks, "sdpa": attend_with_sdpa, "table": attend_with_table,
    "packed": attend_packed, "flex": attend_with_flex, "flash": flash.attend_with_flash,
}  # fmt: skip

# B batch, T queries, S keys, H heads, K key-value heads, D head dim


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask = CAUSAL, *, window: int = 0, scale: float | None = None
) -> Tensor:
    """Softmax attention. query (B, T, H, D), key and value (B, S, K, D) with H a multiple of K; returns (B, T, H, D).

    window: a query sees the last so many keys, itself included; 0: all that `mask` allows.  scale: of the scores, None:
    1 / sqrt(D) (Vaswani et al. 2017); K < H shares keys among heads (Ainslie et al. 2023, arXiv 2305.13245). The dtype
    is autocast's where it is on, else that of `value`.
    """
    _check(query, key, value, mask, window, scale)
    (B, T, H, D), S = query.shape, key.shape[1]
    kind, dtype = query.device.type, value.dtype
    if dtype != torch.float64 and kind != "meta" and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    window = window if window < S else 0
    path = choose(kind, dtype, (B, T, S, D), mask, window, H != key.shape[2])
    return PATHS[path](query, key, value, mask, window, D**-0.5 if scale is None else scale)


def choose(
    kind: str, dtype: torch.dtype, sizes: tuple[int, int, int, int], mask: Mask, window: int, grouped: bool
) -> str:
    """Which of PATHS takes the case; sizes: (B, T, S, D).  grouped: heads share keys."""
    B, T, S, D = sizes
    if T == 1:
        return "one"
    simple = mask.plain and not window and (T == S or not mask.causal)
    if kind == "cpu":
        # where heads share keys, SDPA copies them
        single = not simple or grouped or FP32_BLOCKS[0] <= T <= FP32_BLOCKS[1]
        blocked = T >= FEW_QUERIES and (dtype in HALF or (dtype == torch.float32 and single))
        return "blocks" if blocked else "sdpa" if simple else "table"
    if kind == "cuda" and dtype in HALF and D % 8 == 0 and D <= 256 and _has_flash_kernel():
        if mask.plain or (mask.boundaries is not None and mask.prefix is None and mask.padding is None):
            return "flash" if flash.usable() else "sdpa" if simple else "packed"
        return "flex" if T == S and B * T * S > TABLE_BYTES else "table"
    if kind == "cuda" and not torch.compiler.is_compiling():
        _say_reduced(dtype, D)
    return "sdpa" if simple else "table"


def describe() -> str:
    """Which path `attend` takes on this machine, for the doctor's page and the start of a run."""
    if not torch.cuda.is_available():
        return "blocks of queries on the CPU (torch SDPA for generation, and in fp32 where it is faster)"
    if not _has_flash_kernel():
        return "torch SDPA, with tables for windows and packed documents (SLOW: this GPU has no FlashAttention-2)"
    if flash.usable():
        return f"flash-attn {flash.version()} (varlen for packed documents)"
    return f"torch SDPA (FlashAttention-2 inside), torch varlen for windows and packed documents ({flash.version()})"


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float | None) -> None:
    (B, T, H, D), (S, K) = query.shape, key.shape[1:3]
    assert key.shape == value.shape == (B, S, K, D), "query (B, T, H, D), key and value (B, S, K, D) do not fit"
    assert H % K == 0, f"{H} heads cannot share {K} key-value heads evenly"
    assert T <= S, f"{T} queries are more than the {S} keys; the queries are the last positions"
    assert window >= 0, f"a window of {window} keys cannot be; 0 means all"
    assert scale is None or scale > 0, f"a scale of {scale} loses the scores"
    if mask.documents is not None:
        assert T == S, "documents are for training; with a cache (more keys than queries) they cannot be told apart"
        assert mask.documents.shape == (B, T), "a document number is needed for each token (B, T)"
    for per_row in (mask.prefix, mask.padding):
        assert per_row is None or per_row.shape == (B,), "prefix and padding hold one number per row (B,)"


@torch.compiler.assume_constant_result
def _has_flash_kernel() -> bool:
    """Whether the GPU in use runs FlashAttention-2: compute capability 8.0 (Ampere) and up."""
    return torch.cuda.get_device_capability() >= (8, 0)


@cache
def _say_reduced(dtype: torch.dtype, D: int) -> None:
    """Say once per process and reason that attention on the GPU is slower than it could be."""
    if not _has_flash_kernel():
        reason = "this GPU is older than compute capability 8.0"
    elif dtype not in HALF:
        reason = f"the inputs are {str(dtype).removeprefix('torch.')}, it takes bfloat16 and float16"
    else:
        reason = f"it does not take a head dimension of {D} (over 256, or no multiple of 8)"
    warnings.warn(f"attention runs WITHOUT FlashAttention-2, slower and with more memory: {reason}", stacklevel=4)
