"""The low-quality filter of the report: drops pages with little text among links and symbols, or too little text.

The report gives the thresholds (.75, 100 Chinese characters) but no formula. Ours is over the extracted text, not over
the page: 3 of 4 good news pages are less than .75 article, the rest is the site's frame, which the html cleaner has
taken off already (docs/quality.md has the figures). It needs the text and one number of the html cleaner, so it can be
measured again on any shard. Cost: one table look-up a character (100 MB/s).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from data_pipeline.document import Document, Drop, Measure
from mindllm.text import LANGUAGES, Scripts, is_chinese, scripts, units

_LONG_WORD = 20  # characters: so many per word asked for are looked at before the whole text is


def num_text_chars(text: str) -> int:
    """Letters, digits, Han and the like, and punctuation of either language: all but white space and symbols.

    Symbols are what Unicode calls so (currency, mathematics, arrows, box drawing) and everything unknown (private use).
    """
    return _text_chars(scripts(text))


def num_visible_chars(text: str) -> int:
    """All characters but white space, symbols included."""
    n = scripts(text)
    return n.total - n.space


def _text_chars(n: Scripts) -> int:
    return n.latin + n.digit + n.han + n.kana + n.hangul + n.letter + n.punctuation


def density(text: str, link_chars: int = 0, page_chars: int = 0) -> float:
    """Text density: (text characters - link characters) / visible characters; in [0, 1], 0 for no text.

    Text characters are those of `num_text_chars`; link characters are the text characters of lines that consist of the
    texts of links only (bullets and separators aside), counted by the html cleaner into meta["link_chars"]. Visible
    characters are those of `text`, or, if they are more, `page_chars`: those of the page that `text` was taken from.
    """
    return _density(scripts(text), link_chars, page_chars)


def _density(n: Scripts, link_chars: int, page_chars: int) -> float:
    visible = max(n.total - n.space, page_chars)
    return max(0, _text_chars(n) - link_chars) / visible if visible else 0.0


@dataclass(frozen=True)
class Limits:
    """One language's own limits, see `Density`; null: the general one."""

    min_density: float | None = None
    min_han: int | None = None
    min_words: int | None = None


@dataclass(frozen=True)
class Density:
    """Drops density:low_density and density:too_short; writes the measured density into meta["density"].

    min_density: share of the visible characters that must be text (see `density`).  min_han: Han characters that a
    document in either Chinese script must hold.  min_words: units that any other must hold.
    over: visible characters of what: of the extracted `text`, or of the whole `page` (a document that was no HTML page
    has only its text).
    languages: zh-Hans, zh-Hant, en, other -> own limits, in place of the three general ones.
    """

    min_density: float = 0.75
    min_han: int = 100
    min_words: int = 100
    over: Literal["text", "page"] = "text"
    languages: dict[str, Limits] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        yield from _check(self.min_density, self.min_han, self.min_words, "")
        for lang, own in self.languages.items():
            if lang not in LANGUAGES:
                yield f"languages.{lang}: unknown language; there are {', '.join(LANGUAGES)}"
            elif is_chinese(lang) and own.min_words is not None:
                yield f"languages.{lang}.min_words: {lang} is counted in Chinese characters, set min_han"
            elif not is_chinese(lang) and own.min_han is not None:
                yield f"languages.{lang}.min_han: {lang} is counted in words, set min_words"
            yield from _check(own.min_density, own.min_han, own.min_words, f"languages.{lang}.")

    def __call__(self, document: Document) -> Document | Drop:
        """The document with its density, or why it goes."""
        n = scripts(document.text)
        measured = self._measure(document, n)
        document.meta["density"] = round(measured, 3)
        if measured < self._min_density(document.lang):
            return Drop("density:low_density")
        return document if self._is_long(document, n) else Drop("density:too_short")

    def measures(self, document: Document) -> Iterator[Measure]:
        """Density and length against the limits for the document's language."""
        n = scripts(document.text)
        length = n.han if is_chinese(document.lang) else len(units(document.text))
        found = (
            (f"density over the {self.over}", self._measure(document, n), self._min_density(document.lang)),
            ("Chinese characters" if is_chinese(document.lang) else "words", length, self._min_length(document.lang)),
        )
        for name, value, limit in found:
            yield Measure(name, round(value, 3), f"at least {limit:g}", value >= limit)

    def _measure(self, document: Document, n: Scripts) -> float:
        page_chars = document.meta.get("page_chars", 0) if self.over == "page" else 0
        return _density(n, document.meta.get("link_chars", 0), page_chars)

    def _min_density(self, lang: str) -> float:
        own = self.languages.get(lang, Limits()).min_density
        return self.min_density if own is None else own

    def _min_length(self, lang: str) -> int:
        own, chinese = self.languages.get(lang, Limits()), is_chinese(lang)
        limit, general = (own.min_han, self.min_han) if chinese else (own.min_words, self.min_words)
        return general if limit is None else limit

    def _is_long(self, document: Document, n: Scripts) -> bool:
        limit = self._min_length(document.lang)
        if is_chinese(document.lang):
            return n.han >= limit
        beginning = document.text[: limit * _LONG_WORD]  # holds no more units than all of it; mostly enough, and fast
        return len(units(beginning)) >= limit or len(units(document.text)) >= limit


def _check(min_density: float | None, min_han: int | None, min_words: int | None, where: str) -> Iterator[str]:
    if min_density is not None and not 0 <= min_density <= 1:
        yield f"{where}min_density: {min_density} is not in [0, 1]"
    for name, value in (("min_han", min_han), ("min_words", min_words)):
        if value is not None and value < 0:
            yield f"{where}{name}: must be 0 or more, is {value}"
