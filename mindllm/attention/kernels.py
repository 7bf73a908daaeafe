"""torch's own attention kernels behind our masks: SDPA, packed sequences (varlen), flex_attention.

SDPA is exact and everywhere; with anything but a plain mask it needs a table of who sees whom (B*T*S bytes). varlen is
the FlashAttention-2 kernel for documents and windows, without a table (GPU, bf16 and fp16). flex_attention compiles a
kernel for any rule and leaves out blocks that nobody sees (GPU; about a minute once). Tables are made once per mask
and window, and go when the mask goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from mindllm.attention.flash import sides
from mindllm.attention.mask import Mask

# B batch, T queries, S keys, H heads, K key-value heads, G = H / K heads that share keys, D head dim

_made: WeakKeyDictionary[Mask, dict[tuple[str, int], tuple[Any, Any]]] = WeakKeyDictionary()


def attend_with_sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    """A mask that is plain, without window, of T = S or not causal."""
    assert mask.plain and not window, "SDPA knows no such rule without a table"
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    grouped = query.shape[2] != key.shape[2]
    out = F.scaled_dot_product_attention(q, k, v, is_causal=mask.causal, scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2)


def attend_with_table(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    """Any mask. memory: B*T*S bytes, and on a CPU and on old GPUs B*H*T*S scores besides."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    grouped = query.shape[2] != key.shape[2]
    seen = _seen(mask, query.shape[1], key.shape[1], window, query.device)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2)


def attend_from_one(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    """One query per sequence (T = 1), the last: a step of generation. Any mask.

    Heads that share keys become rows of one product, so that no key is copied; a window cuts the keys.
    """
    B, _, H, D = query.shape
    seen = None if mask.plain else _seen(mask, 1, key.shape[1], window, query.device)
    if window:
        key, value = key[:, -window:], value[:, -window:]
        seen = None if seen is None else seen[..., -window:]
    q = query.reshape(B, key.shape[2], -1, D)  # (B, K, G, D)
    out = F.scaled_dot_product_attention(q, key.transpose(1, 2), value.transpose(1, 2), attn_mask=seen, scale=scale)
    return out.reshape(B, 1, H, D)


def attend_packed(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    """Plain masks (T <= S) with or without a window, or documents that `Mask.packed` packed. GPU, bf16 and fp16."""
    (B, T), S = query.shape[:2], key.shape[1]
    if mask.documents is None:
        ends, key_ends = (torch.arange(0, B * n + 1, n, dtype=torch.int32, device=query.device) for n in (T, S))
        longest, longest_key = T, S
    else:
        assert mask.boundaries is not None, "documents without boundaries cannot be cut into sequences"
        ends, key_ends, longest, longest_key = mask.boundaries, mask.boundaries, mask.longest, mask.longest
    rules: dict[str, Any] = {"scale": scale, "window_size": sides(mask, window)}
    if query.shape[2] != key.shape[2]:
        if _VARLEN_SHARES_KEYS:
            rules["enable_gqa"] = True
        else:  # memory: H / K times the keys and values
            key, value = (x.repeat_interleave(query.shape[2] // x.shape[2], dim=2) for x in (key, value))
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))  # (B*T, H, D)
    out: Any = varlen_attn(q, k, v, ends, key_ends, longest, longest_key, **rules)
    return out.view(query.shape)


_VARLEN_SHARES_KEYS = "enable_gqa" in inspect.signature(varlen_attn).parameters  # not in every torch


def attend_with_flex(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    """Any mask, T = S. On a CPU without compilation: slow, for tests."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    kernel: Any = flex_attention if torch.compiler.is_compiling() or not query.is_cuda else _compiled_flex()
    blocks = _blocks(mask, query.shape[0], query.shape[1], window, query.device)
    out: Any = kernel(q, k, v, block_mask=blocks, scale=scale, enable_gqa=query.shape[2] != key.shape[2])
    return out.transpose(1, 2)


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


def _seen(mask: Mask, T: int, S: int, window: int, device: torch.device) -> Tensor:
    """bool (B or 1, 1, T, S). Inside of compiled code each layer makes its own, which is fused with what follows."""
    if torch.compiler.is_compiling():
        return mask.visible(T, S, window, device)[:, None]
    table: Tensor = _once(mask, "seen", window, (T, S, device), lambda: mask.visible(T, S, window, device)[:, None])
    return table


@torch.compiler.disable(recursive=False)
def _blocks(mask: Mask, B: int, T: int, window: int, device: torch.device) -> BlockMask:
    """Which blocks of 128 x 128 anybody sees. memory: B*T*T bytes, a few times over while it is made."""
    rules = replace(mask)  # a copy: blocks that hold the mask itself would keep it, and so themselves, for ever

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return rules.rule(batch, query, key, window)

    def make() -> BlockMask:
        return create_block_mask(seen, None if mask.plain else B, None, T, T, device=str(device))

    blocks: BlockMask = _once(mask, "blocks", window, (T, device), make)
    return blocks


def _once(mask: Mask, kind: str, window: int, shape: Any, make: Callable[[], Any]) -> Any:
    """What `make` makes, kept as long as the mask lives and the shape stays the same.

    Not so for plain masks: CAUSAL lives forever, and its tables are cheap.
    """
    if mask.plain:
        return make()
    made = _made.setdefault(mask, {})
    if (kind, window) not in made or made[kind, window][0] != shape:
        made[kind, window] = (shape, make())
    return made[kind, window][1]
