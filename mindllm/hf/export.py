"""The only file that imports transformers: our weights as a folder that stock Hugging Face code loads, no remote code.

pre-norm is LlamaForCausalLM with a tanh-gelu; DeepNorm is MiniMaxForCausalLM with full attention everywhere and one
expert (a router over one expert gives weight 1, its own weights never matter). Memory: the weights twice while
exporting.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from mindllm.models.mindllm import MindLLMConfig

# All that a tokenizer folder may have: the model file of its kind, and what is the same for both.
TOKENIZER_FILES = (
    "tokenizer.model", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "token_bytes.npy",
)  # fmt: skip


def to_huggingface(config: MindLLMConfig, weights: dict[str, Tensor], eos_id: int, pad_id: int) -> Any:
    """A stock transformers model (fp32, eval mode) with our weights."""
    shared: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
                     "initializer_range")
    }  # fmt: skip
    shared |= {
        "hidden_act": "gelu_pytorch_tanh",
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
    shared["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_theta}
    with torch.device("meta"):
        model = _minimax(config, shared) if config.residual == "deepnorm" else _llama(shared)
    state = _minimax_weights(config, weights) if config.residual == "deepnorm" else dict(weights)
    model.to_empty(device="cpu")
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not (config.tie_word_embeddings and name == "lm_head.weight")]
    assert not missing and not unexpected, (
        f"export does not cover the model: missing {missing}, unexpected {unexpected}"
    )
    model.tie_weights()
    _fill_buffers(model)
    return model.eval()


def _llama(shared: dict[str, Any]) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shared, attention_bias=False, mlp_bias=False))


def _minimax(config: MindLLMConfig, shared: dict[str, Any]) -> Any:
    alpha = config.residual_scale
    own = {
        "layer_types": ["full_attention"] * config.num_hidden_layers,
        "num_local_experts": 1,
        "num_experts_per_tok": 1,
    }
    scales = {
        "full_attn_alpha_factor": alpha,
        "mlp_alpha_factor": alpha,
        "full_attn_beta_factor": 1.0,
        "mlp_beta_factor": 1.0,
    }
    return transformers.MiniMaxForCausalLM(
        transformers.MiniMaxConfig(**shared, **own, **scales, head_dim=config.head_size)
    )


def _minimax_weights(config: MindLLMConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names to MiniMax's: gate and up stacked into one expert, a zero router."""
    state = {name: weight for name, weight in weights.items() if ".mlp." not in name}
    for i in range(config.num_hidden_layers):
        here = f"model.layers.{i}.mlp."
        gate_up = torch.cat([weights[here + "gate_proj.weight"], weights[here + "up_proj.weight"]])
        state[here + "experts.gate_up_proj"] = gate_up[None]
        state[here + "experts.down_proj"] = weights[here + "down_proj.weight"][None]
        state[here + "gate.weight"] = torch.zeros(1, config.hidden_size)
    return state


def _fill_buffers(model: Any) -> None:
    """Make the buffers that no state dict holds (rotary frequencies) anew: the model was built without memory."""
    fresh = type(model.model.rotary_emb)(model.config)
    model.model.rotary_emb.load_state_dict(fresh.state_dict(), strict=False)
    for name, buffer in fresh.named_buffers():
        model.model.rotary_emb.register_buffer(name, buffer, persistent=False)


def write_export(model: Any, tokenizer_folder: Path, out: Path, dtype: str, max_length: int) -> None:
    """config.json, safetensors, generation_config.json, tokenizer files: what AutoModel and AutoTokenizer expect."""
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id, max_length=max_length,
    )  # fmt: skip
    model.to(getattr(torch, dtype)).save_pretrained(out)
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).exists():
            shutil.copyfile(tokenizer_folder / name, out / name)


def load_exported(folder: str | Path, dtype: str = "float32") -> tuple[Any, Any]:
    """(model in eval mode, fast tokenizer) of an exported folder, loaded as any user would. Never remote code."""
    kind = getattr(torch, dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=kind, trust_remote_code=False, local_files_only=True
    )
    return model.eval(), transformers.AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )


def quiet() -> None:
    """Keep transformers' progress bars and advice off the screen; its errors still come."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
