"""The model card: the run's facts, YAML and Markdown that hold whatever names there are."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mindllm.hf.card import Card, escape, model_card, serving

SETTINGS: dict[str, Any] = {
    "seq_len": 128, "init_from": "/home/someone/weights/gpt|neo", "train": {"seed": 7},
    "model": {"max_position_embeddings": 256, "num_hidden_layers": 4, "hidden_size": 64},
}  # fmt: skip
TRAINED = {"hash": "0123456789abcdef", "counts": {"in": 12345, "out": 10, "valid_bpb": 1.25, "valid_bpb/web-zh": 1.5}}
ROW = {"share": 0.75, "served_tokens": 9000, "epochs": 1.5, "phase": "", "languages": {"zh": 10}}
MIXTURE = {
    "table": [{**ROW, "source": "web-zh"}, {**ROW, "source": "a|b <script>", "share": 0.25},
              {**ROW, "source": "unused", "served_tokens": 0}, {**ROW, "source": "again", "phase": "phases.0"}],
    "languages": [{"source": "en", "share": 0.2}, {"source": "other", "share": 0.1}, {"source": "zh", "share": 0.7}],
}  # fmt: skip


def card(**changes: Any) -> Card:
    values = {"architecture": "llama", "dtype": "bfloat16", "num_parameters": 1_315_000_000, "vocab_size": 50_257,
              "activation": "silu", "license": "", "chat": True}  # fmt: skip
    return Card(**{**values, **changes})


def test_the_facts_of_a_run() -> None:
    text = model_card(card(license='apache: "2"\n- x'), SETTINGS, TRAINED, MIXTURE)
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "language": ["zh", "en"], "library_name": "transformers", "pipeline_tag": "text-generation",
        "license": 'apache: "2"\n- x',
    }  # fmt: skip
    for part in ("1.31B parameters", "LlamaForCausalLM", "1,315,000,000, stored as bfloat16", "50,257 tokens",
                 "256 tokens",
                 "12,345 tokens in 10 steps, seed 7", "1.2500", "of web-zh | 1.5000", "hash 0123456789abcdef",
                 "| web-zh | zh | 75.0% | 9,000 | 1.50 |", r"| a\|b \<script\> |", "only a convention",
                 r"started from | gpt\|neo |"):  # fmt: skip
        assert part in body, part
    for part in ("unused", "again", "someone", "<script>"):
        assert part not in body


@pytest.mark.parametrize(("shares", "spoken"), [
    ({"en": 0.4, "zh-Hans": 0.3, "zh-Hant": 0.3}, ["zh", "en"]), ({"zh-Hant": 0.2, "en": 0.8}, ["en", "zh"]),
    ({"zh-Hant": 1.0, "en": 0.0}, ["zh"]), ({"other": 1.0}, None),
])  # fmt: skip
def test_both_chinese_scripts_are_chinese(shares: dict[str, float], spoken: list[str] | None) -> None:
    rows = [{"source": name, "share": share} for name, share in shares.items()]
    text = model_card(card(), SETTINGS, TRAINED, {"table": [], "languages": rows})
    assert yaml.safe_load(text.split("---\n")[1]).get("language") == spoken


def test_what_is_not_known_is_left_out() -> None:
    settings = {**SETTINGS, "init_from": ""}
    text = model_card(card(chat=False), settings, {"hash": "ab", "counts": {"in": 1, "out": 1}}, None)
    assert set(yaml.safe_load(text.split("---\n")[1])) == {"library_name", "pipeline_tag"}
    assert "## Data" not in text and "bits per byte" not in text and "## Chat" not in text and "started" not in text


def test_how_to_load_it_is_code(tmp_path: object) -> None:
    text = model_card(card(), SETTINGS, TRAINED, None)
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert len(code.splitlines()) == 7


@pytest.mark.parametrize(("architecture", "activation", "part"), [
    ("llama", "silu", "vLLM and llama.cpp have LlamaForCausalLM"), ("llama", "gelu_pytorch_tanh", "do not convert it"),
    ("qwen2", "silu", "Qwen2ForCausalLM themselves"), ("gemma", "gelu_pytorch_tanh", "GemmaForCausalLM themselves"),
    ("minimax", "gelu_pytorch_tanh", "--model-impl transformers"), ("minimax", "silu", "llama.cpp does not"),
    ("gpt_neo", "", "vLLM and llama.cpp have no GPT-Neo"),
])  # fmt: skip
def test_what_serves_a_class(architecture: str, activation: str, part: str) -> None:
    assert part in serving(architecture, activation)


@given(st.text())
def test_escaped_text_stays_in_its_cell(text: str) -> None:
    found = escape(text)
    assert "\n" not in found and "\r" not in found
    plain = found.replace("\\\\", "")
    assert all(plain[i - 1] == "\\" for i, character in enumerate(plain) if character in "|<`[")
