"""Masks private data: identity and bank cards, telephones, e-mails, IP addresses, passports, plates, QQ and WeChat ids.

One regular expression runs over the text and stops at the few places worth a look; there a short window is translated
to ASCII forms, a candidate is cut out (pii_patterns.py), its check digits are computed (pii_checks.py), and the words
beside it (pii_words.py) decide where the number alone cannot (pii_numbers.py): 65550123 is a telephone after 电话 and a
figure elsewhere. Linear: windows and candidates are bounded. English prose 60 MB/s, Chinese 100 and more; each number
worth a look costs 50 microseconds. Memory: one copy of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from data_pipeline.cleaners import pii_patterns as patterns
from data_pipeline.cleaners import pii_words as words
from data_pipeline.cleaners.pii_numbers import (
    CONTEXT,
    NUMBERS,
    URL_CONTEXT,
    Span,
    find_email,
    find_ipv6,
    find_named,
    find_plate,
)
from data_pipeline.document import Document, Measure
from mindllm.text import PII_MASKS

MASKS = {mask[2:-2]: mask for mask in PII_MASKS}  # kind -> what stands in the text instead
_AHEAD, _AHEAD_EMAIL = 40, 280  # characters of a window after its trigger
_BEFORE_NUMBER = 14  # letters and brackets that belong to a number whose digits begin later


@dataclass(frozen=True)
class Pii:
    """Replaces private data by one mask token per kind; meta["pii"] counts them by kind (an empty dict: nothing found).

    id_card: identity numbers of the mainland (18 characters; 15 after a word for it), Taiwan, Hong Kong (the last
    character in brackets, or after a word), Macau and US social security numbers (after a word).  phone: mobiles and
    landlines of the mainland, Taiwan, Hong Kong, Macau and North America in their usual written forms, any number with
    a country code, any national number after a word for telephone.  email: also "name (at) host dot com".  bank_card:
    cards by issuer, length and Luhn's check digit, IBANs.  ip: public IPv4 and IPv6 addresses.  passport: after a word
    for it.  plate: licence plates of the mainland, others after a word.  account: QQ, WeChat and LINE after their name.
    """

    id_card: bool = True
    phone: bool = True
    email: bool = True
    bank_card: bool = True
    ip: bool = True
    passport: bool = True
    plate: bool = True
    account: bool = True

    def __call__(self, document: Document) -> Document:
        """The document with masks in its text."""
        document.text, document.meta["pii"] = self.mask(document.text)
        return document

    def measures(self, document: Document) -> Iterator[Measure]:
        """How many masks of each kind the document would get; no limit decides on them."""
        counts = self.mask(document.text)[1]
        for kind in MASKS:
            if getattr(self, kind):
                yield Measure(kind, counts.get(kind, 0))

    def mask(self, text: str) -> tuple[str, dict[str, int]]:
        """(masked text, number of masks by kind)."""
        counts: dict[str, int] = {}
        pieces, at = [], 0
        for start, end, kind in self.find(text):
            pieces += [text[at:start], MASKS[kind]]
            at = end
            counts[kind] = counts.get(kind, 0) + 1
        return "".join(pieces) + text[at:] if pieces else text, dict(sorted(counts.items()))

    def find(self, text: str) -> Iterator[Span]:
        """The private data of the kinds that are switched on, in reading order, without overlaps."""
        done = 0
        for hit in patterns.TRIGGER.finditer(text):
            if hit.end() <= done:
                continue
            low, high = _window(text, hit)
            window = text[low:high] if text.isascii() else text[low:high].translate(patterns.PLAIN)
            for span in self._look(window, hit.start() - low, hit.end() - low, max(0, done - low)):
                done = low + span.end
                yield Span(low + span.start, done, span.kind)

    def _look(self, window: str, start: int, end: int, done: int) -> Iterator[Span]:
        """What the trigger window[start:end] is part of; nothing before `done` counts."""
        first = window[start]
        if first.isdigit():
            yield from self._numbers(window, max(done, start - _BEFORE_NUMBER), end)
            return
        if first in "@([":
            span = find_email(window, start)
        elif first == ":":
            span = find_ipv6(window, start)
        else:
            span = find_plate(window, start) or find_named(window, start)
        if span and span.start >= done and getattr(self, span.kind):
            yield span

    def _numbers(self, window: str, at: int, end: int) -> Iterator[Span]:
        while (begin := patterns.START.search(window, at)) and begin.start() < end:
            at = begin.start()
            for kind, length_of in NUMBERS:
                length = length_of(window, at) if getattr(self, kind) else 0
                if length:
                    yield Span(at, at + length, kind)
                    at += length - 1
                    break
            at += 1


def _window(text: str, hit: re.Match[str]) -> tuple[int, int]:
    """Where the window around a trigger begins and ends; it begins early only where a URL may have begun early."""
    low = max(0, hit.start() - CONTEXT - _BEFORE_NUMBER)
    if words.URL_PART.fullmatch(text[low : hit.start()]):
        low = max(0, hit.start() - URL_CONTEXT)
    return low, hit.end() + (_AHEAD_EMAIL if hit[0][0] in "@＠([（【" else _AHEAD)
