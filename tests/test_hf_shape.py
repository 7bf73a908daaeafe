"""config.json of stock classes as our configs; every reason to refuse one, all in one message; nothing is executed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_folders import CONFIGS, NEO, change_config, write_model
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError
from mindllm.hf import read_config
from mindllm.hf.shape import MAX_FILE_BYTES, shortest
from mindllm.models import GPTNeoConfig, MindLLMConfig


def written(folder: Path, name: str, **changes: Any) -> Path:
    """A folder with the config.json of a class alone."""
    kind, values = CONFIGS[name]
    folder.mkdir(exist_ok=True)
    kind(**values).save_pretrained(folder)
    change_config(folder, **changes)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_config(folder)
    return str(caught.value)


def test_shapes(tmp_path: Path) -> None:
    common: dict[str, Any] = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "residual": "prenorm",
              "initializer_range": 0.3, "hidden_act": "silu", "rms_norm_eps": 1e-6}  # fmt: skip
    tanh = {"hidden_act": "gelu_pytorch_tanh"}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 16}  # fmt: skip
    cases: dict[str, dict[str, Any]] = {
        "llama": {"head_dim": 8}, "llama-geglu": {**tanh, "tie_word_embeddings": True}, "mistral": {},
        "llama-bias": {"qkv_bias": True},
        "llama-linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        "llama3": {"rope_scaling": llama3, "rope_theta": 500.0},
        "qwen2": {"qkv_bias": True, "tie_word_embeddings": True},
        "gemma": {**tanh, "head_dim": 8, "tie_word_embeddings": True},
        "minimax": {**tanh, "residual": "deepnorm", "rms_norm_eps": 1e-5, "rope_theta": 1e6},
    }  # fmt: skip
    for name, own in cases.items():
        assert read_config(written(tmp_path / name, name)) == MindLLMConfig(**{**common, **own}), name
    neo = {"vocab_size": 40, "hidden_size": 24, "num_layers": 4, "num_heads": 2, "window_size": 5,
           "max_position_embeddings": 64, "initializer_range": 0.3}  # fmt: skip
    assert read_config(written(tmp_path / "neo", "gpt_neo")) == GPTNeoConfig(**neo)  # type: ignore[arg-type]
    types = [[["global"], 1], [["local"], 3]]
    found = read_config(written(tmp_path / "other", "gpt_neo", attention_types=types, intermediate_size=96))
    assert isinstance(found, GPTNeoConfig) and found.attention_types == ["global", "local", "local", "local"]
    assert found.intermediate_size == 0


def test_files_of_older_versions(tmp_path: Path) -> None:
    """transformers 4 wrote rope_theta and rope_scaling, and the first Llamas hardly anything."""
    gone = dict.fromkeys(("rope_parameters", "head_dim", "num_key_value_heads", "attention_bias", "mlp_bias",
                          "tie_word_embeddings", "hidden_act"), "gone")  # fmt: skip
    first = read_config(written(tmp_path / "first", "llama", **gone))
    assert isinstance(first, MindLLMConfig)
    assert (first.num_key_value_heads, first.rope_theta, first.rope_scaling, first.hidden_act) == (
        4,
        10000.0,
        {},
        "silu",
    )
    scaling = {"type": "linear", "factor": 2.0}
    old = read_config(written(tmp_path / "old", "llama", rope_parameters="gone", rope_theta=5e5, rope_scaling=scaling))
    assert isinstance(old, MindLLMConfig)
    assert old.rope_theta == 5e5 and old.rope_scaling == {"rope_type": "linear", "factor": 2.0}
    gemma = read_config(written(tmp_path / "gemma", "gemma", hidden_act="gelu", hidden_activation=None,
                                tie_word_embeddings="gone"))  # fmt: skip
    assert isinstance(gemma, MindLLMConfig) and gemma.hidden_act == "gelu_pytorch_tanh" and gemma.tie_word_embeddings


def test_all_reasons_at_once(tmp_path: Path) -> None:
    message = refusal(written(
        tmp_path, "llama", mlp_bias=True, hidden_act="relu", auto_map={"AutoModel": "x.Y"},
        quantization_config={"bits": 4}, rope_parameters={"rope_type": "yarn", "partial_rotary_factor": 0.5},
        architectures=["LlamaForSequenceClassification"], is_encoder_decoder=True, hidden_size="wide",
        num_hidden_layers=True, rms_norm_eps=-1, vocab_size="gone", pruned_heads={"0": [1]},
    ))  # fmt: skip
    assert "13 reason(s) not to load this model" in message
    for part in ("mlp_bias", "hidden_act: 'relu'", "auto_map: the model is code", "quantised weights",
                 "rope_type: 'yarn' is none of default, linear, llama3", "partial_rotary_factor: 0.5",
                 "no language model's", "is_encoder_decoder", "hidden_size: 'wide'", "num_hidden_layers: 'True'",
                 "rms_norm_eps: -1",
                 "vocab_size: missing", "pruned_heads"):  # fmt: skip
        assert part in message, part


@pytest.mark.parametrize(("name", "changes", "reason"), [
    ("mistral", {"sliding_window": 32}, "sliding_window: 32, less than"),
    ("mistral", {"sliding_window": "gone", "max_position_embeddings": 8192}, "sliding_window: 4096, less than"),
    ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: full_attention, sliding_atten"),
    ("qwen2", {"layer_types": "gone", "use_sliding_window": True, "sliding_window": 8}, "sliding_window: 8"),
    ("gemma", {"attention_bias": True}, "attention_bias: puts a bias on o_proj"),
    ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma", {"tie_word_embeddings": False}, "a Gemma's head is its embedding"),
    ("gemma", {"hidden_activation": "relu"}, "hidden_activation: 'relu'"),
    ("minimax", {"layer_types": "gone"}, "linear attention"),
    ("minimax", {"layer_types": ["full_attention", "linear_attention"]}, "layer_types: full_attention, linear"),
    ("minimax", {"num_local_experts": 8}, "num_local_experts: 8; of MiniMax only this project's own form"),
    ("minimax", {"mlp_alpha_factor": 1}, "mlp_alpha_factor: 1; .* which has 1.41421"),
    ("minimax", {"full_attn_beta_factor": 2}, "full_attn_beta_factor: 2"),
    ("gpt_neo", {"activation_function": "relu"}, "activation_function: 'relu'"),
    ("gpt_neo", {"attention_types": [[["global"], 2]]}, "no list of global and local for 4 layers"),
    ("gpt_neo", {"attention_types": [[["sparse"], 4]]}, "no list of global and local for 4 layers"),
    ("gpt_neo", {"attention_types": [[["global"], 10**12]]}, "attention_types: no list"),
    ("qwen2", {"layer_types": [{}, 3]}, "layer_types: 3, {}; here"),
    ("llama", {"hidden_size": 10**30}, "hidden_size: .* is no whole number"),
    ("llama", {"rope_theta": 10**300, "rope_parameters": "gone"}, "rope_theta: "),
    ("llama", {"architectures": 7}, "no language model"),
    ("gpt_neo", {"attention_types": 7}, "attention_types: no list"),
    ("llama", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "each kind of layer"),
    ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor: missing"),
    ("llama", {"model_type": "t5"}, "model_type: 't5' is none of llama, mistral"),
    ("llama", {"model_type": ["llama"]}, "is none of"),
    ("llama", {"num_attention_heads": 5}, "num_attention_heads: 5 is no multiple"),
])  # fmt: skip
def test_refused(tmp_path: Path, name: str, changes: dict[str, Any], reason: str) -> None:
    assert re.search(reason, refusal(written(tmp_path, name, **changes)))


def test_no_window_that_matters(tmp_path: Path) -> None:
    assert read_config(written(tmp_path / "a", "mistral", sliding_window=64))
    assert read_config(written(tmp_path / "b", "qwen2", sliding_window=8, use_sliding_window=False, layer_types="gone"))


def test_folders_without_a_config(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "EleutherAI/gpt-neo-1.3B")
    assert "config.json: not there" in refusal(tmp_path)
    for content, reason in (
        (b"{", "damaged"),
        (b"[]", "no JSON object"),
        (b"\xff", "damaged"),
        (b"[" * 200000, "damaged"),
    ):
        (tmp_path / "config.json").write_bytes(content)
        assert reason in refusal(tmp_path)
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert "too much" in refusal(tmp_path)


def test_code_in_a_folder_never_runs(tmp_path: Path) -> None:
    write_model(tmp_path, "llama")
    ran = tmp_path / "ran"
    (tmp_path / "modeling.py").write_text(f"open({str(ran)!r}, 'w')\nclass Model: pass\n")
    change_config(tmp_path, auto_map={"AutoModelForCausalLM": "modeling.Model", "AutoConfig": "modeling.Model"})
    assert "no code but this project's is run" in refusal(tmp_path)
    assert not ran.exists()


KEYS = st.sampled_from(sorted({*NEO, *CONFIGS["llama"][1], "rope_parameters", "rope_theta", "layer_types"}))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["factor", "rope_type", "a"]), inner),
    max_leaves=5,
)


@settings(deadline=None)  # it writes files
@given(st.dictionaries(KEYS, VALUES), st.sampled_from(sorted(CONFIGS)))
def test_any_values_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], name: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    kind = CONFIGS[name][0].model_type  # type: ignore[attr-defined]
    (folder / "config.json").write_text(json.dumps({**CONFIGS[name][1], **values, "model_type": kind}))
    try:
        config = read_config(folder)
    except UserError:
        return
    assert not list(config.problems())


@given(st.lists(st.sampled_from(["global", "local"]), min_size=1, max_size=12))
def test_shortest_beginning(layers: list[str]) -> None:
    found = shortest(layers)
    assert found * (len(layers) // len(found)) == layers


def test_dtype_is_no_matter(tmp_path: Path) -> None:
    written(tmp_path, "llama", dtype="bfloat16", torch_dtype="float16", attention_dropout=0.1)
    assert isinstance(read_config(tmp_path), MindLLMConfig) and torch.get_default_dtype() == torch.float32
