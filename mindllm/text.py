"""The one place that knows Chinese (Simplified, Traditional) from English: scripts, language, units, normal form.

A *unit* is what both languages are measured in: one CJK character or one word of any other script. Python's `\\w` and
`\\b` see no boundary between a Han character and a Latin letter, so every rule here names its characters. Script counts
are one table look-up per character in numpy (about 100 MB/s), `unit_hashes` two (100 to 200 MB/s); `units` is one
regular expression (30 to 45 MB/s).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import opencc

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
# Han, kana without the dots and marks between them, Hangul syllables.
CJK = HAN + "\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uac00-\ud7a3"
LANGUAGES = ("zh-Hans", "zh-Hant", "en", "other")
# What the PII cleaner writes into text, and the tokenizer knows as one token each (our spelling: the paper names none).
PII_MASKS = ("<|id_card|>", "<|phone|>", "<|email|>", "<|bank_card|>", "<|ip|>")

_UNIT = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffe\uffff]"
)
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u2604\u2607-\u26ff\u2700-\u27bf\u2b00-\u2bff\ufe0e\ufe0f\u20e3\U000e0020-\U000e007f]"
)
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
_LINE_ENDS = re.compile(r"\r\n?|\u2028|\u2029|\x85")
_TRAILING = re.compile(r"(?<![ \t\u3000])[ \t\u3000]+$", re.MULTILINE)  # looking back keeps long runs of blanks linear
_BLANK_LINES = re.compile(r"\n{3,}")
# Function words that are frequent in English, rare or absent in its neighbours (so not "a", "on", "in", "die", "me").
_ENGLISH = frozenset(
    "the and of to is that with for was are this it you from have be which they at by not were or his her when".split()
)
# What a character is to a unit: a part of a word, or a unit of its own (0: neither). The golden ratio times 2^64, odd.
_IN_WORD, _ALONE, _ODD = 1, 2, 0x9E3779B97F4A7C15
_KEPT_POWERS = 1 << 17

(_OTHER, _LATIN, _DIGIT, _SPACE, _HAN, _SIMPLIFIED, _TRADITIONAL, _KANA, _HANGUL, _LETTER, _PUNCTUATION) = range(11)


class Scripts(NamedTuple):
    """Character counts of one text by script; `han` includes the characters used in only one of the Chinese scripts."""

    latin: int
    digit: int
    space: int
    han: int
    simplified: int
    traditional: int
    kana: int
    hangul: int
    letter: int
    punctuation: int
    total: int


def units(text: str) -> list[str]:
    """One CJK character or one word (letters and digits of another script) each, in reading order; no punctuation."""
    return _UNIT.findall(text)


def unit_hashes(text: str) -> np.ndarray:
    """uint64 (num_units,): a stable hash of every unit of the lower-cased text, the same in every process, release."""
    return unit_hashes_many([text])[0]


def unit_hashes_many(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """unit_hashes of several texts end to end (uint64), and where each begins (int64, len(texts) + 1): for short texts.

    A unit c[0..n) hashes to fold(sum code(c[i]) * ODD^i mod 2^64). The power of a character's place in the whole batch
    serves as ODD^i; one product by the inverse power takes each unit back to its own beginning: no loop over units.
    memory: 50 bytes a character; batches of about 100,000 characters stay in the processor's cache and are fastest.
    """
    lowered = [text.lower() for text in texts]
    points = np.frombuffer("\n".join(lowered).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds, codes = _unit_tables()
    kind = kinds[points]
    continues = np.zeros_like(kind)
    continues[1:] = kind[1:] & kind[:-1] & _IN_WORD
    starts = np.flatnonzero(kind > continues)
    begins = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) + 1 for text in lowered], out=begins[1:])
    offsets = np.searchsorted(starts, begins)
    if len(starts) == 0:
        return np.zeros(0, dtype=np.uint64), offsets
    powers, inverses = _powers(len(points))
    values = codes[points]
    values *= powers[: len(points)]
    hashes = np.add.reduceat(values, starts)  # what lies between two units has code 0
    hashes *= inverses[starts]
    hashes ^= hashes >> np.uint64(32)  # low bits of a sum of products know only low bits
    return hashes, offsets


@functools.lru_cache(maxsize=1)
def _unit_tables() -> tuple[np.ndarray, np.ndarray]:
    """By code point: its part in a unit (uint8; 0 none) and its code (uint64; 0 outside units). 10 MB, 0.1 s."""
    points = np.arange(0x110000, dtype=np.uint32)
    everything = points.tobytes().decode("utf-32-le", "surrogatepass")
    kinds = np.zeros(len(points), dtype=np.uint8)
    for pattern, kind in ((r"[^\W_]+", _IN_WORD), (f"[{CJK}]+", _ALONE)):
        for match in re.finditer(pattern, everything):
            kinds[match.start() : match.end()] = kind
    codes = points + np.uint64(_ODD)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        codes = (codes ^ (codes >> np.uint64(shift))) * np.uint64(
            factor
        )  # splitmix64 (Steele et al. 2014), a bijection
    codes[kinds == 0] = 0
    return kinds, codes


def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """ODD^0 ... ODD^(size-1) or further, and their inverses. memory: 16 bytes a place; tables up to 2 MB are kept."""
    return _kept_powers(1 << size.bit_length()) if size < _KEPT_POWERS else _make_powers(size)


def _make_powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    table = np.ones((2, size), dtype=np.uint64)
    table[:, 1:] = [[_ODD], [pow(_ODD, -1, 1 << 64)]]
    np.cumprod(table, axis=1, out=table)
    return table[0], table[1]


_kept_powers = functools.lru_cache(maxsize=None)(_make_powers)


def scripts(text: str) -> Scripts:
    """Count the characters of `text` by script. memory: 4 bytes a character."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    n = np.bincount(_classes()[np.minimum(points, 0x323B0)], minlength=11)
    han = int(n[_HAN] + n[_SIMPLIFIED] + n[_TRADITIONAL])
    rest = map(int, (n[_KANA], n[_HANGUL], n[_LETTER], n[_PUNCTUATION], len(points)))
    return Scripts(
        int(n[_LATIN]), int(n[_DIGIT]), int(n[_SPACE]), han, int(n[_SIMPLIFIED]), int(n[_TRADITIONAL]), *rest
    )


def num_han(text: str) -> int:
    """Number of Han characters, in either script."""
    return scripts(text).han


def language(text: str) -> str:
    """zh-Hans, zh-Hant, en or other. Script first (a kana-rich text is Japanese), then English function words.

    Chinese when Han characters are at least 30 % of units (a Latin word counts as five letters); Traditional when
    characters that only it uses outnumber those that only Simplified uses. Texts with neither (some classical verse)
    count as zh-Hans.
    """
    n = scripts(text)
    latin_words = n.latin / 5
    foreign = n.kana + n.hangul + n.letter
    if n.han + latin_words == 0 or foreign > 0.15 * (n.han + n.latin + foreign):
        return "other"
    if n.han >= 0.3 * (n.han + latin_words):
        return "zh-Hant" if n.traditional > n.simplified else "zh-Hans"
    words = re.findall(r"[a-z']+", text[:20_000].lower())
    return "en" if words and sum(w in _ENGLISH for w in words) >= 0.08 * len(words) else "other"


def is_chinese(lang: str) -> bool:
    """Whether a document's `lang` is one of the two Chinese scripts."""
    return lang.startswith("zh")


def language_group(lang: str) -> str:
    """zh (both scripts), en or other: what tokenizer samples and training sources are divided by."""
    return "zh" if is_chinese(lang) else "en" if lang == "en" else "other"


def normalise(text: str) -> str:
    """The normal form of running text: no control, zero-width or emoji characters, plain line ends, no trailing blanks.

    Chinese punctuation, full-width forms and Traditional characters stay; indentation stays, too (code needs it).
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _SPACES.sub(" ", _EMOJI.sub("", _INVISIBLE.sub("", text)))
    text = text.encode("utf-8", "ignore").decode()  # lone surrogates cannot be written anywhere
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n")


@functools.lru_cache(maxsize=1)
def _classes() -> np.ndarray:
    """uint8 (0x323b1,): script class of each code point up to the last Han extension, then one for the rest."""
    table = np.zeros(0x323B1, dtype=np.uint8)
    for low, high, kind in _ranges():
        table[low : high + 1] = kind
    for point in [
        *range(0x21, 0x100),
        *range(0x2010, 0x2070),
        *range(0x3000, 0x3040),
        *range(0xFE10, 0xFE70),
        *range(0xFF00, 0xFFF0),
    ]:
        if unicodedata.category(chr(point))[0] == "P":
            table[point] = _PUNCTUATION
    points = [p for p in range(0x3400, 0xA000) if table[p] == _HAN]
    lines = "\n".join(map(chr, points))
    for converter, kind in (("s2t", _SIMPLIFIED), ("t2s", _TRADITIONAL)):
        changed = opencc.OpenCC(converter).convert(lines).split("\n")
        table[[p for p, c in zip(points, changed, strict=True) if c != chr(p)]] = kind
    return table


def _ranges() -> Iterator[tuple[int, int, int]]:
    yield from (
        (0x0250, 0x1FFF, _LETTER),
        (0xA000, 0xABFF, _LETTER),
        (0x00C0, 0x024F, _LATIN),
        (0x1E00, 0x1EFF, _LATIN),
    )
    yield from ((ord("A"), ord("Z"), _LATIN), (ord("a"), ord("z"), _LATIN), (ord("0"), ord("9"), _DIGIT))
    yield from ((0xFF10, 0xFF19, _DIGIT), (0xFF21, 0xFF3A, _LATIN), (0xFF41, 0xFF5A, _LATIN))
    yield from (
        (0x3400, 0x4DBF, _HAN),
        (0x4E00, 0x9FFF, _HAN),
        (0xF900, 0xFAFF, _HAN),
        (0x20000, 0x323AF, _HAN),
        (0x3007, 0x3007, _HAN),
    )
    yield from ((0x3041, 0x30FF, _KANA), (0xFF66, 0xFF9D, _KANA), (0xAC00, 0xD7AF, _HANGUL), (0x1100, 0x11FF, _HANGUL))
    for space in (0x09, 0x0A, 0x0D, 0x20, 0xA0, 0x3000):
        yield (space, space, _SPACE)
