"""Drops advertising for gambling, pornography, fraud, drugs and weapons by the weighted density of lexicon terms.

Never on a single hit: ordinary pages hit public word lists a dozen times, and a news report on a crime uses its words.
The terms are found in one pass of an Aho-Corasick automaton (leftmost, longest; about 80 MB/s), built once a process.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick, MatchKind

from data_pipeline.document import Document, Drop
from mindllm.config import UserError
from mindllm.text import units

LEXICON = Path(__file__).with_name("lexicon.tsv")
LANGUAGES = ("zh", "zh-Hans", "zh-Hant", "en")
_WORD_CHARACTER = re.compile("[0-9A-Za-z]")


class Term(NamedTuple):
    """One lexicon entry; `text` is lower case."""

    category: str
    weight: float
    language: str
    text: str


def read_lexicon(path: Path) -> list[Term]:
    """The terms of a UTF-8 file with one `category TAB weight TAB language TAB term` a line; # starts a comment line.

    Languages: zh (both scripts), zh-Hans, zh-Hant, en. Raises UserError naming the file and line of the first mistake.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"sensitive.lexicon: {path} cannot be read as a UTF-8 text file ({error})") from None
    terms: dict[str, Term] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        term = _parse(line.rstrip("\r"), f"{path}:{number}")
        if term.text in terms:
            raise UserError(f"{path}:{number}: term {term.text!r} is given twice")
        terms[term.text] = term
    if not terms:
        raise UserError(f"{path}: holds no terms")
    return list(terms.values())


def _parse(line: str, where: str) -> Term:
    fields = [f.strip() for f in line.split("\t")]
    if len(fields) != 4 or not all(fields):
        raise UserError(f"{where}: expected category, weight, language, term separated by tabs, got {line[:60]!r}")
    category, weight, language, text = fields
    if not re.fullmatch(r"[a-z][a-z0-9_]*", category):
        raise UserError(
            f"{where}: category {category!r} must be lower-case letters, digits and _ (it becomes a drop reason)"
        )
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", weight) or float(weight) == 0:
        raise UserError(f"{where}: weight {weight!r} is not a number above 0")
    if language not in LANGUAGES:
        raise UserError(f"{where}: language {language!r} is not one of {', '.join(LANGUAGES)}")
    if len(text) < 2:
        raise UserError(f"{where}: term {text!r} is a single character; it would hit everywhere")
    return Term(category, float(weight), language, text.lower())


@dataclass(frozen=True)
class Sensitive:
    """Drops sensitive:<category> (the one with most weight) when both limits are passed.

    max_density: summed weight of all hits, per unit of text.  min_terms: number of different terms that must hit.
    lexicon: path of a file for `read_lexicon`; empty: ours. English terms hit only between word borders. Ignores case.
    """

    max_density: float = 0.02
    min_terms: int = 3
    lexicon: str = ""

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each; the lexicon is read and checked."""
        if self.max_density < 0:
            yield f"max_density: {self.max_density} is below 0"
        if self.min_terms < 1:
            yield "min_terms: must be at least 1"
        try:
            read_lexicon(self._path)
        except UserError as error:
            yield f"lexicon: {error}"

    def __call__(self, document: Document) -> Document | Drop:
        """The document unchanged, or why it goes."""
        weights: dict[str, float] = {}
        found = self.find(document.text)
        for term in found:
            weights[term.category] = weights.get(term.category, 0.0) + term.weight
        if len(set(found)) < self.min_terms or sum(weights.values()) <= self.max_density * len(units(document.text)):
            return document
        return Drop(f"sensitive:{max(sorted(weights), key=weights.__getitem__)}")

    def find(self, text: str) -> list[Term]:
        """The terms that hit, in reading order, repeats included."""
        text = text.lower()
        return [
            self._terms[index]
            for index, start, end in self._automaton.find_matches_as_indexes(text)
            if self._terms[index].language != "en" or _stands_alone(text, start, end)
        ]

    @property
    def _path(self) -> Path:
        return Path(self.lexicon) if self.lexicon else LEXICON

    @functools.cached_property
    def _terms(self) -> list[Term]:
        return read_lexicon(self._path)

    @functools.cached_property
    def _automaton(self) -> AhoCorasick:
        return AhoCorasick([term.text for term in self._terms], matchkind=MatchKind.LeftmostLongest)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] touches no Latin letter or digit (a Han character beside it is a border)."""
    return not (start and _WORD_CHARACTER.match(text[start - 1])) and not _WORD_CHARACTER.match(text[end : end + 1])
