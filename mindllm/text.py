"""What text is measured in, for Chinese and English alike: units, their hashes, the normal form.

A *unit* is what both languages are measured in: one CJK character or one word of any other script. Python's `\\w` and
`\\b` see no boundary between a Han character and a Latin letter, so every rule here names its characters. `unit_hashes`
is two table look-ups per character in numpy (200 to 400 MB/s); `units` is one regular expression (30 to 45 MB/s).
Scripts and languages have a file of their own, mindllm/language.py; their names can be had from here, too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from mindllm.hashing import ODD, mix_array, powers
from mindllm.language import LANGUAGES as LANGUAGES
from mindllm.language import Scripts as Scripts
from mindllm.language import is_chinese as is_chinese
from mindllm.language import language as language
from mindllm.language import language_group as language_group
from mindllm.language import num_han as num_han
from mindllm.language import scripts as scripts

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
# Han, kana without the dots and marks between them, Hangul syllables.
CJK = HAN + "\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uac00-\ud7a3"
# What the PII cleaner writes into text, and the tokenizer knows as one token each (our spelling: the paper names none).
PII_MASKS = (
    "<|id_card|>", "<|phone|>", "<|email|>", "<|bank_card|>", "<|ip|>", "<|passport|>", "<|plate|>", "<|account|>",
)  # fmt: skip

_UNIT = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
# By code point, for normalise. Symbols that are written in running text stay: arrows, mathematics, box drawing, ① ★ ☆ ♪
# ♂ ♀ ♥ ✓ ✔ ☎ © ™, the trigrams ☰ to ☷, the enclosed ㊗ ㊣; what is drawn as a picture goes, however new it is.
_JUNK = (
    (0x00, 0x08), (0x0B, 0x0C), (0x0E, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD),  # controls, soft hyphen
    (0x034F, 0x034F), (0x061C, 0x061C), (0x180B, 0x180E), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F),
    (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFC), (0xD800, 0xDFFF),  # invisible, surrogates (no UTF-8 has them)
    (0xE000, 0xF8FF), (0xFDD0, 0xFDEF), (0xFFFE, 0xFFFF), (0xF0000, 0x10FFFF),  # private use: icon fonts; no characters
    (0xFE00, 0xFE0F), (0xE0000, 0xE01EF), (0x20E3, 0x20E3),  # variation selectors (of Han, too), flag tags, keycap
    (0x231A, 0x231B), (0x23CF, 0x23CF), (0x23E9, 0x23FA), (0x2600, 0x2604), (0x2614, 0x2615), (0x2618, 0x2618),
    (0x261D, 0x261D), (0x2620, 0x2623), (0x2626, 0x2626), (0x262A, 0x262A), (0x262E, 0x262E), (0x2638, 0x263B),
    (0x2648, 0x2653), (0x2668, 0x2668), (0x267B, 0x267F), (0x2692, 0x26FF), (0x2702, 0x2702), (0x2705, 0x2705),
    (0x2708, 0x270F), (0x2728, 0x2728), (0x2744, 0x2744), (0x2747, 0x2747), (0x274C, 0x274C), (0x274E, 0x274E),
    (0x2753, 0x2755), (0x2757, 0x2757), (0x2763, 0x2764), (0x2795, 0x2797), (0x27B0, 0x27B0), (0x27BF, 0x27BF),
    (0x2B1B, 0x2B1C), (0x2B50, 0x2B50), (0x2B55, 0x2B55), (0x1F000, 0x1F77F), (0x1F7D8, 0x1F7FF), (0x1F900, 0x1FAFF),
)  # fmt: skip
_SPACES = ((0xA0, 0xA0), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F))
_LINE_ENDS = ((0x85, 0x85), (0x2028, 0x2029))
_WIDE_SPACES = ((0xE5E5, 0xE5E5),)  # what GB18030 makes of A3A0, a wide space on many Chinese pages
_ASCII_JUNK = bytes(p for low, high in _JUNK for p in range(low, high + 1) if p < 0x80)
_KEPT, _DROPPED = -1, -2
_QUOTES = "“”‘’"  # Chinese or not by what stands beside them
_BLANK_LINES = re.compile(r"\n{3,}")
# What a character is to a unit: a part of a word, or a unit of its own (0: neither).
_IN_WORD, _ALONE = 1, 2
_NOT_ONE_TO_ONE = "Σİ"  # their lower case depends on what stands around, is two characters


def units(text: str) -> list[str]:
    """One CJK character or one word (letters and digits of another script) each, in reading order; no punctuation."""
    return _UNIT.findall(text)


def unit_hashes(text: str) -> np.ndarray:
    """uint64 (num_units,): a stable hash of every unit of the lower-cased text, the same in every process, release."""
    return unit_hashes_many([text])[0]


def unit_hashes_many(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """unit_hashes of several texts end to end (uint64), and where each begins (int64, len(texts) + 1): for short texts.

    A unit c[0..n) hashes to fold(sum code(c[i]) * ODD^i mod 2^64), with the powers of mindllm.hashing: no loop over
    units.
    memory: 50 bytes a character; batches of about 100,000 characters stay in the processor's cache and are fastest.
    """
    joined = "\n".join(texts)
    if any(character in joined for character in _NOT_ONE_TO_ONE):
        texts = [text.lower() for text in texts]
        joined = "\n".join(texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.intp)
    kinds, codes = _unit_tables()
    kind = kinds.take(points, mode="clip")  # all are in range; this mode does not look
    continues = np.zeros_like(kind)
    continues[1:] = kind[1:] & kind[:-1] & _IN_WORD
    starts = np.flatnonzero(kind > continues)
    begins = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) + 1 for text in texts], out=begins[1:])
    offsets = np.searchsorted(starts, begins)
    if len(starts) == 0:
        return np.zeros(0, dtype=np.uint64), offsets
    forward, back = powers(len(points))
    values = codes.take(points, mode="clip")
    values *= forward[: len(points)]
    np.cumsum(values, out=values)  # what lies between two units has code 0
    hashes = np.diff(values[np.append(starts[1:] - 1, len(values) - 1)], prepend=np.uint64(0))
    hashes *= back[starts]
    hashes ^= hashes >> np.uint64(32)  # low bits of a sum of products know only low bits
    return hashes, offsets


@functools.lru_cache(maxsize=1)
def _unit_tables() -> tuple[np.ndarray, np.ndarray]:
    """By code point: its part in a unit (uint8; 0 none) and the code of its lower case (uint64; 0 outside units).

    memory: 10 MB; 0.1 s to make.
    """
    points = np.arange(0x110000, dtype=np.uint32)
    everything = points.tobytes().decode("utf-32-le", "surrogatepass")
    kinds = np.zeros(len(points), dtype=np.uint8)
    for pattern, kind in ((r"[^\W_]+", _IN_WORD), (f"[{CJK}]+", _ALONE)):
        for match in re.finditer(pattern, everything):
            kinds[match.start() : match.end()] = kind
    codes = mix_array(points + np.uint64(ODD))
    codes[kinds == 0] = 0
    small = everything.replace("İ", "i").lower().encode("utf-32-le", "surrogatepass")  # of the same length
    return kinds, codes[np.frombuffer(small, dtype=np.uint32)]


def normalise(text: str) -> str:
    """The normal form of running text: no control, zero-width, private or emoji characters, plain line ends and spaces.

    Chinese punctuation, full-width forms, Traditional characters and text symbols stay, and so does indentation (code
    needs it); blanks at line ends, lines and empty lines beyond one in a row go. About 200 MB/s.
    memory: 9 bytes a character.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        text = text.encode().translate(None, _ASCII_JUNK).decode()
    else:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.int32)
        changes = _changes().take(points)
        if changes.max() >= 0 or changes.min() < _KEPT:
            points = np.where(changes >= 0, changes, points)[changes != _DROPPED]
            text = points.tobytes().decode("utf-32-le")
    text = "\n".join([line.rstrip(" \t\u3000") for line in text.split("\n")])
    return (_BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text).strip("\n")


def unwrap(text: str) -> str:
    """White space collapsed to single blanks; a line that wraps inside Chinese leaves none, as in print."""
    if text.isascii() or "\n" not in text:
        return " ".join(text.split())
    pieces: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        if not words:
            continue
        if pieces and not (_is_wide(pieces[-1][-2:].rstrip(_QUOTES)) and _is_wide(words[0][:2].lstrip(_QUOTES))):
            pieces.append(" ")
        pieces.append(" ".join(words))
    return "".join(pieces)


def _is_wide(text: str) -> bool:
    """Whether it begins and ends with Han, kana, or punctuation written with them; Hangul is written with blanks."""
    return all(
        "\u3001" <= c <= "\u9fff" or "\uf900" <= c <= "\uffef" or c >= "\U00020000" for c in text[-1:] + text[:1]
    )


@functools.lru_cache(maxsize=1)
def _changes() -> np.ndarray:
    """int16 (0x110000,): the code point that replaces each; _KEPT, _DROPPED. memory: 2 MB."""
    table = np.full(0x110000, _KEPT, dtype=np.int16)
    for ranges, change in ((_JUNK, _DROPPED), (_SPACES, 0x20), (_LINE_ENDS, 0x0A), (_WIDE_SPACES, 0x3000)):
        for low, high in ranges:
            table[low : high + 1] = change
    return table
