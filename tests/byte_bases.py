"""A small byte-level BPE that splits text as GPT-2 does, learned from English, and lines to learn from and try."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import tokenizers
from hypothesis import strategies as st

from mindllm.text import PII_MASKS
from mindllm.tokenizer.bytelevel import Splitting, byte_names, make
from mindllm.tokenizer.special import EOS, PAD, ROLES

PROSE = Path(__file__).resolve().parent.parent / "samples" / "prose"
NUM_BASE = 900  # entries of the base, <|endoftext|> included
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)  # a lone surrogate is no text
SCRAPS = st.lists(
    st.sampled_from(
        ["a", "the", " ", "  ", "\n", "\t", "\r\n", "\x1c", "\x1f!", "\u00a0", "\u3000", "\u2028", "!", "...", "'s",
         "12", "3", "中", "國", "国", "的", "船早", "門", "𠮷", "龘", "。", "，", "「", "：“", "”", "Ａ", "１", "ｶ",
         "かな", "한", "é", "\U0001f600", "\u200d", EOS, PAD, ROLES[0], PII_MASKS[0], PII_MASKS[1], "<|", "|>"]
    ),
    max_size=40,
).map("".join)  # fmt: skip
TRICKY = [
    "", " ", "  two  spaces  ", "\n", "\n\n\t x \r\n", "    indented\n        more", "１２３ 456 ７8", "3.14159e-10",
    f"{PII_MASKS[0]}{PII_MASKS[0]} {PII_MASKS[4]}\n{PII_MASKS[3]}。", "<|phone", "<|phone|", "\u3000\u3000全角空格",
    "龘靐齉 rare 𠮷野家", "\U0001f600\U0001f469\u200d\U0001f467 e\u0301", "\x00\x01\x1c\x1d \x1e\x7f", "\ufffd\ufeff",
    "<0x0A><s></s>", "中文English混排，mixed；沒有空格", "a" * 300, "。" * 50, " " * 41, "天" * 200, "哈哈哈哈哈",
    "渡船早上七点开，风小的时候中午回来。" * 12, "渡船早上七點開，風小的時候中午回來。" * 12,
]  # fmt: skip


@functools.cache
def prose_lines() -> list[str]:
    """The different lines of the project's sample texts, in Chinese (both scripts) and English."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(PROSE.rglob("*.md"))]
    return sorted({line for text in texts for line in text.split("\n") if line})


@functools.cache
def _learned() -> tuple[dict[str, int], list[tuple[str, str]]]:
    fast = make({}, [], Splitting(""))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=NUM_BASE - 1, initial_alphabet=sorted(byte_names()), show_progress=False
    )
    # Chinese as well: as in GPT-2, some tokens hold a part of a character.
    fast.train_from_iterator([line for line in prose_lines() if line.isascii()] + prose_lines()[-40:], trainer)
    state = json.loads(fast.to_str())["model"]
    return {**state["vocab"], EOS: NUM_BASE - 1}, [tuple(merge) for merge in state["merges"]]


def write_base(folder: Path) -> Path:
    """vocab.json and merges.txt, as GPT-2 has them. The folder."""
    vocab, merges = _learned()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]), encoding="utf-8")
    return folder


def base_tokenizer() -> tokenizers.Tokenizer:
    """The base as the tokenizers library runs it."""
    return make(*_learned(), Splitting(""))
