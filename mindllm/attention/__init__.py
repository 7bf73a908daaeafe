"""Attention behind one signature: `attend` under a `Mask`. This package alone knows which kernel runs."""

from mindllm.attention.attend import attend, describe
from mindllm.attention.mask import CAUSAL, Mask

__all__ = ["CAUSAL", "Mask", "attend", "describe"]
