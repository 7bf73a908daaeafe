"""Random tiny models of the stock classes, saved by transformers, in every way in which weights are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from mindllm.hf.export import quiet

SHAPE = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3, "bos_token_id": 1,
         "eos_token_id": 1, "pad_token_id": 2}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
ONE_EXPERT = {"num_local_experts": 1, "num_experts_per_tok": 1, "layer_types": ["full_attention"] * 2,
              "full_attn_alpha_factor": 4**0.25, "mlp_alpha_factor": 4**0.25}  # fmt: skip
NEO = {"vocab_size": 40, "hidden_size": 24, "num_layers": 4, "num_heads": 2,
       "attention_types": [[["global", "local"], 2]], "window_size": 5,
       "max_position_embeddings": 64, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 1,
       "pad_token_id": 2}  # fmt: skip
CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (hf.LlamaConfig, {**SHAPE, "head_dim": 8}),
    "llama-geglu": (hf.LlamaConfig, {**SHAPE, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True}),
    "llama-bias": (hf.LlamaConfig, {**SHAPE, "attention_bias": True}),
    "llama-linear": (hf.LlamaConfig, {**SHAPE, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "llama3": (hf.LlamaConfig, {**SHAPE, "rope_parameters": LLAMA3}),
    "mistral": (hf.MistralConfig, {**SHAPE, "sliding_window": None}),
    "qwen2": (hf.Qwen2Config, {**SHAPE, "tie_word_embeddings": True}),
    "gemma": (hf.GemmaConfig, {**SHAPE, "head_dim": 8}),
    "minimax": (hf.MiniMaxConfig, {**SHAPE, **ONE_EXPERT, "head_dim": 6, "hidden_act": "gelu_pytorch_tanh"}),
    "gpt_neo": (hf.GPTNeoConfig, NEO),
    "gpt_neo-untied": (hf.GPTNeoConfig, {**NEO, "tie_word_embeddings": False, "intermediate_size": 20}),
}


def new_model(name: str, **changes: Any) -> Any:
    """A stock model of CONFIGS, always with the same weights; norms and biases are not 1 and 0."""
    quiet()
    kind, values = CONFIGS[name]
    torch.manual_seed(7)
    model = hf.AutoModelForCausalLM.from_config(kind(**{**values, **changes})).eval()
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.dim() == 1):
            parameter.normal_(0.6, 0.2)
        for key, parameter in model.named_parameters():
            if key.endswith("self_attn.o_proj.bias"):
                parameter.zero_()
    return model


def write_model(folder: Path, name: str, store: str = "one", **changes: Any) -> Any:
    """Save it. store: one, shards (safetensors), bin, or bins (pytorch_model.bin, with what old files hold beside)."""
    model = new_model(name, **changes)
    model.save_pretrained(folder, max_shard_size="6KB" if store == "shards" else "1GB")
    if store in ("bin", "bins"):
        (folder / "model.safetensors").unlink()
        state = {**model.state_dict(), "model.rotary_emb.inv_freq": torch.ones(4)}
        for i in range(4 if name.startswith("gpt_neo") else 0):
            state[f"transformer.h.{i}.attn.attention.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool)
            state[f"transformer.h.{i}.attn.attention.masked_bias"] = torch.tensor(-1e9)
        parts = [state] if store == "bin" else [dict(list(state.items())[i::2]) for i in range(2)]
        names = ["pytorch_model.bin"] if store == "bin" else [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
        for part, path in zip(parts, names, strict=True):
            torch.save(part, folder / path)
        if store == "bins":
            index = {"weight_map": {key: path for part, path in zip(parts, names, strict=True) for key in part}}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return model


def change_config(folder: Path, **changes: Any) -> None:
    """Put other values into config.json; "gone" takes a key out."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "gone"}))


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """(B, T, V) in fp32."""
    with torch.no_grad():
        found = model(ids)
    return (found if isinstance(found, torch.Tensor) else found.logits).float()


def some_ids(num_tokens: int = 20, vocab_size: int = 40) -> torch.Tensor:
    """(2, num_tokens), always the same."""
    return torch.randint(0, vocab_size, (2, num_tokens), generator=torch.Generator().manual_seed(3))
