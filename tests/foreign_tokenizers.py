"""Tokenizers in the manner of other projects, learned from a few lines: Qwen2, Llama 3, Gemma, Llama 2, GPT-2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mindllm.tokenizer.bytelevel import byte_names

ENGLISH = ["The ferry leaves at seven and comes back at noon, if the wind allows it.", "It's 12 miles; they'll walk."]
SIMPLIFIED = ["渡船早上七点开，风小的时候中午回来。", "门开着就进来，他们走了３６天。"]
TRADITIONAL = ["渡船早上七點開，風小的時候中午回來。", "門開著就進來，他們走了３６天。"]
LINES = [*ENGLISH, *SIMPLIFIED, *TRADITIONAL]
# The patterns by which words are cut, as the two projects publish them.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
SETTINGS: dict[str, dict[str, Any]] = {
    "qwen2": {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
              "bos_token": None, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
              "clean_up_tokenization_spaces": False, "chat_template": "{{ messages[0]['content'] }}"},
    "llama3": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>",
               "eos_token": {"__type": "AddedToken", "content": "<|end_of_text|>"},
               "clean_up_tokenization_spaces": True},
    "gemma": {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
              "unk_token": "<unk>"},
    "llama2": {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
               "unk_token": "<unk>", "pad_token": None},
    "gpt2": {"model_max_length": 1024},
}  # fmt: skip
KINDS = tuple(SETTINGS)


def make(kind: str) -> tokenizers.Tokenizer:
    """One of KINDS."""
    return _pieces(kind) if kind in ("gemma", "llama2") else _byte_level(kind)


def write(folder: Path, kind: str, **changes: Any) -> Path:
    """tokenizer.json and tokenizer_config.json (with other values; None takes one out); the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    make(kind).save(str(folder / "tokenizer.json"))
    values = {key: value for key, value in {**SETTINGS[kind], **changes}.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
    return folder


def _byte_level(kind: str) -> tokenizers.Tokenizer:
    special = {"qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
               "llama3": ["<|begin_of_text|>", "<|end_of_text|>"], "gpt2": ["<|endoftext|>"]}[kind]  # fmt: skip
    fast = tokenizers.Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    if kind == "gpt2":
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        words = Regex(QWEN2_WORDS if kind == "qwen2" else LLAMA3_WORDS)
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), level])
    if kind == "qwen2":
        fast.normalizer = normalizers.NFC()
    fast.decoder = decoders.ByteLevel()
    alphabet = sorted(byte_names())
    fast.train_from_iterator(LINES * 3, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False))  # fmt: skip  # noqa: E501
    fast.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    if kind == "qwen2":
        fast.add_tokens([AddedToken("<tool_call>", normalized=False, special=False)])
    fast.post_processor = processors.ByteLevel(trim_offsets=False)
    if kind == "llama3":
        fast.post_processor = _begins_with(fast, special[0])
    return fast


def _pieces(kind: str) -> tokenizers.Tokenizer:
    """BPE over characters with bytes for unknown ones and U+2581 for blanks; some merges spell control tokens, too."""
    special = ["<unk>", "<s>", "</s>"] if kind == "llama2" else ["<pad>", "<eos>", "<bos>", "<unk>"]
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    names += sorted({*"".join(LINES).replace(" ", "▁"), *"<>/sbo▁"})
    merges = [("<", "/"), ("s", ">"), ("<", "s>"), ("</", "s>")] if kind == "llama2" else [("o", "s"), ("b", "os")]
    merges += [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "w"), ("渡", "船"), ("時", "候"), ("时", "候"), ("▁", "▁")]
    vocab = {name: i for i, name in enumerate(dict.fromkeys([*names, *map("".join, merges)]))}
    fast = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    blanks: list[Any] = [normalizers.Replace(" ", "▁")]
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "llama2":
        fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *blanks])
        fast.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    else:
        fast.normalizer, fast.decoder = blanks[0], decoders.Sequence(steps)
    fast.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    fast.post_processor = _begins_with(fast, "<s>" if kind == "llama2" else "<bos>")
    return fast


def _begins_with(fast: tokenizers.Tokenizer, name: str) -> Any:
    return processors.TemplateProcessing(f"{name} $A", special_tokens=[(name, fast.token_to_id(name) or 0)])


def joined(tokens: Sequence[bytes], ids: Sequence[int]) -> bytes:
    """The bytes of text behind token ids."""
    return b"".join(tokens[i] for i in ids)
