"""Reads word lists for the sensitive cleaner: our own layout with weights, and the plain lists that people have.

All terms are folded to one form, in which the text is searched, too: lower case, half width, Simplified characters, no
separators between Chinese characters ("赌*博", "加 微 信"). One table look-up a character: 60 MB of text a second.
Memory: 5 MB of tables, about 500 bytes a term.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.lists import read_text
from data_pipeline.phrases import columns
from mindllm.config import UserError
from mindllm.language import simplified_characters
from mindllm.text import HAN

LANGUAGES = ("zh", "zh-Hans", "zh-Hant", "en")
_CATEGORY = re.compile("[a-z][a-z0-9_]*")
_SEPARATORS = " *.·•_-~+/|^#"  # in folded text: one or two of them between Han characters are left out
_BETWEEN_TERMS = re.compile("[,，、;；|=\t]")
_ADDRESS = re.compile(r"\w+://|[\w-]+(\.[\w-]+)+(:[0-9]+)?(/|$)", re.ASCII)
_SPECIFIC, _SHORT = 8, 6  # columns: from the first on, a term of a plain list means one thing; below the second, many


class Term(NamedTuple):
    """One lexicon entry; `text` is folded."""

    category: str
    weight: float
    language: str
    text: str


def merge(terms: Iterable[Term]) -> list[Term]:
    """One term a text, with the highest of its weights (the first of equal ones)."""
    best: dict[str, Term] = {}
    for term in terms:
        if term.text not in best or best[term.text].weight < term.weight:
            best[term.text] = term
    return list(best.values())


def read_lexicon(path: Path) -> list[Term]:
    """The terms of a UTF-8 file with one `category TAB weight TAB language TAB term` a line; # starts a comment line.

    Languages: zh (both scripts), zh-Hans, zh-Hant, en. A term may be there in both scripts; the higher weight counts.
    Raises UserError naming the file and line of the first mistake.
    """
    terms: list[Term] = []
    written: set[str] = set()
    for number, line in enumerate(read_text(path, "UTF-8").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        terms.append(_parse(line.rstrip("\r"), f"{path}:{number}"))
        word = line.split("\t")[3].strip().lower()
        if word in written:
            raise UserError(f"{path}:{number}: term {word!r} is given twice")
        written.add(word)
    if not terms:
        raise UserError(f"{path}: holds no terms")
    return merge(terms)


def _parse(line: str, where: str) -> Term:
    fields = [f.strip() for f in line.split("\t")]
    if len(fields) != 4 or not all(fields):
        raise UserError(f"{where}: expected category, weight, language, term separated by tabs, got {line[:60]!r}")
    category, weight, language, text = fields
    check_category(category, where)
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", weight) or float(weight) == 0:
        raise UserError(f"{where}: weight {weight!r} is not a number above 0")
    if language not in LANGUAGES:
        raise UserError(f"{where}: language {language!r} is not one of {', '.join(LANGUAGES)}")
    if len(fold(text)) < 2:
        raise UserError(f"{where}: term {text!r} is a single character; it would hit everywhere")
    return Term(category, float(weight), language, fold(text))


def check_category(category: str, where: str) -> None:
    """Raises UserError unless the name can be part of a drop reason."""
    if not _CATEGORY.fullmatch(category):
        raise UserError(
            f"{where}: category {category!r} must be lower-case letters, digits and _ (it becomes a drop reason)"
        )


def read_list(path: Path, category: str, weight: float) -> list[Term]:
    """The terms of a plain list (also .gz): one a line, or several between commas, semicolons, bars, tabs, = signs.

    UTF-8, UTF-16 with its mark, or else GB18030 (so also GBK and GB2312). An address is one term. Passed over: lines
    that start with #, lines with + (all of several words: not a term), numbers, single characters. `weight` is for
    terms of 4 Chinese characters or 8 letters; those of 3 weigh half, shorter ones a quarter, for they say less.
    Raises UserError for a file that cannot be read or holds no term.
    """
    terms = []
    for line in read_text(path, "UTF-16", "UTF-8", "GB18030").splitlines():
        line = line.strip().lstrip("\ufeff")
        if line.startswith("#") or ("+" in line and not _ADDRESS.match(line)):
            continue
        for part in [line] if _ADDRESS.match(line) else _BETWEEN_TERMS.split(line):
            text = fold(part.strip())
            if len(text) < 2 or not any(map(str.isalpha, text)):
                continue
            width = columns(text)
            share = 1 if width >= _SPECIFIC else 0.5 if width >= _SHORT else 0.25
            terms.append(Term(category, weight * share, "en" if text.isascii() else "zh", text))
    if not terms:
        raise UserError(f"{path}: holds no terms")
    return merge(terms)


def fold(text: str) -> str:
    """The form in which terms are searched; see the module's docstring. Its length may be smaller than the text's."""
    mapped, is_han, is_separator = _tables()
    points = mapped[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]
    gap = is_separator[points]
    if gap.any():
        points = points[~_between_han(is_han[points], gap)]
    return points.tobytes().decode("utf-32-le", "surrogatepass")


def _between_han(han: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Which separators stand, one or two in a row, between two Han characters."""
    out = np.zeros_like(gap)
    out[1:-1] = gap[1:-1] & han[:-2] & han[2:]
    two = gap[1:-2] & gap[2:-1] & han[:-3] & han[3:]
    out[1:-2] |= two
    out[2:-1] |= two
    return out


@functools.lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By code point: the folded character (uint32), whether it is Han, whether a separator. 0.3 s, 7 MB."""
    mapped = np.arange(0x110000, dtype=np.uint32)
    for point in range(0x10000):
        lower = chr(point).lower()
        if len(lower) == 1:
            mapped[point] = ord(lower)
    mapped[0xFF01:0xFF5F] = [ord(chr(point).lower()) for point in range(0x21, 0x7F)]
    mapped[0x3000] = mapped[0xA0] = ord(" ")
    han = np.array([ord(c) for c in re.findall(f"[{HAN}]", "".join(map(chr, range(0x3400, 0x323B0))))], dtype=np.uint32)
    simplified = simplified_characters("".join(map(chr, han.tolist())))
    for point, character in zip(han.tolist(), simplified, strict=True):
        if len(character) == 1:
            mapped[point] = ord(character)
    is_han, is_separator = np.zeros((2, 0x110000), dtype=bool)
    is_han[han] = True
    is_separator[[ord(c) for c in _SEPARATORS]] = True
    return mapped, is_han, is_separator
