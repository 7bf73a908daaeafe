"""A SentencePiece tokenizer learned from a dozen sentences, and texts that break careless tokenizers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hypothesis import strategies as st

from mindllm.text import PII_MASKS
from mindllm.tokenizer.fast import write_twin
from mindllm.tokenizer.pieces import MODEL_FILE, train_model
from mindllm.tokenizer.special import EOS, PAD, ROLES, SPARE, UNK

VOCAB_SIZE = 460
CONTROL = (EOS, PAD, UNK, *ROLES, *SPARE)
ENGLISH = [
    "The ferry leaves at seven and comes back at noon, if the wind allows it.",
    "My grandmother kept the seeds in tin boxes: beans, peas, 12 kinds of lettuce.",
    "If the door is open, walk in; if it is shut, knock twice and wait.",
    "for i in range(10):\n    print(i, 'and', i * i)\n\tdone",
]
SIMPLIFIED = [
    "渡船早上七点开，风小的时候中午回来。",
    "奶奶把种子收在铁盒里：豆子、豌豆，还有12种生菜。",
    "门开着就进来；门关着，就敲两下，等一会儿……",
    "河边的树长得很快，今年又高了３０厘米，哈哈哈哈。",
]
TRADITIONAL = [
    "渡船早上七點開，風小的時候中午回來。",
    "奶奶把種子收在鐵盒裡：豆子、豌豆，還有12種生菜。",
    "門開著就進來；門關著，就敲兩下，等一會兒……",
    f"聯繫我們：{PII_MASKS[1]}，或者寫信到{PII_MASKS[2]}。",
]
TRICKY = [
    "", " ", "  two  spaces  ", "\n", "\n\n\t x \r\n", "    indented\n        more", "\t\t\ta\t b \t", "a\rb\r\rc\r\n",
    "１２３ 456 ７8", "3.14159e-10", "1,000,000.00", "\u3000\u3000全角空格\u3000中\u3000", "a\u00a0b\u00a0 \u00a0c",
    "zero\u200bwidth\u2060\ufeff", "\u2028\u2029\x85\x0b\x0c\x1c",
    "\u2581", "a\u2581 \u2581\u2581b \u2581\n\u2581", " \u2581 ",
    "龘靐齉 rare 𠮷野家𪚥𠀀", "e\u0301a\u0308\u0323 n\u0303",
    "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f3fd 🇨🇳",
    "\x00\x01\x7f", "a\x00b\x00\x00", "\ufffd\ufeff\uffff\U0010ffff", "한국어 日本語カタカナ русский العربية ไทย",
    "中文English混排，mixed；沒有空格 2024年3月", "a" * 300, "哈" * 300, "。" * 50, "…" * 61, "-" * 77, " " * 41,
    "ab" * 99, "哈哈哈 哈哈……哈哈哈哈", "\n" * 20, " \n" * 9, "https://example.org/a%20b?c=d&e=f#g",
    "if (a<b && c>d) {\n\treturn;\n}\n", "<unk>", "<s></s><pad>", "<0x0A>", "<0xE4><0xBD><0xA0>",
    "<0x", "<|phone", "<|phone|", "|phone|>", "<|phone|>|>",
    f"{PII_MASKS[0]}{PII_MASKS[0]} {PII_MASKS[4]}\n{PII_MASKS[3]}。", f"<{PII_MASKS[1]}>", f"电话{PII_MASKS[1]}\u2581 ",
    *(f"前{mask} {mask}x\n{mask}" for mask in PII_MASKS),
]  # fmt: skip
_WORDS = ["a", "b", "aa", "\u2581", "的", "門", "门", " ", "  ", "\n", "\r", "\t", "\u3000", "\xa0", "\x00", "the",
          " the", "12", "１", "。", "，", "……", "哈哈", "er", "𠮷", "\u200d", "e\u0301", "<0x0A>", "<|", "|>", UNK,
          *PII_MASKS[:2], *CONTROL[:1]]  # fmt: skip

# Any text (a lone surrogate is no text), and text of what is next to each other only here.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WORDS = st.lists(st.sampled_from(_WORDS), max_size=40).map("".join)
# Texts that spell out no control token: a Hugging Face tokenizer would read it.
PLAIN = (TEXT | WORDS).filter(lambda text: not any(token in text for token in CONTROL))


def write_tokenizer(folder: Path, lines: Iterable[str] = (), vocab_size: int = VOCAB_SIZE) -> Path:
    """All files of a tokenizer learned from lines (the sentences above where none are given); the folder."""
    texts = list(lines) or [line for text in (ENGLISH + SIMPLIFIED + TRADITIONAL) * 3 for line in text.split("\n")]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(train_model(texts, vocab_size, 1.0, split_digits=True))
    write_twin(folder)
    return folder
