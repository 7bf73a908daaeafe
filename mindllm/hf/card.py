"""The model card of an export, README.md: what the model is, what it was trained on, how to load and serve it.

All facts come from the run's own records (config.yaml, meta.json, mixture.json); a fact that no record holds is left
out. Text from configs is escaped: names of sources can hold anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindllm.hf.shape import CLASSES

_FORMS = {
    "llama": "pre-norm, RMSNorm, RoPE", "qwen2": "pre-norm, RMSNorm, RoPE, biases on q, k, v",
    "gemma": "pre-norm, RMSNorm, RoPE", "minimax": "DeepNorm, RMSNorm, RoPE, one expert: a plain feed-forward layer",
    "gpt_neo": "pre-norm, LayerNorm, learned positions, alternating global and local attention",
}  # fmt: skip
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$])")
# A base model's card must not promise a chat model.
_CHAT = """
## Chat

`tokenizer.apply_chat_template` writes a conversation in the form of the released MindLLM-1.3B. This is a base model: as
long as it is not tuned on conversations, the template is only a convention, and answers are continuations of text.
"""


@dataclass(frozen=True)
class Card:
    """What the export knows of itself.

    architecture: a model_type.  activation: of the feed-forward layer.  license: an identifier, or "" for none.
    """

    architecture: str
    dtype: str
    num_parameters: int
    vocab_size: int
    activation: str
    license: str
    chat: bool


def model_card(
    card: Card, settings: Mapping[str, Any], trained: Mapping[str, Any], mixture: Mapping[str, Any] | None
) -> str:
    """The README.md of an export, of the run's config.yaml, meta.json and mixture.json."""
    title = f"MindLLM, {_short(card.num_parameters)} parameters"
    parts = [
        *_header(card, mixture), f"# {title}", "", f"A language model of the class {CLASSES[card.architecture]} "
        f"({_FORMS[card.architecture]}), trained with MindLLM. It loads without remote code.", "",
        "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in _facts(card, settings, trained)), "",
        *_data(mixture), "## Use", "", "```python", *_USE, "```", "", serving(card.architecture, card.activation),
    ]  # fmt: skip
    return "\n".join(parts) + "\n" + (_CHAT if card.chat else "")


_USE = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    'folder = "."  # where this file lies',
    "model = AutoModelForCausalLM.from_pretrained(folder)",
    "tokenizer = AutoTokenizer.from_pretrained(folder)",
    'text = tokenizer.eos_token + "春天来了，"  # every document of the training began after this token',
    'prompt = tokenizer(text, return_tensors="pt", return_token_type_ids=False)',
    "print(tokenizer.decode(model.generate(**prompt, max_new_tokens=40)[0], skip_special_tokens=True))",
)


def _header(card: Card, mixture: Mapping[str, Any] | None) -> Iterator[str]:
    """The YAML that the hub reads. JSON strings are YAML, whatever they hold."""
    yield "---"
    if spoken := _spoken(mixture):
        yield "language:"
        yield from (f"- {language}" for language in spoken)
    yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    if card.license:
        yield f"license: {json.dumps(card.license)}"
    yield "---"


def _spoken(mixture: Mapping[str, Any] | None) -> list[str]:
    """zh and en, the larger share first. The mixture tells zh-Hans and zh-Hant apart; the hub knows zh."""
    shares = {"en": 0.0, "zh": 0.0}
    for row in (mixture or {}).get("languages", []):
        language = row["source"].split("-")[0]
        if language in shares:
            shares[language] += row["share"]
    return sorted((name for name, share in shares.items() if share > 0), key=lambda name: (-shares[name], name))


def _facts(card: Card, settings: Mapping[str, Any], trained: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model, counts = settings["model"], trained["counts"]
    yield "parameters", f"{card.num_parameters:,}, stored as {card.dtype}"
    yield "context", f"{model['max_position_embeddings']:,} tokens; trained on {settings['seq_len']:,}"
    yield "vocabulary", f"{card.vocab_size:,} tokens"
    yield "layers, width", f"{model.get('num_hidden_layers') or model['num_layers']}, {model['hidden_size']}"
    if settings.get("init_from"):
        yield "weights started from", escape(Path(settings["init_from"]).name)
    yield "trained on", f"{counts['in']:,} tokens in {counts['out']:,} steps, seed {settings['train']['seed']}"
    if "valid_bpb" in counts:
        yield "bits per byte of held-out text", f"{counts['valid_bpb']:.4f}"
    for name in sorted(name for name in counts if name.startswith("valid_bpb/")):
        yield f"... of {escape(name.removeprefix('valid_bpb/'))}", f"{counts[name]:.4f}"
    yield "training's configuration", f"hash {trained['hash']}"


def _data(mixture: Mapping[str, Any] | None) -> Iterator[str]:
    rows = [row for row in (mixture or {}).get("table", []) if not row["phase"] and row["served_tokens"]]
    if not rows:
        return
    yield from ("## Data", "", "| source | languages | share | tokens served | epochs |", "|---|---|---:|---:|---:|")
    for row in rows:
        languages = ", ".join(escape(name) for name in row["languages"])
        yield (
            f"| {escape(row['source'])} | {languages} | {row['share']:.1%} | {row['served_tokens']:,} | "
            f"{row['epochs']:.2f} |"
        )
    yield ""


def serving(architecture: str, activation: str) -> str:
    """Which programs serve a class. Their own Llama, Qwen2 and MiniMax compute SiLU, whatever config.json says."""
    if architecture == "minimax":
        own = "" if activation == "silu" else ": its own MiniMaxForCausalLM knows SiLU only, and this model has GeGLU"
        return (
            f"vLLM serves it through its transformers backend (`--model-impl transformers`){own}; llama.cpp does not."
        )
    if architecture in ("llama", "qwen2") and activation != "silu":
        return (
            f"vLLM serves it through its transformers backend (`--model-impl transformers`): its own "
            f"{CLASSES[architecture]} knows SiLU only, and this model has GeGLU. llama.cpp would compute SiLU, and so "
            "another model: do not convert it."
        )
    if architecture == "gpt_neo":
        return "transformers serves it; vLLM and llama.cpp have no GPT-Neo."
    return f"vLLM and llama.cpp have {CLASSES[architecture]} themselves."


def escape(text: str) -> str:
    """Text as itself in a Markdown table: no markup, no line breaks."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _short(count: int) -> str:
    for unit, factor in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g}{unit}"
    return str(count)
