"""What every model family here can be asked: logits, loss, a KV cache, recomputed or compiled layers.

A family brings its embedding and layers (`hidden_states`), this class the head. Nothing here waits for the device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mindllm.attention import CAUSAL, Mask
from mindllm.loss import next_token_loss
from mindllm.models.cache import Cache

# B batch, T time, C hidden, V vocab


class LanguageModel(nn.Module):
    """A decoder with a head.

    z_loss: weight of the z-loss in training.  recompute_layers: so many layers, from the first, keep only their input
    for the backward pass and compute the rest again: about a third more time for most of the activations' memory.
    """

    config: Any
    lm_head: nn.Linear
    z_loss = 0.0
    recompute_layers = 0

    def hidden_states(
        self, input_ids: Tensor, mask: Mask = CAUSAL, position_ids: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """(B, T) token ids to (B, T, C) after the last norm.

        position_ids (B, T): None counts from the length of `cache` (of 0), or in each document that `mask` packs.
        """
        raise NotImplementedError

    def decoder_layers(self) -> nn.ModuleList:
        """The repeated layers, in order."""
        raise NotImplementedError

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, mask: Mask = CAUSAL,
        position_ids: Tensor | None = None, cache: Cache | None = None,
    ) -> Any:  # fmt: skip
        """Logits (B, T, V); or with labels (B, T) two fp32 scalars, see loss.next_token_loss."""
        hidden = self.hidden_states(input_ids, mask, position_ids, cache)
        if labels is None:
            return self.lm_head(hidden)
        return next_token_loss(hidden, self.lm_head.weight, labels, self.z_loss if self.training else 0.0)

    def run_layer(self, index: int, *inputs: Any) -> Tensor:
        """Layer `index` on its inputs, recomputed in the backward pass where that was asked for."""
        layer = self.decoder_layers()[index]
        if self.training and torch.is_grad_enabled() and index < self.recompute_layers:
            recomputed: Tensor = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
            return recomputed
        result: Tensor = layer(*inputs)
        return result

    def compile_layers(self) -> None:
        """torch.compile each layer by itself: equal layers share the work (20 s once), names of weights stay."""
        # GPT-Neo has two kinds of layers, packed documents two shapes of each, validation other batch sizes: all of
        # them count together, and beyond the limit (8 in torch) layers run uncompiled
        torch._dynamo.config.recompile_limit = max(32, torch._dynamo.config.recompile_limit)
        for layer in self.decoder_layers():
            layer.compile()

    def num_parameters(self) -> int:
        """Parameters, a tied head counted once."""
        return sum(p.numel() for p in self.parameters())


def count_positions(T: int, mask: Mask, cache: Cache | None, device: torch.device) -> Tensor:
    """Positions (T,), or (B, T) where `mask` packs documents, when the caller gave none."""
    if mask.positions is not None:
        return mask.positions
    start = cache.length if cache is not None else 0
    return torch.arange(start, start + T, device=device)
