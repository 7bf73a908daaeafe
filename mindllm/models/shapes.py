"""Shapes for scaling runs: from a number of non-embedding parameters to a decoder, by one stated rule.

Heads have 64 channels; the width is a multiple of 64 (of 128 above 768, which suits a GPU's tiles); the feed-forward is
the multiple of 64 next to 8/3 of the width, so that three matrices weigh as much as two of 4 x the width. For every
width the number of layers is the one nearest to the target; of the shapes within 5 % of it, that one is taken whose
width / layers is nearest to 64 by ratio (at fixed size the loss depends little on it: arXiv 2001.08361, figure 5).

| target | hidden_size | num_hidden_layers | intermediate_size | heads | parameters  | width / layers |
|--------|-------------|-------------------|-------------------|-------|-------------|----------------|
| 10M    | 320         | 8                 | 832               | 5     | 9,672,000   | 40             |
| 15M    | 448         | 6                 | 1216              | 7     | 14,628,544  | 75             |
| 30M    | 512         | 10                | 1344              | 8     | 31,140,352  | 51             |
| 60M    | 704         | 10                | 1856              | 11    | 59,038,144  | 70             |
| 125M   | 896         | 13                | 2368              | 14    | 124,518,016 | 69             |
| 250M   | 1152        | 16                | 3072              | 18    | 254,841,984 | 72             |
| 500M   | 1408        | 21                | 3776              | 22    | 501,533,824 | 67             |
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mindllm.config import UserError
from mindllm.models.mindllm import MindLLMConfig

TARGETS = (10_000_000, 15_000_000, 30_000_000, 60_000_000, 125_000_000, 250_000_000, 500_000_000)
HEAD_SIZE = 64
WIDTH_PER_LAYER = 64
TOLERANCE = 0.05
_MAX_WIDTH = 16_384


def num_non_embedding(config: MindLLMConfig) -> int:
    """Parameters of the layers and the last norm: all but the embedding and the head."""
    hidden, keys = config.hidden_size, config.num_key_value_heads * config.head_size
    queries = config.num_attention_heads * config.head_size
    attention = 2 * hidden * (queries + keys) + (queries + 2 * keys) * config.qkv_bias
    layer = attention + 3 * hidden * config.intermediate_size + 2 * hidden
    return config.num_hidden_layers * layer + hidden


def shape_for(num_parameters: int) -> MindLLMConfig:
    """The shape for so many non-embedding parameters: DeepNorm, untied head, the tokenizer's vocabulary, context 2048.

    Raises UserError where no shape is within 5 % (below 1 million some are missed).
    """
    close = [c for c in _candidates(num_parameters)
             if abs(num_non_embedding(c) - num_parameters) <= TOLERANCE * num_parameters]  # fmt: skip
    if not close:
        raise UserError(f"no shape has {num_parameters:,} non-embedding parameters within {TOLERANCE:.0%}; try another")
    return min(close, key=lambda c: abs(math.log(c.hidden_size / c.num_hidden_layers / WIDTH_PER_LAYER)))


def _candidates(num_parameters: int) -> Iterator[MindLLMConfig]:
    """Of every width the shape that comes nearest."""
    for width in (*range(64, 768, 64), *range(768, _MAX_WIDTH + 1, 128)):
        one = _shape(width, 1)
        layer = num_non_embedding(one) - width
        yield _shape(width, max(1, round((num_parameters - width) / layer)))


def _shape(width: int, num_layers: int) -> MindLLMConfig:
    heads = width // HEAD_SIZE
    return MindLLMConfig(
        hidden_size=width, num_hidden_layers=num_layers, intermediate_size=max(1, round(8 * width / 3 / 64)) * 64,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048,
    )  # fmt: skip
