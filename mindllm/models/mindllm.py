"""MindLLM's decoder (arXiv 2310.15777): what was published, and where this file takes it from.

- rotary positions (RoPE, arXiv 2104.09864), half-split as in Llama; biases nowhere, or on q, k, v as in Qwen2
- RMSNorm (arXiv 1910.07467) in fp32; GeGLU feed-forward (arXiv 2002.05202) with the tanh form of gelu, or SwiGLU
- residuals: `prenorm`, x + f(norm(x)), or `deepnorm`, norm(alpha * x + f(x)) (arXiv 2203.00555), with its own init
- grouped-query heads, tied or untied head; names as in Hugging Face, so that exporting needs no mapping

Post-norm is written as the norm at the *start* of the next layer, so both residuals share all parameters and one line
differs. Under autocast the residual stream is fp32; what enters matrix products is rounded once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import is_autocast_available

from mindllm.attention import CAUSAL, Mask, attend
from mindllm.models.base import LanguageModel, count_positions
from mindllm.models.cache import Cache
from mindllm.models.norm import RMSNorm
from mindllm.models.rope import frequencies, rotary, rotate, scaling_problems

# B batch, T time, H heads, K key-value heads, D head dim, C hidden, F feed-forward, V vocab


@dataclass
class MindLLMConfig:
    """Shape of the decoder, in Hugging Face's spelling.

    vocab_size 0: the tokenizer's, rounded up to a multiple of vocab_multiple (an export leaves the empty rows out).
    head_dim 0: hidden_size / num_attention_heads.  qkv_bias: as in Qwen2.  rope_scaling: {} for none, or
    {rope_type: linear, factor: 4.0}, or {rope_type: llama3} with factor, low_freq_factor, high_freq_factor and
    original_max_position_embeddings.
    """

    model_type: Literal["mindllm"] = "mindllm"
    vocab_size: int = 0
    vocab_multiple: int = 1
    hidden_size: int = 256
    intermediate_size: int = 704
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 0
    hidden_act: Literal["gelu_pytorch_tanh", "silu"] = "gelu_pytorch_tanh"
    qkv_bias: bool = False
    max_position_embeddings: int = 256
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] = field(default_factory=dict)
    rms_norm_eps: float = 1e-5
    residual: Literal["deepnorm", "prenorm"] = "deepnorm"
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def problems(self) -> Iterator[str]:
        """What cannot be built, a line each."""
        counts = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        for name in (*counts, "max_position_embeddings", "vocab_multiple"):
            if getattr(self, name) < 1:
                yield f"{name}: must be at least 1"
        for name in ("vocab_size", "head_dim"):
            if getattr(self, name) < 0:
                yield f"{name}: must be 0 ({'the tokenizer' if name == 'vocab_size' else 'derived'}) or more"
        for name in ("rope_theta", "rms_norm_eps", "initializer_range"):
            if not 0 < getattr(self, name) < math.inf:
                yield f"{name}: must be above 0, and finite"
        yield from scaling_problems(self.rope_scaling)
        if self.qkv_bias and self.residual == "deepnorm":
            yield "qkv_bias: only with residual: prenorm, for no class of transformers has it with DeepNorm"
        if min(self.num_attention_heads, self.num_key_value_heads) >= 1:
            yield from self._head_problems()

    def _head_problems(self) -> Iterator[str]:
        heads, keys = self.num_attention_heads, self.num_key_value_heads
        if self.head_dim <= 0 and self.hidden_size % heads:
            yield f"hidden_size: {self.hidden_size} does not divide by num_attention_heads {heads}; or give head_dim"
        elif self.head_size % 2:
            name = "head_dim" if self.head_dim else "hidden_size / num_attention_heads"
            yield f"{name}: RoPE needs an even head dimension, not {self.head_size}"
        if heads % keys:
            yield f"num_attention_heads: {heads} is no multiple of num_key_value_heads {keys}"

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def residual_scale(self) -> float:
        """alpha of DeepNorm for N decoder layers, (2N)^(1/4) (arXiv 2203.00555, section 4); 1 without it."""
        return (2 * self.num_hidden_layers) ** 0.25 if self.residual == "deepnorm" else 1.0


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped-query heads."""

    def __init__(self, config: MindLLMConfig, layer: int):
        super().__init__()
        self.head_dim, self.layer = config.head_size, layer
        queries, keys = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask, cache: Cache | None) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (p(x).view(B, T, -1, self.head_dim) for p in (self.q_proj, self.k_proj, self.v_proj))  # (B, T, H, D)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        return self.o_proj(attend(q, k, v, mask).reshape(B, T, -1))


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """GeGLU or SwiGLU: down(act(gate(x)) * up(x)), act being gelu or silu."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act: Callable[[Tensor], Tensor] = F.silu if config.hidden_act == "silu" else _gelu_tanh

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each with its norm and residual."""

    def __init__(self, config: MindLLMConfig, layer: int):
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.deepnorm, self.scale = config.residual == "deepnorm", config.residual_scale

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask, cache: Cache | None) -> Tensor:
        h = self.input_layernorm(x)
        x = self._add(x, h, self.self_attn(h.to(cos.dtype), cos, sin, mask, cache))
        h = self.post_attention_layernorm(x)
        return self._add(x, h, self.mlp(h.to(cos.dtype)))

    def _add(self, x: Tensor, h: Tensor, f: Tensor) -> Tensor:
        return torch.add(f, h, alpha=self.scale) if self.deepnorm else x + f


class Decoder(nn.Module):
    """Embedding, layers, final norm; MindLLM.hidden_states runs them (names as in Hugging Face's models)."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MindLLM(LanguageModel):
    """The language model: see LanguageModel for what it can be asked."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        assert config.vocab_size > 0, "vocab_size must be set before the model is built"
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.apply(self._init_weights)
        self._init_residual()

    def hidden_states(
        self, input_ids: Tensor, mask: Mask = CAUSAL, position_ids: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """See LanguageModel."""
        x = self.model.embed_tokens(input_ids)
        if position_ids is None:
            position_ids = count_positions(input_ids.shape[1], mask, cache, x.device)
        turning = frequencies(self.config.head_size, self.config.rope_theta, self.config.rope_scaling, x.device)
        cos, sin = rotary(position_ids, turning, _product_dtype(x))
        for i in range(len(self.model.layers)):
            x = self.run_layer(i, x, cos, sin, mask, cache)
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.model.norm(x)

    def decoder_layers(self) -> nn.ModuleList:
        """The repeated layers, in order."""
        return self.model.layers

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def _init_residual(self) -> None:
        """DeepNet: Xavier with gain beta = (8N)^(-1/4) on feed-forward, value and output, 1 on query and key.

        (arXiv 2203.00555, section 4 and figure 2, decoder only.) Pre-norm: what goes into the residual stream is
        divided by sqrt(2N) (GPT-2, section 2.3).
        """
        layers, deepnorm = self.config.num_hidden_layers, self.config.residual == "deepnorm"
        for name, weight in self.model.layers.named_parameters():
            kind = name.split(".")[-2]
            if weight.dim() < 2:  # norms and biases
                continue
            if deepnorm:
                nn.init.xavier_normal_(weight, gain=1.0 if kind in ("q_proj", "k_proj") else (8 * layers) ** -0.25)
            elif kind in ("o_proj", "down_proj"):
                nn.init.normal_(weight, std=self.config.initializer_range / math.sqrt(2 * layers))


def _product_dtype(x: Tensor) -> torch.dtype:
    """What matrix products compute in: autocast's precision, or else that of the residual stream `x`."""
    kind = x.device.type
    return (
        torch.get_autocast_dtype(kind) if is_autocast_available(kind) and torch.is_autocast_enabled(kind) else x.dtype
    )
