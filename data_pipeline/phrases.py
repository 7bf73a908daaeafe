"""What counts as a phrase of a web site: its paragraphs, lines and sentences, each as one 64-bit key.

One definition for both passes: sites.py counts the keys, site_phrases.py cuts what is frequent. A key is blind to
numbers and spacing, so that "Page 3 of 12" is one phrase on all pages. What has to repeat on honest pages is no phrase:
code, rows of tables, lines with a date, and all that is short. Keys are differences of running sums in numpy, without a
loop over characters. Cost: 0.15 ms a text, and 35 MB/s of text. Memory: 100 bytes a character of a piece of 64,000.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mindllm.hashing import ODD, mix_array, powers
from mindllm.text import CJK

# Columns (a CJK character takes two). "相关主题" and "Related topics" are counted as lines, "}" and "Example" are not.
# A sentence inside a paragraph is part of somebody's text, so "他点了点头。" and "Yes, of course." stay out.
MIN_LINE, MIN_SENTENCE = 8, 16
LONG = 40  # columns from which the same words on two pages are no coincidence: the lowest bit of the key says so
MAX_PARAGRAPH = 40  # lines; longer blocks are told by their lines
CODE_INDENTS = ("    ", "\t")
PARAGRAPH, LINE, SENTENCE = range(3)
_MIN_COLUMNS = np.array([MIN_LINE, MIN_LINE, MIN_SENTENCE])
_PIECE = 1 << 16  # characters that are looked at together: what fits into the processor's cache

_CODE_STARTS = (*CODE_INDENTS, "$ ", "> ", "//", "| ", "import ", "def ", "return ")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]*\.?"
_DATE = re.compile(
    r"[0-9]{2,4} ?[-/.年] ?[0-9]{1,2} ?[-/.月] ?[0-9]{1,2}|[0-9]{1,2} ?月 ?[0-9]{1,2} ?日"
    r"|[0-9]{1,2}:[0-9]{2}"
    rf"|\b{_MONTH} [0-9]{{1,2}}\b|\b[0-9]{{1,2}} {_MONTH} [0-9]{{4}}"
)
_CJK = re.compile(f"[{CJK}]")
# What a character is, as bits of a table.
_SPACE, _DIGIT, _LETTER, _WIDE, _MARK, _LATIN_MARK, _CLOSING, _CODE = (1 << n for n in range(8))


class Phrases(NamedTuple):
    """Arrays with an entry a phrase: text[start:stop] of a kind (PARAGRAPH, LINE, SENTENCE), its key (uint64).

    In reading order; what holds another phrase comes before it.
    """

    starts: np.ndarray
    stops: np.ndarray
    kinds: np.ndarray
    keys: np.ndarray


def find_phrases(text: str) -> Phrases:
    """The phrases of a text: paragraphs (2 to MAX_PARAGRAPH lines between blank ones), lines, sentences within lines.

    Sentences end with a mark, what closes with it and the blanks after it, or with a wide gap. A key is a hash of the
    characters without white space, each number being one 0; its lowest bit says LONG columns or more. No phrase is what
    is narrower than MIN_LINE (sentences: MIN_SENTENCE) columns or has no letter; a line that is code, or a row of a
    table; a line or sentence of less than LONG columns, or a paragraph, with a date or a time of day.
    """
    parts = [_find(piece, offset) for offset, piece in _pieces(text)]
    if len(parts) == 1:
        return parts[0]
    return Phrases(*map(np.concatenate, zip(*parts, strict=True)))


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The text in pieces of about _PIECE characters that end with a blank line, or else with a line."""
    start = 0
    while len(text) - start > 2 * _PIECE:
        stop = text.find("\n\n", start + _PIECE, start + 2 * _PIECE) + 2
        stop = stop if stop > 1 else text.find("\n", start + _PIECE) + 1
        if not stop:
            break
        yield start, text[start:stop]
        start = stop
    yield start, text[start:]


def _find(text: str, offset: int) -> Phrases:
    points = np.frombuffer(f"{text}\n".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    flags, codes = _tables()
    flag = flags[points]
    sums = _Sums(points, flag, codes)
    stops = np.flatnonzero(points == 10)
    starts = np.concatenate(([0], stops[:-1] + 1))
    content = _content_lines(text, points, flag, starts, stops)
    found = [_paragraphs(starts, stops, content), (starts[~content], stops[~content])]
    found.append(_sentences(points, flag, starts, stops, content))
    kinds = np.repeat(np.arange(3, dtype=np.int8), [len(stretches[0]) for stretches in found])
    starts, stops = (np.concatenate(column) for column in zip(*found, strict=True))
    width = sums.width[stops] - sums.width[starts]
    good = (width >= _MIN_COLUMNS[kinds]) & (sums.letters[stops] > sums.letters[starts])
    short = (width < LONG) | (kinds == PARAGRAPH)
    for i in np.flatnonzero(good & short & (sums.numbers[stops] - sums.numbers[starts] > 1)).tolist():
        good[i] = _DATE.search(text, starts[i], stops[i]) is None
    order = np.flatnonzero(good)
    order = order[np.argsort(starts[order], kind="stable")]
    starts, stops = starts[order], stops[order]
    keys = sums.keys(starts, stops) & ~np.uint64(1) | (width[order] >= LONG).astype(np.uint64)
    return Phrases(starts + offset, stops + offset, kinds[order], keys)


class _Sums:
    """Running sums over the characters of a text, from which keys, widths and counts of any stretch are differences."""

    def __init__(self, points: np.ndarray, flag: np.ndarray, codes: np.ndarray):
        digit = (flag & _DIGIT) != 0
        kept = (flag & _SPACE) == 0
        kept[1:] &= ~(digit[1:] & digit[:-1])  # a number is its first digit
        self.rank = _running(kept)
        forward, self._back = powers(len(points) + 1)
        self.hash = _running(codes[points] * kept * forward[self.rank[:-1]], np.uint64)
        self.width = self.rank + _running(flag & _WIDE != 0)
        self.letters = _running(flag & _LETTER != 0)
        self.numbers = _running(digit & kept)

    def keys(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """The hash of text[start:stop] without its place: a polynomial (see mindllm.hashing), mixed."""
        return mix_array((self.hash[stops] - self.hash[starts]) * self._back[self.rank[starts]])


def _running(values: np.ndarray, dtype: type = np.int64) -> np.ndarray:
    """Sums of the first 0, 1, ... values."""
    sums: np.ndarray = np.zeros(len(values) + 1, dtype=dtype)
    np.cumsum(values, out=sums[1:])
    return sums


def _content_lines(
    text: str, points: np.ndarray, flag: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> np.ndarray:
    """Whether each line is of a kind that honest pages share: indented like code, code, a row of a table."""
    marks = (flag & _CODE) != 0
    for pair in ("()", "::", "->"):
        marks[:-1] |= (points[:-1] == ord(pair[0])) & (points[1:] == ord(pair[1]))
    num_marks = _running(marks)
    content = num_marks[stops] > num_marks[starts]
    content |= (stops > starts) & (points[stops - 1] == ord(";"))
    for i in np.flatnonzero(~content & (stops - starts >= MIN_LINE // 2)).tolist():
        content[i] = text.startswith(_CODE_STARTS, starts[i])
    return content


def _paragraphs(starts: np.ndarray, stops: np.ndarray, content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where blocks of 2 to MAX_PARAGRAPH lines between blank ones begin and end; none with a line that is content."""
    filled = np.concatenate(([False], stops > starts, [False]))
    first, last = np.flatnonzero(filled[1:] & ~filled[:-1]), np.flatnonzero(~filled[1:] & filled[:-1])
    sums = _running(content)
    good = (last - first > 1) & (last - first <= MAX_PARAGRAPH) & (sums[last] == sums[first])
    return starts[first[good]], stops[last[good] - 1]


def _sentences(
    points: np.ndarray, flag: np.ndarray, starts: np.ndarray, stops: np.ndarray, content: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the sentences of lines with several begin and end.

    A run of marks and closing signs ends a sentence if it holds a CJK mark, or a Latin one with a blank or a CJK
    character after it; blanks after it belong to it. So does a gap of two blanks, or a full-width one.
    """
    blank = ((flag & _SPACE) != 0) & (points != 10)
    filled = np.flatnonzero(~blank)  # never empty, and its last is the newline at the very end
    first, last = _stretches((flag & (_MARK | _LATIN_MARK | _CLOSING)) != 0)
    marks, latin = _running(flag & _MARK != 0), _running(flag & _LATIN_MARK != 0)
    after = filled[np.searchsorted(filled, last)]
    parted = (after > last) | ((flag[after] & _WIDE) != 0)
    ends = after[(marks[last] > marks[first]) | (latin[last] > latin[first]) & parted]
    gap_first, gap_last = _stretches(blank)
    gaps = gap_last[(gap_last - gap_first > 1) | (points[gap_first] == 0x3000)]
    inner = np.union1d(ends, gaps)
    line = np.searchsorted(stops, inner)  # an end at a line's end is the line's
    inner = inner[(inner > starts[line]) & (inner < stops[line]) & ~content[line]]
    line = np.unique(np.searchsorted(stops, inner))  # lines with two sentences or more
    begins = np.sort(np.concatenate((starts[line], inner)))
    return begins, np.sort(np.concatenate((inner, stops[line])))


def _stretches(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of True begin and end; the last value has to be False."""
    change = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    if mask[0]:
        change = np.concatenate(([0], change))
    return change[::2], change[1::2]


@functools.lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """By code point: its flags (uint8) and its code in keys (uint64; all digits have that of 0). 10 MB, 0.2 s."""
    points = np.arange(0x110000, dtype=np.uint64)
    everything = points.astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass")
    flags = np.zeros(len(points), dtype=np.uint8)
    kinds = {r"\s": _SPACE, "[0-9\uff10-\uff19]": _DIGIT, r"[^\W\d_]": _LETTER, f"[{CJK}]": _WIDE, "[。！？；…]": _MARK}
    for pattern, flag in {**kinds, "[.!?]": _LATIN_MARK, r"[”’」』）)\]】\"']": _CLOSING, r"[{}=\\\t]": _CODE}.items():
        for match in re.finditer(f"{pattern}+", everything):
            flags[match.start() : match.end()] |= flag
    codes = mix_array(points + np.uint64(ODD))
    codes[(flags & _DIGIT) != 0] = codes[ord("0")]
    return flags, codes


def columns(text: str) -> int:
    """Width in columns: a CJK character takes two, so that both languages are measured alike."""
    return len(text) + len(_CJK.findall(text))
