"""Keys and values of the tokens that a model has read, so that each further token costs one position's work.

Room for max_length tokens is taken at once (memory: num_layers * 2 * B*S*K*D values) and never copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

# B batch, T new tokens, S tokens so far, K key-value heads, D head dim


class Cache:
    """Of one batch of sequences that grow together. `length` counts the tokens that all layers have."""

    def __init__(self, max_length: int):
        self.max_length, self.length = max_length, 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, T, K, D) of one layer; returns all of it, (B, S, K, D). The model calls `advance` after the last."""
        T, end = key.shape[1], self.length + key.shape[1]
        assert end <= self.max_length, f"the cache holds {self.max_length} tokens, not {end}"
        if layer not in self._layers:
            shape = (key.shape[0], self.max_length, *key.shape[2:])
            self._layers[layer] = (torch.empty(shape, dtype=key.dtype, device=key.device),
                                   torch.empty(shape, dtype=value.dtype, device=value.device))  # fmt: skip
        for room, new in zip(self._layers[layer], (key, value), strict=True):
            room[:, end - T : end] = new
        keys, values = self._layers[layer]
        return keys[:, :end], values[:, :end]

    def advance(self, num_tokens: int) -> None:
        """Every layer has these tokens now."""
        self.length += num_tokens

    def reorder(self, rows: Tensor) -> None:
        """Keep the sequences `rows` (N,) of the batch, in this order."""
        self._layers = {i: (k[rows], v[rows]) for i, (k, v) in self._layers.items()}
