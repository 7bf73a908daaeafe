"""Decides whether a candidate at a place in a window of text is private data, and where it ends, kind by kind.

A window is a stretch of a text translated by pii_patterns.PLAIN. Each rule matches a pattern there, computes check
digits, and only then asks for the words beside it (pii_words.py), which cost most. A rule for numbers returns the
number of characters, 0 for none. Cost: 5 to 60 microseconds a candidate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from data_pipeline.cleaners import pii_checks as checks
from data_pipeline.cleaners import pii_patterns as patterns
from data_pipeline.cleaners import pii_words as words

CONTEXT = 48  # characters beside a number that are looked at for words
URL_CONTEXT = 256  # characters before a number in which a URL may have begun
_YEARS = re.compile("(?:19|20)[0-9]{2} ?[-/ ] ?(?:19|20)[0-9]{2}")
_DATE = re.compile("(?:19|20)[0-9]{2}([-./ ])[0-9]{1,2}\\1[0-9]{1,2}|[0-9]{1,2}([-./ ])[0-9]{1,2}\\2(?:19|20)[0-9]{2}")


class Span(NamedTuple):
    """A piece of private data: text[start:end]."""

    start: int
    end: int
    kind: str


def find_email(window: str, at: int) -> Span | None:
    """The address around the @ or (at) that stands at `at`."""
    pattern = patterns.EMAIL if window[at] == "@" else patterns.SPELLED_EMAIL
    # The name is at most 64 characters long; more before it would show that it began earlier.
    found = pattern.search(window, max(0, at - 66))
    while found and found.end() <= at:
        found = pattern.search(window, found.end())
    if not found or found.start() >= at or found[0].lower().endswith(patterns.FILE_ENDINGS):
        return None
    return Span(*found.span(), "email")


def find_ipv6(window: str, at: int) -> Span | None:
    """The public IPv6 address whose first colon stands at `at`."""
    found = patterns.IPV6.search(window, max(0, at - 4))
    if not found or not found.start() < at < found.end():
        return None
    value = found[0][:-1] if found[0].endswith(":") and not found[0].endswith("::") else found[0]
    return Span(found.start(), found.start() + len(value), "ip") if checks.is_public_ipv6(value) else None


def find_plate(window: str, at: int) -> Span | None:
    """The mainland licence plate that begins at `at`."""
    found = patterns.PLATE.match(window, at)
    return Span(*found.span(), "plate") if found else None


def find_named(window: str, at: int) -> Span | None:
    """A plate or an account right after the word for it that begins at `at`."""
    for pattern in words.ACCOUNTS:
        found = pattern.match(window, at)
        if found and not words.UNIT_AFTER.match(window, found.end()):
            return Span(*found.span("id"), "account")
    found = words.LOCAL_PLATES.match(window, at)
    return Span(*found.span("id"), "plate") if found else None


def _ip(window: str, at: int) -> int:
    found = patterns.IPV4.match(window, at)
    if not found or not checks.is_public_ip(found[0]):
        return 0
    # Numbers that begin small are versions and sections far more often than addresses.
    small = all(int(octet) < 32 for octet in found[0].split(".")[:3])
    if _says(words.VERSION_BEFORE, window, at) or small and not _says(words.ADDRESS_BEFORE, window, at):
        return 0
    return len(found[0])


def _id_card(window: str, at: int) -> int:
    if found := patterns.ID_18.match(window, at):
        if checks.is_id_card(re.sub("[ -]", "", found[0])) and not _in_url(window, at):
            return len(found[0])
    if found := patterns.ID_TAIWAN.match(window, at):
        if checks.is_taiwan_id(re.sub("[ -]", "", found[0])):
            if _says(words.ID_BEFORE, window, at) or found[0][0].isupper() and not _is_code(window, at):
                return len(found[0])
    if found := patterns.ID_HONG_KONG.match(window, at):
        alone = found[0][0].isupper() and found[0][-1] == ")"
        if checks.is_hong_kong_id(re.sub("[ ()]", "", found[0])):
            if _says(words.ID_BEFORE, window, at) or alone and not _is_code(window, at):
                return len(found[0])
    for pattern, named, check in _NAMED_IDS:
        if (found := pattern.match(window, at)) and check(re.sub("[^0-9]", "", found[0])) and _says(named, window, at):
            return len(found[0])
    return 0


_NAMED_IDS = (
    (patterns.ID_15, words.ID_BEFORE, checks.is_old_id_card),
    (patterns.ID_MACAU, words.ID_BEFORE, str.isdigit),
    (patterns.SOCIAL_SECURITY, words.SSN_BEFORE, checks.is_social_security),
)


def _passport(window: str, at: int) -> int:
    found = patterns.PASSPORT.match(window, at)
    if not found or not _says(words.PASSPORT_BEFORE, window, at) or checks.is_date_like(found[0]):
        return 0
    return len(found[0])


def _bank_card(window: str, at: int) -> int:
    if found := patterns.IBAN.match(window, at):
        value = re.sub("[ -]", "", found[0])
        if value[:2].upper() in patterns.IBAN_COUNTRIES and checks.is_iban(value):
            if value.isupper() or "iban" in window[max(0, at - 8) : at].lower():
                return len(found[0])
    found = patterns.CARD.match(window, at)
    if not found:
        return 0
    value = found[0]
    for length in _card_lengths(value):
        digits = re.sub("[ -]", "", value[:length])
        if checks.is_bank_card(digits, named=True):
            named = _says(words.CARD_BEFORE, window, at)
            if named or checks.is_bank_card(digits) and not _is_code(window, at):
                return length
    return 0


def _card_lengths(value: str) -> tuple[int, ...]:
    """The whole, or the whole without a last group of up to three digits (a security code, say)."""
    shorter = re.sub("[ -][0-9]{1,3}$", "", value)
    return (len(value),) if shorter == value else (len(value), len(shorter))


def _phone(window: str, at: int) -> int:
    found = patterns.PHONE.match(window, at)
    if found and len(set(found[0][1:])) == 1:
        return 0
    if found and (_called(window, at, found.end()) or not _is_figure(found)):
        return len(found[0])
    return _international(window, at) or _national(window, at)


def _called(window: str, at: int, end: int) -> bool:
    """Whether a word for telephone stands beside a number; inside a URL only the name of a parameter counts."""
    if _in_url(window, at):
        return _says(words.PHONE_IN_URL, window, at)
    return bool(_says(words.PHONE_BEFORE, window, at) or words.PHONE_AFTER.match(window, end))


def _is_figure(found: re.Match[str]) -> bool:
    """Whether what looks like a telephone is a code, an amount, or part of a row of numbers."""
    window, at, end = found.string, found.start(), found.end()
    beside = re.match("[0-9] ", window[max(0, at - 2) : at]) or re.match(" [0-9]", window[end : end + 2])
    return bool(beside and " " in found[0]) or _is_code(window, at) or bool(words.UNIT_AFTER.match(window, end))


def _international(window: str, at: int) -> int:
    """The length of a number with country code; groups that are too many for its country are left out."""
    found = patterns.INTERNATIONAL.match(window, at)
    if not found or _is_code(window, at):
        return 0
    called = _called(window, at, found.end())
    for end in _group_ends(found[0]):
        value = found[0][:end]
        digits = re.sub("[^0-9]", "", re.sub(r"\(0\)", "", patterns.EXTENSION_END.sub("", value)))
        parted = bool(re.search("[0-9)][ .-]", value))
        digits = digits if "+" in value else digits[2:]
        if "." in value and re.search("[(-]", value) or value.count("(") != value.count(")"):
            continue
        if _is_international(digits) and (called or parted or "+" in value and len(digits) >= 10):
            return end
    return 0


def _is_international(digits: str) -> bool:
    code = checks.country_code(digits)
    national = digits[len(code) :]
    if code == "1":
        return len(national) == 10 and national[0] in "23456789"
    if not code or len(set(digits)) == 1:
        return False
    return 7 <= len(national) <= checks.most_national_digits(code) and not national.endswith("00000")


def _national(window: str, at: int) -> int:
    """The length of a number of 7 to 12 digits that a word calls a telephone; 0 for dates, years and amounts."""
    found = patterns.NATIONAL.match(window, at)
    if not found or not _called(window, at, found.end()) or re.match("[a-z]\\(", window[max(0, at - 2) : at]):
        return 0
    for end in _group_ends(found[0]):
        value = found[0][:end]
        groups = re.findall("[0-9]+", patterns.EXTENSION_END.sub("", value))
        if len(groups[0]) >= 7 and len(groups) > 1 and len(groups[1]) > 4:
            continue  # two numbers
        if value[0] == "(" and value.find(")") in (-1, len(value) - 1) or 2 * len(groups) > sum(map(len, groups)):
            continue  # brackets around all of it, or single digits
        most = 15 if groups[0] in ("00", "011") else 12
        if 7 <= sum(map(len, groups)) <= most and not _is_other(value, groups, window[at + end : at + end + CONTEXT]):
            return end
    return 0


def _is_other(value: str, groups: list[str], after: str) -> bool:
    if _YEARS.match(value) or _DATE.fullmatch(value) or checks.is_date_like(value) or len(set("".join(groups))) == 1:
        return True
    return "." in value and len(groups) < 3 or bool(words.UNIT_AFTER.match(after))


def _group_ends(value: str) -> list[int]:
    """Where a number may end: after all of it, or with groups of digits left out at the end; longest first."""
    return [found.end() for found in re.finditer(r"[0-9]+\)?(?![0-9])", value)][::-1]


def _is_code(window: str, at: int) -> bool:
    """Whether the words before a number say that it is a code of something, or it is part of a URL."""
    return _says(words.CODE_BEFORE, window, at) or _in_url(window, at)


def _says(named: re.Pattern[str], window: str, at: int) -> bool:
    """Whether the words stand right before window[at]."""
    return bool(named.search(window[max(0, at - CONTEXT) : at].lower()))


def _in_url(window: str, at: int) -> bool:
    """Whether what comes next is in the path or the query of a URL that began before it."""
    beginning = words.URL_PART.match(window[max(0, at - URL_CONTEXT) : at][::-1])
    return bool(beginning and words.URL.search(beginning[0][::-1]))


# In this order: what is no identity number may be a card, and so on.
NUMBERS: tuple[tuple[str, Callable[[str, int], int]], ...] = (
    ("ip", _ip),
    ("id_card", _id_card),
    ("bank_card", _bank_card),
    ("passport", _passport),
    ("phone", _phone),
)
