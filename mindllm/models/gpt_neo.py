"""GPT-Neo (Black et al. 2021, doi 10.5281/zenodo.5297715), as Hugging Face's GPTNeoForCausalLM computes it.

- learned positions, LayerNorm before attention and feed-forward and at the end, feed-forward with the tanh form of gelu
- every other layer is local: a query sees window_size keys, itself included; scores are not scaled
- biases everywhere but in query, key, value and head; the head is tied to the embedding, or has weights of its own
- all weights start from one normal distribution (residual projections, too), biases from 0

Names of weights are Hugging Face's. Its scores are in fp32 even in bf16; here softmax is summed in fp32, but the CPU's
kernel may round scores, which matters less than that weights are rounded: logits in bf16 are at most 1.3 times as far
from the fp32 ones as Hugging Face's are (tests/test_gpt_neo.py).
memory: the cache of a local layer keeps all keys, not the window's alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mindllm.attention import CAUSAL, Mask, attend
from mindllm.config import UserError
from mindllm.models.base import LanguageModel, count_positions
from mindllm.models.cache import Cache

# B batch, T time, H heads, D head dim, C hidden, V vocab


@dataclass
class GPTNeoConfig:
    """Shape of the decoder, in Hugging Face's spelling; the defaults are GPT-Neo-1.3B's.

    vocab_size 0: the tokenizer's, rounded up to a multiple of vocab_multiple (an export leaves the empty rows out).
    intermediate_size 0: 4 x hidden_size.  attention_types: of the first layers, repeated over all of them.
    window_size: keys that a query sees in a local layer, itself included.
    """

    model_type: Literal["gpt_neo"] = "gpt_neo"
    vocab_size: int = 0
    vocab_multiple: int = 1
    hidden_size: int = 2048
    num_layers: int = 24
    num_heads: int = 16
    intermediate_size: int = 0
    attention_types: list[Literal["global", "local"]] = field(default_factory=lambda: ["global", "local"])
    window_size: int = 256
    max_position_embeddings: int = 2048
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    def problems(self) -> Iterator[str]:
        """What cannot be built, a line each."""
        sizes = ("hidden_size", "num_layers", "num_heads", "window_size", "max_position_embeddings", "vocab_multiple")
        for name in sizes:
            if getattr(self, name) < 1:
                yield f"{name}: must be at least 1"
        if self.vocab_size < 0:
            yield "vocab_size: must be 0 (the tokenizer's) or more"
        if self.intermediate_size < 0:
            yield "intermediate_size: must be 0 (4 x hidden_size) or more"
        for name in ("layer_norm_epsilon", "initializer_range"):
            if not getattr(self, name) > 0:
                yield f"{name}: must be above 0"
        if not self.attention_types or {*self.attention_types} - {"global", "local"}:
            yield f"attention_types: must be a list of global and local, not {self.attention_types}"
        if self.num_heads >= 1 and self.hidden_size % self.num_heads:
            yield f"hidden_size: {self.hidden_size} does not divide by num_heads {self.num_heads}"

    @property
    def num_hidden_layers(self) -> int:
        """The name that other families use."""
        return self.num_layers

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def attention_layers(self) -> list[Literal["global", "local"]]:
        """attention_types of every layer."""
        return [self.attention_types[i % len(self.attention_types)] for i in range(self.num_layers)]


class Attention(nn.Module):
    """Causal self-attention without scaling of scores, over everything or over a window."""

    def __init__(self, config: GPTNeoConfig, layer: int):
        super().__init__()
        self.head_dim, self.layer = config.head_size, layer
        self.window = config.window_size if config.attention_layers[layer] == "local" else 0
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Mask, cache: Cache | None) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (p(x).view(B, T, -1, self.head_dim) for p in (self.q_proj, self.k_proj, self.v_proj))  # (B, T, H, D)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        return self.out_proj(attend(q, k, v, mask, window=self.window, scale=1.0).reshape(B, T, -1))


class FeedForward(nn.Module):
    """c_proj(gelu(c_fc(x)))."""

    def __init__(self, config: GPTNeoConfig):
        super().__init__()
        inner = config.intermediate_size or 4 * config.hidden_size
        self.c_fc = nn.Linear(config.hidden_size, inner)
        self.c_proj = nn.Linear(inner, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each after its norm, added to what came in."""

    def __init__(self, config: GPTNeoConfig, layer: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = nn.ModuleDict({"attention": Attention(config, layer)})  # attn.attention, as the weights are named
        self.ln_2 = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, mask: Mask, cache: Cache | None) -> Tensor:
        x = x + self.attn["attention"](self.ln_1(x), mask, cache)
        return x + self.mlp(self.ln_2(x))


class Decoder(nn.Module):
    """Embeddings, layers, final norm; GPTNeo.hidden_states runs them (names as in Hugging Face's models)."""

    def __init__(self, config: GPTNeoConfig):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.h = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)


class GPTNeo(LanguageModel):
    """The language model: see LanguageModel for what it can be asked."""

    def __init__(self, config: GPTNeoConfig):
        super().__init__()
        assert config.vocab_size > 0, "vocab_size must be set before the model is built"
        self.config = config
        self.transformer = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        self.apply(self._init_weights)

    def hidden_states(
        self, input_ids: Tensor, mask: Mask = CAUSAL, position_ids: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """See LanguageModel. Raises UserError for a text longer than max_position_embeddings.

        Given position_ids are not looked at (they may lie on a device that is still busy): they must be below that.
        """
        T = input_ids.shape[1]
        if position_ids is None:
            self._check_length(T, mask, cache)
            position_ids = count_positions(T, mask, cache, input_ids.device)
        x = self.transformer.wte(input_ids) + self.transformer.wpe(position_ids)
        for i in range(len(self.transformer.h)):
            x = self.run_layer(i, x, mask, cache)
        if cache is not None:
            cache.advance(T)
        return self.transformer.ln_f(x)

    def decoder_layers(self) -> nn.ModuleList:
        """The repeated layers, in order."""
        return self.transformer.h

    def _check_length(self, T: int, mask: Mask, cache: Cache | None) -> None:
        """Positions are learned: there is none after the last. Only numbers that the host knows are read."""
        end = mask.longest if mask.positions is not None else T + (cache.length if cache is not None else 0)
        limit = self.config.max_position_embeddings
        if end > limit:
            raise UserError(f"a text of {end} tokens is longer than the model's {limit} positions; shorten it")

    def _init_weights(self, module: nn.Module) -> None:
        """normal(0, initializer_range) for every matrix, as transformers does; LayerNorm begins as 1 and 0."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
