"""The shape of a Hugging Face model, from its config.json, as one of our configs.

Read as plain JSON: no code of a folder runs, and transformers is not imported. A key that the stock class ignores is
ignored here, too; a key by which it computes what ours does not compute is a reason to refuse, and all reasons come in
one message. Dropouts are taken for 0: they change nothing but training. Costs nothing.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mindllm.config import UserError
from mindllm.models import GPTNeoConfig, MindLLMConfig, ModelConfig

CONFIG_FILE = "config.json"
MAX_FILE_BYTES = 64_000_000  # of a JSON file that is read
CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
           "gemma": "GemmaForCausalLM", "minimax": "MiniMaxForCausalLM", "gpt_neo": "GPTNeoForCausalLM"}  # fmt: skip
ROPE_KEYS: dict[str, tuple[str, ...]] = {  # rope_type -> its numbers
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
# What the stock classes take where config.json does not say; "-" stands for a number that it has to say.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": None},
    "mistral": {"sliding_window": 4096},
    "qwen2": {},
    "gemma": {"tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh", "head_dim": 256},
    "minimax": {"rope_theta": 1e6, "rms_norm_eps": 1e-5},
}
_SHARED = {"hidden_act": "silu", "num_key_value_heads": "-", "head_dim": None, "rope_theta": 10000.0,
           "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "initializer_range": 0.02,
           "sliding_window": None}  # fmt: skip
_MAX_SIZE = 1 << 31
_TANH_GELU = ("gelu_pytorch_tanh", "gelu_new")  # two names of one formula
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "max_position_embeddings")  # fmt: skip


def read_config(folder: str | Path) -> ModelConfig:
    """Our config of the model in a folder. Raises UserError, all reasons at once, for what we cannot compute."""
    values = read_values(folder)
    reasons = list(_general(values))
    kind = values.get("model_type")
    found: ModelConfig | None = None
    if kind == "gpt_neo":
        found = _gpt_neo(values, reasons)
    elif isinstance(kind, str) and kind in CLASSES:
        found = _decoder(kind, values, reasons)
    if found is not None and not reasons:
        reasons += found.problems()
    if found is None or reasons:
        lines = "\n".join(f"  {reason}" for reason in reasons)
        raise UserError(f"{Path(folder) / CONFIG_FILE}: {len(reasons)} reason(s) not to load this model\n{lines}")
    return found


def read_values(folder: str | Path) -> dict[str, Any]:
    """What config.json holds. Raises UserError where there is none, or no JSON object in it."""
    if not Path(folder).is_dir():
        way_out = "one of the hub is fetched by `hf download NAME --local-dir FOLDER`"
        raise UserError(f"{folder}: no such folder; weights are read from a folder on this machine, and {way_out}")
    values = read_limited(Path(folder) / CONFIG_FILE)
    if not isinstance(values, dict):
        raise UserError(f"{Path(folder) / CONFIG_FILE}: damaged (no JSON object)")
    return values


def read_limited(path: Path) -> Any:
    """The JSON in a file of limited size. Raises UserError where it cannot be read."""
    try:
        size = path.stat().st_size
        found = json.loads(path.read_text(encoding="utf-8")) if size <= MAX_FILE_BYTES else None
    except FileNotFoundError:
        raise UserError(f"{path}: not there; a folder of a Hugging Face model has one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    if size > MAX_FILE_BYTES:
        raise UserError(f"{path}: {size / 1e6:.0f} MB are too much for a file of its kind")
    return found


def _general(values: dict[str, Any]) -> list[str]:
    """Reasons that have nothing to do with the class."""
    reasons, kind = [], values.get("model_type")
    if not isinstance(kind, str) or kind not in CLASSES:
        reasons.append(f"model_type: {kind!r} is none of {', '.join(CLASSES)}")
    elif (named := values.get("architectures")) and not (isinstance(named, list) and CLASSES[kind] in named):
        reasons.append(f"architectures: {values['architectures']!r}, not {CLASSES[kind]}: no language model's head")
    if values.get("auto_map"):
        reasons.append("auto_map: the model is code in the folder; no code but this project's is run")
    if values.get("quantization_config"):
        reasons.append("quantization_config: quantised weights; take the folder that they were made from")
    for key in ("is_encoder_decoder", "add_cross_attention", "use_bidirectional_attention"):
        if values.get(key):
            reasons.append(f"{key}: only decoders are computed here, in which a token sees those before it")
    if values.get("pruned_heads"):
        reasons.append("pruned_heads: layers of different sizes are not computed here")
    return reasons


def _decoder(kind: str, given: dict[str, Any], reasons: list[str]) -> MindLLMConfig | None:
    """Of the classes that are forms of our own decoder."""
    values = {**_SHARED, **_DEFAULTS[kind], **given}
    if values["num_key_value_heads"] is None:
        values["num_key_value_heads"] = values.get("num_attention_heads")
    sizes: dict[str, Any] = {name: _size(values, name, reasons) for name in (*_SIZES, "num_key_value_heads")}
    numbers: dict[str, Any] = {name: _number(values, name, reasons) for name in ("rms_norm_eps", "initializer_range")}
    head_dim = 0 if values["head_dim"] is None else _size(values, "head_dim", reasons)
    act: Any = "gelu_pytorch_tanh" if kind == "gemma" and values["hidden_act"] == "gelu" else values["hidden_act"]
    act = "gelu_pytorch_tanh" if act in _TANH_GELU else "silu" if act == "swish" else act
    if act not in ("silu", "gelu_pytorch_tanh"):
        reasons.append(f"hidden_act: {act!r} is not silu or gelu_pytorch_tanh")
    if kind == "gemma" and values.get("hidden_activation") not in (None, *_TANH_GELU):
        reasons.append(f"hidden_activation: {values['hidden_activation']!r} is not gelu_pytorch_tanh")
    if kind != "llama" and values.get("attention_bias"):
        reasons.append("attention_bias: puts a bias on o_proj, too; here only q, k and v may have one (as in Qwen2)")
    if values.get("mlp_bias"):
        reasons.append("mlp_bias: the feed-forward layer has no biases here")
    theta, scaling = _rope(values, reasons)
    reasons += _windows(kind, values)
    if kind == "minimax":
        reasons += _experts(values)
    if kind == "gemma" and not values["tie_word_embeddings"]:
        reasons.append("tie_word_embeddings: false; here a Gemma's head is its embedding")
    if reasons:
        return None
    if head_dim * sizes["num_attention_heads"] == sizes["hidden_size"]:
        head_dim = 0
    return MindLLMConfig(
        **sizes, **numbers, head_dim=head_dim, hidden_act=act, rope_theta=theta, rope_scaling=scaling,
        qkv_bias=kind == "qwen2" or bool(values.get("attention_bias")),
        residual="deepnorm" if kind == "minimax" else "prenorm",
        tie_word_embeddings=bool(values["tie_word_embeddings"]),
    )  # fmt: skip


def _rope(values: dict[str, Any], reasons: list[str]) -> tuple[float, dict[str, Any]]:
    """rope_theta and rope_scaling, from either way of writing them (transformers 4 and 5)."""
    found = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(found, dict) or any(isinstance(value, dict) for value in found.values()):
        reasons.append("rope_parameters: rotary positions of their own for each kind of layer are not computed here")
        return 1.0, {}
    theta = _number({"rope_theta": values["rope_theta"], **found}, "rope_theta", reasons)
    partial = found.get("partial_rotary_factor", values.get("partial_rotary_factor"))
    if partial not in (None, 1):
        reasons.append(f"partial_rotary_factor: {partial}; here all channels of a head are turned")
    kind = found.get("rope_type", found.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_KEYS:
        reasons.append(f"rope_type: {kind!r} is none of {', '.join(ROPE_KEYS)}")
        return theta, {}
    scaling: dict[str, Any] = {key: _number(found, key, reasons) for key in ROPE_KEYS[kind]}
    if (positions := "original_max_position_embeddings") in scaling:
        scaling[positions] = int(scaling[positions])
    return theta, {"rope_type": kind, **scaling} if scaling else {}


def _windows(kind: str, values: dict[str, Any]) -> list[str]:
    """Reasons for which a layer would not see all tokens before."""
    kinds, window, layers = values.get("layer_types"), values["sliding_window"], values.get("num_hidden_layers")
    if kind in ("qwen2", "minimax") and kinds is not None:
        named = sorted(set(map(str, kinds if isinstance(kinds, list) else [kinds])))
        if named != ["full_attention"]:
            return [f"layer_types: {', '.join(named)}; here every layer is full_attention"]
    if kind == "minimax" and kinds is None and layers != 1:
        return ["layer_types: every other layer has linear attention; here every layer is full_attention"]
    if kind in ("llama", "gemma") or (kind == "qwen2" and (kinds is not None or not values.get("use_sliding_window"))):
        return []
    last = values.get("max_position_embeddings")
    if window is None or (isinstance(last, int) and isinstance(window, int) and window >= last):
        return []
    return [f"sliding_window: {window}, less than max_position_embeddings; here a token sees all before it"]


def _experts(values: dict[str, Any]) -> list[str]:
    """Reasons for which a MiniMax is not our DeepNorm decoder (arXiv 2203.00555): one expert, alpha (2N)^(1/4)."""
    layers = values.get("num_hidden_layers")
    alpha = (2 * layers) ** 0.25 if isinstance(layers, int) and 0 < layers < _MAX_SIZE else math.nan
    wanted = {"num_local_experts": (8, 1), "num_experts_per_tok": (2, 1), "full_attn_alpha_factor": (1, alpha),
              "mlp_alpha_factor": (1, alpha), "full_attn_beta_factor": (1, 1), "mlp_beta_factor": (1, 1)}  # fmt: skip
    reasons = []
    for key, (default, need) in wanted.items():
        value = values.get(key, default)
        if not isinstance(value, int | float) or not math.isclose(value, need, rel_tol=1e-6):
            reasons.append(f"{key}: {value!r}; of MiniMax only this project's own form is computed, which has {need:g}")
    return reasons


def _gpt_neo(given: dict[str, Any], reasons: list[str]) -> GPTNeoConfig | None:
    values = {"window_size": 256, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "tie_word_embeddings": True,
              "activation_function": "gelu_new", "attention_types": [[["global", "local"], 12]], **given}  # fmt: skip
    names = ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_position_embeddings", "window_size")
    sizes: dict[str, Any] = {name: _size(values, name, reasons) for name in names}
    numbers: dict[str, Any] = {
        name: _number(values, name, reasons) for name in ("layer_norm_epsilon", "initializer_range")
    }
    inner = 0 if values.get("intermediate_size") is None else _size(values, "intermediate_size", reasons)
    if values["activation_function"] not in _TANH_GELU:
        reasons.append(f"activation_function: {values['activation_function']!r} is not gelu_new")
    layers = _expanded(values["attention_types"], sizes["num_layers"])
    if len(layers) != sizes["num_layers"] or not {*map(str, layers)} <= {"global", "local"}:
        reasons.append(f"attention_types: no list of global and local for {sizes['num_layers']} layers")
    if reasons:
        return None
    return GPTNeoConfig(
        **sizes, **numbers, intermediate_size=0 if inner == 4 * sizes["hidden_size"] else inner,
        attention_types=shortest(layers), tie_word_embeddings=bool(values["tie_word_embeddings"]),
    )  # fmt: skip


def _expanded(types: Any, num_layers: int) -> list[Any]:
    """[[[global, local], 12]] as 24 layers; [] for what is no such list, or would be longer than num_layers."""
    layers: list[Any] = []
    try:
        for kinds, count in types:
            if len(layers) + len(kinds) * count > num_layers:
                return []
            layers += list(kinds) * count
    except (TypeError, ValueError):
        return []
    return layers


def shortest(layers: list[Any]) -> list[Any]:
    """The shortest beginning that gives all the layers when it is repeated a whole number of times."""
    length = next(
        n for n in range(1, len(layers) + 1) if not len(layers) % n and layers == layers[:n] * (len(layers) // n)
    )
    return layers[:length]


def _size(values: dict[str, Any], name: str, reasons: list[str]) -> int:
    value = values.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_SIZE:
        return value
    said = "missing" if value in (None, "-") else f"{str(value)[:60]!r} is no whole number above 0"
    reasons.append(f"{name}: {said}")
    return 1


def _number(values: dict[str, Any], name: str, reasons: list[str]) -> float:
    """A number above 0."""
    value = values.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30:
        return float(value)
    reasons.append(f"{name}: {'missing' if value is None else f'{value!r} is no number above 0'}")
    return 1.0
