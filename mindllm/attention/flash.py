"""The flash-attn package (extra `flash`), where it is installed: the only file that imports it.

FlashAttention-2 (arXiv 2307.08691): no table of scores in memory, windows, packed documents and shared keys natively;
bf16 and fp16 on a GPU of compute capability 8.0 and up. torch's SDPA carries the same kernel for the plain cases.
"""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from mindllm.attention.mask import Mask

OLDEST = (2, 3)  # windows, and causal masks that end at the last key

# B batch, T queries, S keys, H heads, K key-value heads, D head dim


@lru_cache(maxsize=1)
def _find() -> tuple[Any, str]:
    """The package, or None, and its version, or why there is none."""
    try:
        package = importlib.import_module("flash_attn")
    except ModuleNotFoundError:
        return None, "flash-attn is not installed"
    except (ImportError, OSError) as error:  # built for another torch or CUDA
        return None, f"flash-attn is installed but does not load ({error})"
    version = str(getattr(package, "__version__", "0"))
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if not OLDEST <= numbers < (3,):
        return None, f"flash-attn {version} is installed; {OLDEST[0]}.{OLDEST[1]} or a later 2.x is needed"
    return package, version


@torch.compiler.assume_constant_result
def usable() -> bool:
    """Whether the package is there."""
    return _find()[0] is not None


def version() -> str:
    """Its version, or why it is not used."""
    return _find()[1]


def attend_with_flash(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    """See attend. Plain masks (T <= S), or documents that `Mask.packed` packed."""
    package: Any = _find()[0]
    # keys to the left of a query's own place and to the right of it that it sees; -1: all
    rules = {"softmax_scale": scale, "causal": mask.causal, "window_size": sides(mask, window)}
    if mask.documents is None:
        out: Tensor = package.flash_attn_func(query, key, value, **rules)
        return out
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))  # (B*T, H, D)
    ends, longest = mask.boundaries, mask.longest
    out = package.flash_attn_varlen_func(q, k, v, ends, ends, longest, longest, **rules)
    return out.view(query.shape)


def sides(mask: Mask, window: int) -> tuple[int, int]:
    """How many keys a query sees left and right of its own position, besides that one, as flash kernels count them."""
    return window - 1 if window else -1, 0 if mask.causal else -1
