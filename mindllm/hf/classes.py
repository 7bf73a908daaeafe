"""Which stock classes a model of ours can be exported as, with the same numbers, and the config that each wants.

- Llama: pre-norm; with biases on q, k, v by attention_bias, and 0 for the one on o_proj. Qwen2: the same without that
  one. But transformers 5 opens every folder of model_type qwen2 with Qwen2's own tokenizer class, which splits text in
  its own way whatever tokenizer.json says: a Qwen2 is made when asked for, or when the weights came from one and that
  class gives the tokenizer's ids (an adopted Qwen2 tokenizer); with another it does not pass.
- MiniMax: DeepNorm, all layers with full attention, one
  expert, alphas (2N)^(1/4), betas 1. GPT-Neo: GPT-Neo.
- Gemma: pre-norm, GeGLU, tied. It multiplies the embedding by sqrt(C) in the weights' precision: exact to rounding in
  fp32; in bf16 only where bf16 holds sqrt(C) exactly, else the embedding would be longer than the stored weights mean
  by up to 2^-9 of its length, and by another factor in programs that multiply in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from mindllm.config import UserError
from mindllm.hf.shape import CLASSES, shortest
from mindllm.models import GPTNeoConfig, MindLLMConfig, ModelConfig

EXPORTED = ("llama", "qwen2", "gemma", "minimax", "gpt_neo")


def natural(config: ModelConfig) -> str:
    """The class for a model that came from nowhere."""
    if isinstance(config, GPTNeoConfig):
        return "gpt_neo"
    return "minimax" if config.residual == "deepnorm" else "llama"


def choose(wanted: str, came_from: str, config: ModelConfig, dtype: str, *, qwen2_tokenizer: bool = False) -> str:
    """The class to export as; wanted "auto": that which the weights came from (a model_type or ""), if it fits.

    qwen2_tokenizer: Qwen2's own tokenizer class gives the tokenizer's ids.

    Raises UserError where the wanted one does not compute the same, with the reasons and the one that does.
    """
    usual = natural(config)
    if came_from == "mistral" or (came_from == "qwen2" and not qwen2_tokenizer):
        came_from = "llama"  # see above, and mindllm/hf/shape.py
    if wanted != "auto":
        tried = [wanted]
    else:
        tried = [name for name in dict.fromkeys((came_from, usual)) if name in EXPORTED]
    for name in tried:
        reasons = list(reasons_against(name, config, dtype))
        if not reasons:
            return name
        if name != tried[-1]:
            print(f"export: not as {CLASSES[name]}, where the weights came from: {'; '.join(reasons)}", flush=True)
    way_out = "" if tried[-1] == usual or [*reasons_against(usual, config, dtype)] else (
        f"\n{CLASSES[usual]} computes the same: architecture={usual}")  # fmt: skip
    lines = "\n".join(f"  {reason}" for reason in reasons)
    raise UserError(f"architecture: {CLASSES[tried[-1]]} does not compute what this model does\n{lines}{way_out}")


def reasons_against(architecture: str, config: ModelConfig, dtype: str) -> Iterator[str]:
    """Why a model cannot be exported as a class, a line each; none: it can."""
    if isinstance(config, GPTNeoConfig) or architecture == "gpt_neo":
        if natural(config) != architecture:
            yield f"model_type {config.model_type} is another family"
        return
    if (config.residual == "deepnorm") != (architecture == "minimax"):
        yield f"residual: {config.residual}"
    if architecture != "llama" and config.qkv_bias != (architecture == "qwen2"):
        yield f"qkv_bias: {str(config.qkv_bias).lower()}"
    apart = config.head_size * config.num_attention_heads != config.hidden_size
    if apart and architecture in ("llama", "qwen2") and config.hidden_size % config.num_attention_heads:
        yield f"hidden_size {config.hidden_size} does not divide by num_attention_heads {config.num_attention_heads}"
    if architecture == "gemma":
        yield from _against_gemma(config, dtype)


def _against_gemma(config: MindLLMConfig, dtype: str) -> Iterator[str]:
    if config.hidden_act != "gelu_pytorch_tanh":
        yield f"hidden_act: {config.hidden_act}"
    if not config.tie_word_embeddings:
        yield "tie_word_embeddings: false"
    root = math.sqrt(config.hidden_size)
    if dtype != "float32" and float(torch.tensor(root, dtype=getattr(torch, dtype))) != root:
        yield (
            f"dtype {dtype} does not hold sqrt(hidden_size) = {root:.6g} exactly, by which Gemma multiplies its "
            "embedding; float32 is near enough"
        )


def huggingface_config(
    architecture: str, config: ModelConfig, vocab_size: int, eos_id: int, pad_id: int
) -> tuple[str, dict[str, Any]]:
    """(name of the config class in transformers, its arguments)."""
    names = ["hidden_size", "max_position_embeddings", "tie_word_embeddings", "initializer_range"]
    ids = {"vocab_size": vocab_size, "bos_token_id": eos_id, "eos_token_id": eos_id, "pad_token_id": pad_id}
    if isinstance(config, GPTNeoConfig):
        names += ["num_layers", "num_heads", "window_size", "layer_norm_epsilon"]
        kinds = shortest(list(config.attention_layers))
        own: dict[str, Any] = {
            "intermediate_size": config.intermediate_size or 4 * config.hidden_size,
            "attention_types": [[kinds, config.num_layers // len(kinds)]],
            **dict.fromkeys(("attention_dropout", "embed_dropout", "resid_dropout", "classifier_dropout"), 0.0),
        }
        return "GPTNeoConfig", {**ids, **own, **{name: getattr(config, name) for name in names}}
    names += ["intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps",
              "hidden_act"]  # fmt: skip
    scaling = {"rope_type": "default", **config.rope_scaling}
    own = {"rope_parameters": {**scaling, "rope_theta": config.rope_theta}, "head_dim": config.head_size}
    if architecture == "llama":
        own |= {"attention_bias": config.qkv_bias, "mlp_bias": False}
    if architecture == "gemma":
        own |= {"attention_bias": False}
    if architecture == "qwen2":
        own |= {"use_sliding_window": False, "sliding_window": None}
    if architecture == "minimax":
        own |= _one_expert(config)
    kind = CLASSES[architecture].replace("ForCausalLM", "Config")
    return kind, {**ids, **own, **{name: getattr(config, name) for name in names}}


def _one_expert(config: MindLLMConfig) -> dict[str, Any]:
    return {
        "layer_types": ["full_attention"] * config.num_hidden_layers,
        **dict.fromkeys(("num_local_experts", "num_experts_per_tok"), 1),
        **dict.fromkeys(("full_attn_alpha_factor", "mlp_alpha_factor"), config.residual_scale),
        **dict.fromkeys(("full_attn_beta_factor", "mlp_beta_factor"), 1.0),
    }
