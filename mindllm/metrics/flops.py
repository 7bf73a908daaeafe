"""FLOPs that a model needs to train on a token: what MFU counts, and what a plan's hours come from."""

from __future__ import annotations

import torch
from torch import nn

from mindllm.models import MODELS, GPTNeoConfig, ModelConfig


def flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """FLOPs of a model of this shape to train on one token of seq_len, forward and backward (twice the forward).

    6 x parameters that multiply (every matrix but the embeddings' look-up; a tied head multiplies, once) + 12 x width
    of all query heads x keys that a query sees on average, summed over layers: PaLM, arXiv 2204.02311, appendix B, but
    with only those scores counted that the mask leaves (seq_len / 2, where PaLM has seq_len). Norms, positions and
    softmax are left out, and so is what packed documents (mask_documents) hide.
    """
    with torch.device("meta"):  # memory: none
        model = MODELS[config.model_type](config)
    others = (module for module in model.modules() if not isinstance(module, nn.Embedding))
    products = sum(p.numel() for module in others for p in module.parameters(recurse=False) if p.dim() == 2)
    width, windows = _attention(config)
    return 6.0 * products + 12.0 * width * sum(mean_keys(seq_len, window) for window in windows)


def mean_keys(seq_len: int, window: int = 0) -> float:
    """Keys that a causal query sees on average: those before it and itself, at most `window` of them (0: all)."""
    most = min(window or seq_len, seq_len)
    return most - most * (most - 1) / (2 * seq_len)  # position t sees min(t + 1, most)


def _attention(config: ModelConfig) -> tuple[int, list[int]]:
    """Channels of all query heads together, and every layer's window."""
    if isinstance(config, GPTNeoConfig):
        return config.hidden_size, [config.window_size if k == "local" else 0 for k in config.attention_layers]
    return config.num_attention_heads * config.head_size, [0] * config.num_hidden_layers
