"""Weights between our models and Hugging Face's classes: mostly the same names and values; the exceptions are here.

- MiniMax (our DeepNorm form): the feed-forward layer is the only expert of a mixture. On disk its matrices are w1, w3
  and w2 (gate, up, down), in memory gate and up are one. A router over one expert gives it the weight 1, whatever it
  holds: exported as 0.
- Llama with attention_bias: o_proj has a bias, too, which has to be 0 here, and is exported as 0.
- Gemma: norms multiply by 1 + w, and the embedding is multiplied by sqrt(C) before the layers, but not in the tied
  head. So ours is E = sqrt(C) E', final norm (1 + w) / sqrt(C), other norms 1 + w, and the other way round.
- Buffers that old files hold beside the weights (causal masks, rotary frequencies) are left out.
memory: one tensor at a time on the way in; on the way out MiniMax's feed-forward and Gemma's embedding once more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from mindllm.config import UserError
from mindllm.models import MindLLMConfig, ModelConfig

HEAD = "lm_head.weight"
_BUFFER = re.compile(r"\.rotary_emb\.inv_freq$|\.attn\.attention\.(masked_)?bias$")
_OUTPUT_BIAS = ".self_attn.o_proj.bias"
_EXPERT = re.compile(r"(.*)\.(?:block_sparse_moe|mlp)\.(.*)")
_PROJECTIONS = {"experts.0.w1.weight": "gate_proj", "experts.0.w3.weight": "up_proj",
                "experts.0.w2.weight": "down_proj", "experts.down_proj": "down_proj"}  # fmt: skip


def embedding_name(config: ModelConfig) -> str:
    """What the embedding of tokens is called."""
    return "model.embed_tokens.weight" if isinstance(config, MindLLMConfig) else "transformer.wte.weight"


def to_ours(
    model_type: str, config: ModelConfig, weights: Iterable[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Weights of a Hugging Face class, by our names. What has no place in our model keeps its name.

    Raises UserError for a bias that cannot be left out.
    """
    for name, tensor in weights:
        if _BUFFER.search(name):
            continue
        if model_type == "gemma":
            yield name, _from_gemma(name, tensor, config.hidden_size)
        elif model_type == "minimax" and (match := _EXPERT.fullmatch(name)):
            yield from _from_expert(match[1], match[2], name, tensor)
        elif name.endswith(_OUTPUT_BIAS):
            if tensor.any():
                raise UserError(f"{name}: is not 0; only q, k and v may have a bias here")
        else:
            yield name, tensor


def _from_gemma(name: str, tensor: Tensor, hidden_size: int) -> Tensor:
    if name in (HEAD, "model.embed_tokens.weight"):
        return tensor.float() * math.sqrt(hidden_size)
    if name == "model.norm.weight":
        return (1 + tensor.float()) / math.sqrt(hidden_size)
    return 1 + tensor.float() if name.endswith("layernorm.weight") else tensor


def _from_expert(layer: str, part: str, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A weight of MiniMax's mixture of experts; the router's is dropped."""
    if part == "experts.gate_up_proj" and tensor.ndim == 3 and len(tensor) == 1 and tensor.shape[1] % 2 == 0:
        for projection, matrix in zip(("gate_proj", "up_proj"), tensor[0].chunk(2), strict=True):
            yield f"{layer}.mlp.{projection}.weight", matrix
    elif part in _PROJECTIONS:
        yield f"{layer}.mlp.{_PROJECTIONS[part]}.weight", tensor[0] if tensor.ndim == 3 and len(tensor) == 1 else tensor
    elif part != "gate.weight":
        yield name, tensor


def to_theirs(architecture: str, config: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights by the names that the class `architecture` (a model_type) has in memory; mostly the same tensors."""
    if config.tie_word_embeddings:
        weights = {name: weight for name, weight in weights.items() if name != HEAD}
    if architecture == "gemma":
        return {name: _to_gemma(name, weight, config.hidden_size) for name, weight in weights.items()}
    if architecture == "llama":
        biases = {name: weight for name, weight in weights.items() if name.endswith(".q_proj.bias")}
        zeros = {name.replace(".q_proj.", ".o_proj."): torch.zeros(config.hidden_size) for name in biases}
        return {**weights, **zeros}
    return _to_experts(weights) if architecture == "minimax" else dict(weights)


def _to_gemma(name: str, weight: Tensor, hidden_size: int) -> Tensor:
    if name == "model.embed_tokens.weight":
        return weight / math.sqrt(hidden_size)
    if name == "model.norm.weight":
        return weight * math.sqrt(hidden_size) - 1
    return weight - 1 if name.endswith("layernorm.weight") else weight


def _to_experts(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {name: weight for name, weight in weights.items() if ".mlp." not in name}
    for name, down in weights.items():
        if not name.endswith(".mlp.down_proj.weight"):
            continue
        here = name.removesuffix("down_proj.weight")
        gate, up = weights[f"{here}gate_proj.weight"], weights[f"{here}up_proj.weight"]
        state[f"{here}experts.gate_up_proj"] = torch.cat([gate, up])[None]
        state[f"{here}experts.down_proj"] = down[None]
        state[f"{here}gate.weight"] = torch.zeros(1, down.shape[0])
    return state
