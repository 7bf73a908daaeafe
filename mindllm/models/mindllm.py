"""MindLLM's decoder (arXiv 2310.15777): what was published, and where this file takes it from.

- rotary positions (RoPE, arXiv 2104.09864), half-split as in Llama; no biases
- RMSNorm (arXiv 1910.07467) in fp32; GeGLU feed-forward (arXiv 2002.05202) with the tanh form of gelu
- residuals: `prenorm`, x + f(norm(x)), or `deepnorm`, norm(alpha * x + f(x)) (arXiv 2203.00555), with its own init
- grouped-query heads, tied or untied head; names as in Hugging Face, so that exporting needs no mapping

Post-norm is written as the norm at the *start* of the next layer, so both residuals share all parameters and one line
differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindllm.attention import attend
from mindllm.loss import next_token_loss

# B batch, T time, H heads, K key-value heads, D head dim, C hidden, F feed-forward, V vocab


@dataclass
class MindLLMConfig:
    """Shape of the decoder, in Hugging Face's spelling. vocab_size 0: taken from the tokenizer."""

    model_type: Literal["mindllm"] = "mindllm"
    vocab_size: int = 0
    hidden_size: int = 256
    intermediate_size: int = 704
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    max_position_embeddings: int = 256
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    residual: Literal["deepnorm", "prenorm"] = "deepnorm"
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def problems(self) -> Iterator[str]:
        """What cannot be built, a line each."""
        counts = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        for name in (*counts, "max_position_embeddings"):
            if getattr(self, name) < 1:
                yield f"{name}: must be at least 1"
        if self.vocab_size < 0:
            yield "vocab_size: must be 0 (the tokenizer's) or more"
        for name in ("rope_theta", "rms_norm_eps", "initializer_range"):
            if not getattr(self, name) > 0:
                yield f"{name}: must be above 0"
        if min(self.num_attention_heads, self.num_key_value_heads) < 1:
            return
        if self.hidden_size % self.num_attention_heads:
            yield f"hidden_size: {self.hidden_size} does not divide by num_attention_heads {self.num_attention_heads}"
        elif self.head_dim % 2:
            yield f"hidden_size / num_attention_heads: RoPE needs an even head dimension, not {self.head_dim}"
        if self.num_attention_heads % self.num_key_value_heads:
            yield (
                f"num_attention_heads: {self.num_attention_heads} is no multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def residual_scale(self) -> float:
        """alpha of DeepNorm for N decoder layers, (2N)^(1/4) (arXiv 2203.00555, table 1); 1 without it."""
        return (2 * self.num_hidden_layers) ** 0.25 if self.residual == "deepnorm" else 1.0


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, computed in fp32 whatever the input's precision."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped-query heads."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        self.head_dim = config.head_dim
        queries, keys = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (p(x).view(B, T, -1, self.head_dim).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        out = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)  # (B, H, T, D)
        return self.o_proj(out.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    """GeGLU: down(gelu(gate(x)) * up(x))."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each with its norm and residual."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.deepnorm, self.scale = config.residual == "deepnorm", config.residual_scale

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = self.input_layernorm(x)
        x = self._carry(x, h) + self.self_attn(h, cos, sin)
        h = self.post_attention_layernorm(x)
        return self._carry(x, h) + self.mlp(h)

    def _carry(self, x: Tensor, h: Tensor) -> Tensor:
        return self.scale * h if self.deepnorm else x


class Decoder(nn.Module):
    """Embedding, layers, final norm: token ids (B, T) to hidden states (B, T, C)."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.config = config

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed_tokens(input_ids)
        cos, sin = rotary(self.config, input_ids.shape[1], x)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class MindLLM(nn.Module):
    """The language model: logits (B, T, V), or the summed loss (fp32 scalar) when it is called with labels (B, T)."""

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

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Tensor:
        hidden = self.model(input_ids)
        if labels is None:
            return self.lm_head(hidden)
        return next_token_loss(hidden, self.lm_head.weight, labels)

    def num_parameters(self) -> int:
        """Parameters, a tied head counted once."""
        return sum(p.numel() for p in self.parameters())

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)

    def _init_residual(self) -> None:
        """DeepNet: Xavier with gain beta = (8N)^(-1/4) on feed-forward, value and output, 1 on query and key.

        (arXiv 2203.00555, table 1 and figure 2.) Pre-norm: what goes into the residual stream is divided by sqrt(2N)
        (GPT-2, section 2.3).
        """
        layers = self.config.num_hidden_layers
        for name, weight in self.model.layers.named_parameters():
            kind = name.split(".")[-2]
            if self.config.residual == "deepnorm" and kind in ("q_proj", "k_proj"):
                nn.init.xavier_normal_(weight)
            elif self.config.residual == "deepnorm" and kind in (
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ):
                nn.init.xavier_normal_(weight, gain=(8 * layers) ** -0.25)
            elif self.config.residual == "prenorm" and kind in ("o_proj", "down_proj"):
                nn.init.normal_(weight, std=self.config.initializer_range / math.sqrt(2 * layers))


def rotary(config: MindLLMConfig, T: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin (T, D) of the angle of every position and channel pair, with the precision and device of `like`."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=like.device) / config.head_dim
    angles = torch.outer(
        torch.arange(T, dtype=torch.float32, device=like.device), 1.0 / config.rope_theta**half
    )  # (T, D/2)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (d, d + D/2) of x (B, H, T, D) by their position's angle."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
