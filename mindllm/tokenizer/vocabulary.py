"""What a vocabulary holds: tokens by kind, the longest of each script, and tokens that look like junk.

All of it follows from the bytes of text behind each token, so it is the same for every kind of tokenizer. Tokens are
shown with their blanks and invisible characters written out, for a token can hold anything that a document held.
Cost: .5 s and 60 MB for 125,700 tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from mindllm.text import HAN

KINDS = (
    "special", "bytes", "Latin words", "Han, 1 character", "Han, 2 characters", "Han, 3 characters",
    "Han, 4 and more", "other scripts", "digits, punctuation, blanks", "mixed",
)  # fmt: skip
SCRIPTS = ("Latin", "Han", "other")
JUNK = ("control or invisible characters", "web addresses", "runs of one character")
NUM_LONGEST, NUM_EXAMPLES = 20, 20
MAX_SHOWN = 60  # characters of one token
MIN_RUN = 8  # of one character, blanks aside (code is indented by as many)

_LATIN = "A-Za-zªºÀ-ÖØ-öø-ɏḀ-ỿ"
_LATIN_WORD = re.compile(f"[{_LATIN}]+(?:['’-][{_LATIN}]+)*")
_HAN_WORD = re.compile(f"[{HAN}〇]+")
_HAS_LATIN, _HAS_HAN = re.compile(f"[{_LATIN}]"), re.compile(f"[{HAN}]")
_ADDRESS = re.compile(r"https?|www\.|://|\.(?:com|net|org|html?|php|cn)(?![a-z])", re.IGNORECASE)
_RUN = re.compile(rf"([^ ])\1{{{MIN_RUN - 1},}}")
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u3000": "□"}


def text_of(token: bytes) -> str | None:
    """The text of a token, or None where its bytes are no whole characters."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None


def show(token: bytes) -> str:
    """A token for people: blanks as signs, invisible characters as \\u200b, bytes that are no characters as <0xE4>."""
    text = text_of(token)
    if text is None:
        return "".join(_pieces(token))
    shown = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    return "".join(map(_visible, shown))


def kind_of(token: bytes) -> str:
    """Which of KINDS the text of a token is, blanks around it aside; `special` is known by its id only."""
    text = text_of(token)
    if text is None:
        return "bytes"
    word = text.strip()
    if _LATIN_WORD.fullmatch(word):
        return "Latin words"
    if _HAN_WORD.fullmatch(word):
        return f"Han, {len(word)} character{'s' if len(word) > 1 else ''}" if len(word) < 4 else "Han, 4 and more"
    classes = {unicodedata.category(character)[0] for character in word}
    if "L" not in classes:
        return "digits, punctuation, blanks"
    foreign = classes <= {"L", "M"} and not _HAS_LATIN.search(word) and not _HAS_HAN.search(word)
    return "other scripts" if foreign else "mixed"


def script_of(text: str) -> str:
    """Latin or Han where a text has letters of that script and of no other, else `other`."""
    latin, han = bool(_HAS_LATIN.search(text)), bool(_HAS_HAN.search(text))
    if latin == han:
        return "other"
    own = _HAS_LATIN if latin else _HAS_HAN
    foreign = any(unicodedata.category(c)[0] == "L" and not own.match(c) for c in text)
    return "other" if foreign else "Latin" if latin else "Han"


def count_kinds(tokens: Sequence[bytes], special: Iterable[int], single_bytes: Iterable[int]) -> dict[str, int]:
    """Tokens by kind, every kind named; ids that nothing has are in none."""
    counts = dict.fromkeys(KINDS, 0)
    special, single_bytes = frozenset(special), frozenset(single_bytes)
    for i, token in enumerate(tokens):
        if i in special:
            counts["special"] += 1
        elif token:
            counts["bytes" if i in single_bytes else kind_of(token)] += 1
    return counts


def longest(tokens: Sequence[bytes], special: Iterable[int]) -> dict[str, list[dict[str, Any]]]:
    """The NUM_LONGEST tokens by characters (ties by id) of each script, as {id, characters, token}."""
    special = frozenset(special)
    found: dict[str, list[tuple[int, int]]] = {script: [] for script in SCRIPTS}
    for i, token in enumerate(tokens):
        text = text_of(token)
        if text and i not in special:
            found[script_of(text)].append((-len(text), i))
    return {
        script: [{"id": i, "characters": -length, "token": show(tokens[i])} for length, i in sorted(rows)[:NUM_LONGEST]]
        for script, rows in found.items()
    }


def junk(tokens: Sequence[bytes], special: Iterable[int]) -> dict[str, dict[str, Any]]:
    """By kind of JUNK: how many tokens, and the first NUM_EXAMPLES as {id, token}. Single bytes are no junk."""
    special = frozenset(special)
    found: dict[str, list[int]] = {kind: [] for kind in JUNK}
    for i, token in enumerate(tokens):
        text = text_of(token)
        if text and len(token) > 1 and i not in special:
            for kind in _junk_kinds(text):
                found[kind].append(i)
    return {kind: {"tokens": len(ids), "examples": examples(tokens, ids)} for kind, ids in found.items()}


def examples(tokens: Sequence[bytes], ids: Sequence[int]) -> list[dict[str, Any]]:
    """At most NUM_EXAMPLES of the ids, at equal distances, as {id, token}."""
    step = max(1.0, len(ids) / NUM_EXAMPLES)
    chosen = [ids[int(n * step)] for n in range(min(len(ids), NUM_EXAMPLES))]
    return [{"id": int(i), "token": show(tokens[i])} for i in chosen]


def _junk_kinds(text: str) -> Iterable[str]:
    if any(unicodedata.category(c) in _INVISIBLE and c not in "\n\r\t" for c in text):
        yield JUNK[0]
    if _ADDRESS.search(text):
        yield JUNK[1]
    if _RUN.search(text):
        yield JUNK[2]


def _visible(character: str) -> str:
    """A character that can be seen and does not change how its neighbours are drawn."""
    if character in _SIGNS:
        return _SIGNS[character]
    category = unicodedata.category(character)
    if category in _INVISIBLE or category == "Zs":
        return f"\\u{ord(character):04x}"
    return f"◌{character}" if category[0] == "M" else character


def _pieces(token: bytes) -> Iterable[str]:
    """The whole characters in a token and, between them, its other bytes as <0xE4>."""
    rest = token.decode(errors="surrogateescape")[:MAX_SHOWN]
    for character in rest:
        point = ord(character)
        yield f"<0x{point - 0xDC00:02X}>" if 0xDC80 <= point <= 0xDCFF else _visible(character)
