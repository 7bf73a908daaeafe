"""Scripts and languages: character counts by script; zh-Hans, zh-Hant, en or other for a text.

The script decides first. Latin letters are English when a linear model over letter trigrams says so: 21,952 weights
of a byte each (english_trigrams.bin, fitted and measured by bench/language.py), against some 300 other languages. It
needs no function words, so lists of commands and tables count, and knows French or Dutch by their spelling.
Cost: at most 0.2 ms for ASCII, however long (8,000 characters are read; 40 MB/s for pages of 2,000); other texts one
table look-up a character as well (100 MB/s). Loading the tables takes 0.1 s, once.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np
import opencc

LANGUAGES = ("zh-Hans", "zh-Hant", "en", "other")
SYMBOLS = 28  # of the trigram model: anything else, a to z (case folded), a Latin letter outside ASCII
_WINDOWS, _WINDOW = 8, 1000  # how many, how long: what is read of a longer Latin text, at equal distances
_MIN_TRIGRAMS = 15  # fewer say nothing
_MIN_SHARE = 0.3  # of the units from which a script carries a text
_MIN_HAN = 0.08  # of the units: fewer Han among code or English are a quotation

_WORD = re.compile(r"[A-Za-z]+")
# Code has hardly any of these, English prose one word in three.
_FUNCTION_WORDS = frozenset(
    "the and of to is that with for was are this it you from have be which they at by not were or in on as if".split()
)
# Frequent in modern and classical Chinese sentences, hardly ever in Japanese lines that do without kana.
_CHINESE_ONLY = re.compile("[的了是在我这這们們你也吗嗎呢吧么麼说說之者而其]")

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


def scripts(text: str) -> Scripts:
    """Count the characters of `text` by script. memory: 4 bytes a character."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    n = np.bincount(_classes().take(points, mode="clip"), minlength=11)
    han = int(n[_HAN] + n[_SIMPLIFIED] + n[_TRADITIONAL])
    rest = map(int, (n[_KANA], n[_HANGUL], n[_LETTER], n[_PUNCTUATION], len(points)))
    return Scripts(
        int(n[_LATIN]), int(n[_DIGIT]), int(n[_SPACE]), han, int(n[_SIMPLIFIED]), int(n[_TRADITIONAL]), *rest
    )


def num_han(text: str) -> int:
    """Number of Han characters, in either script."""
    return scripts(text).han


def language(text: str) -> str:
    """zh-Hans, zh-Hant, en or other, for the language that carries the text; other when nothing is sure.

    Units are compared: a Han character, kana or Hangul syllable is one, five letters of another script are one. Other
    when foreign scripts hold 30 %; Chinese when Han characters do, where code among Chinese sentences does not count;
    what is left is English or not by its letter trigrams. Han among kana, and lines of Japanese forms of Han, are
    Japanese, so other. The Chinese script is the one whose own characters are more, then whose quotation marks are; a
    text with neither (some classical verse) counts as zh-Hans.
    """
    if text.isascii():
        return "en" if english_score(text) > 0 else "other"
    n = scripts(text)
    words = n.latin / 5
    han = 0 if _is_japanese(text, n) else n.han
    foreign = n.hangul + n.kana + n.letter / 5 + (n.han - han)
    if foreign > _MIN_SHARE * (han + words + foreign):
        return "other"
    if 0 < _MIN_HAN * (han + words) <= han:
        prose = words if han >= _MIN_SHARE * (han + words) else words * _prose_share(text)
        if han >= _MIN_SHARE * (han + prose):
            return _chinese_script(text, n)
    return "en" if english_score(text) > 0 else "other"


def is_chinese(lang: str) -> bool:
    """Whether a document's `lang` is one of the two Chinese scripts."""
    return lang.startswith("zh")


def language_group(lang: str) -> str:
    """zh (both scripts), en or other: what tokenizer samples and training sources are divided by."""
    return "zh" if is_chinese(lang) else "en" if lang == "en" else "other"


def english_score(text: str) -> float:
    """Above 0 when the Latin letters of `text` spell English: sum of weight * sqrt(share) over its trigrams.

    The root keeps a word that is repeated all over a page from deciding alone. Texts with hardly any letters score 0.
    """
    found, shares = trigram_shares(_sample(text))
    return float(_weights().take(found) @ shares)


def trigram_shares(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The trigrams of a text in order (integers in [0, SYMBOLS^3)), and for each 1 / sqrt(its count * their number).

    A trigram is three neighbouring symbols with a letter in the middle; runs of other characters only part words. The
    values of all occurrences of one trigram add up to the root of its share.
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    symbols = _symbols().take(points, mode="clip")
    codes = ((symbols[:-2] * SYMBOLS + symbols[1:-1]) * SYMBOLS + symbols[2:])[symbols[1:-1] > 0]
    if len(codes) < _MIN_TRIGRAMS:
        return np.zeros(0, dtype=np.uint16), np.zeros(0)
    return codes, 1 / np.sqrt(np.bincount(codes).take(codes) * len(codes))  # several times faster than ** -0.5


def _sample(text: str) -> str:
    """The whole of a short text; of a long one windows at equal distances: a menu at its top must not decide."""
    if len(text) <= _WINDOWS * _WINDOW:
        return text
    step = (len(text) - _WINDOW) / (_WINDOWS - 1)
    return "\n".join(text[int(k * step) : int(k * step) + _WINDOW] for k in range(_WINDOWS))


def _prose_share(text: str) -> float:
    """How much of the Latin words is sentences, in [0, 1]: all of a foreign language, little of code."""
    sample = _sample(text)
    words = _WORD.findall(sample.lower())
    if not words or english_score(sample) <= 0:
        return 1.0
    return min(1.0, 3 * sum(word in _FUNCTION_WORDS for word in words) / len(words))


def _is_japanese(text: str, n: Scripts) -> bool:
    """Whether the Han characters are Japanese: among kana, or hardly Chinese and a few of them of Japanese form."""
    if n.kana > 0.15 * (n.han + n.kana):
        return True
    num_japanese = len(_japanese_forms().findall(text)) if n.han else 0
    return num_japanese > 0.02 * n.han and num_japanese > len(_CHINESE_ONLY.findall(text))


def _chinese_script(text: str, n: Scripts) -> str:
    if n.traditional == n.simplified:
        return "zh-Hant" if text.count("「") > text.count("“") else "zh-Hans"
    return "zh-Hant" if n.traditional > n.simplified else "zh-Hans"


@functools.lru_cache(maxsize=1)
def _weights() -> np.ndarray:
    """float64 (SYMBOLS^3,): above 0 for trigrams that English has more of than other languages."""
    data = resources.files("mindllm").joinpath("english_trigrams.bin").read_bytes()
    assert len(data) == SYMBOLS**3, "english_trigrams.bin does not fit to the trigrams of this code: fit it anew"
    return np.frombuffer(data, dtype=np.int8).astype(np.float64)


@functools.lru_cache(maxsize=1)
def _symbols() -> np.ndarray:
    """uint16 (0x1f01,): the symbol of each code point, the last one for all beyond."""
    table = np.zeros(0x1F01, dtype=np.uint16)
    for first in "Aa":
        table[ord(first) : ord(first) + 26] = np.arange(1, 27)
    table[0xC0:0x250] = table[0x1E00:0x1F00] = SYMBOLS - 1
    table[[0xD7, 0xF7]] = 0  # the signs of multiplication and division
    return table


@functools.lru_cache(maxsize=1)
def _japanese_forms() -> re.Pattern[str]:
    """Han of Japan's common character set that the sets of Simplified and Traditional lack, such as 気 発 図 駅 働."""
    han = "".join(map(chr, range(0x4E00, 0xA000)))
    japanese = {c for c in _encodable(han, "shift_jis") if c.encode("shift_jis") < b"\x98\x9f"}
    return re.compile(f"[{''.join(sorted(japanese - _encodable(han, 'gb2312') - _encodable(han, 'cp950')))}]")


def _encodable(characters: str, charset: str) -> set[str]:
    return set(characters.encode(charset, "ignore").decode(charset))


def simplified_characters(characters: str) -> list[str]:
    """What each character is in Simplified Chinese, taken alone; others stay as they are."""
    return opencc.OpenCC("t2s").convert("\n".join(characters)).split("\n") if characters else []


def convert_chinese(texts: Sequence[str], converter: str) -> list[str]:
    """Every text in the other Chinese script, by OpenCC's phrase tables: 5 MB/s; other scripts stay as they are.

    converter: s2t (to Traditional), t2s (to Simplified), tw2s (to Simplified, from Taiwan's characters), tw2sp (with
    mainland words for Taiwan's, too).
    """
    convert = opencc.OpenCC(converter).convert
    return [convert(text) for text in texts]


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
    # 台 里 后 云 and others stand for more in Simplified, but are common in Traditional, too: Big5's first level.
    common = [ord(c) for c in _encodable(lines, "big5") - {"\n"} if c.encode("big5") < b"\xc6\x80"]
    table[[p for p in common if table[p] == _SIMPLIFIED]] = _HAN
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
