"""Where a text may be cut without changing an id, inside runs of Han characters too: where no token can span.

Chinese has no blanks, but between most neighbours x, y no token holds the end of x and the beginning of y. Merging
never crosses such a place, since all that merging makes is a token, and what is merged on one side does not depend on
the other. The parts are some two characters long and come again and again: looked up (chunks.py), Chinese is encoded
several times as fast as by the tokenizers library. Cuts are found by table for a whole text at once, 20 ns a character.
memory: 7 MB of tables, and 40 bytes a character meanwhile; made in 0.3 s when the first long text comes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

MAX_PARTIAL = 64  # so many kinds of tokens that hold a part of a character only; with more, Han runs stay whole
_SHORT = 100  # characters of a text for which arrays do not pay
_NUM_POINTS = 0x32400  # all Han characters lie below
_OTHER, _SPACE, _HAN, _RARE = range(4)  # what a character is; _RARE: Han of four bytes, never cut from its neighbours


class HanCuts:
    """Cuts texts at `pattern` (which has to leave Han runs whole) and inside of Han runs, for tokens of these bytes.

    han, space: the characters of the two classes, as inside [] of a pattern.  tokens: asked for when they are needed.
    """

    def __init__(self, pattern: re.Pattern[str], han: str, space: str, tokens: Callable[[], Iterable[bytes]]):
        self._pattern, self._tokens = pattern, tokens
        self._kinds = np.zeros(_NUM_POINTS, dtype=np.uint8)
        self._kinds[_points_of(space)] = _SPACE
        points = _points_of(han)
        self._kinds[points] = np.where(points < 0x10000, _HAN, _RARE)

    def findall(self, text: str) -> list[str]:
        """The parts of a text, end to end. Raises UnicodeEncodeError for half a surrogate pair."""
        if len(text) < _SHORT or text.isascii() or self._spans is None:
            found: list[str] = self._pattern.findall(text)
            return found
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.intp)
        cuts = self._cuts(points, self._spans).tolist()
        return [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    @functools.cached_property
    def _spans(self) -> _Spans | None:
        """What tokens may join; None when too many of them hold parts of characters."""
        spans = {span for token in self._tokens() for span in _borders(token)}
        whole = {span for span in spans if _is_whole(span[0]) and _is_whole(span[1])}
        if len(spans) - len(whole) > MAX_PARTIAL:
            return None
        characters = {chr(point): chr(point).encode() for point in np.flatnonzero(self._kinds == _HAN).tolist()}
        return _Spans(sorted((a.decode(), b.decode()) for a, b in whole), sorted(spans - whole), characters)

    def _cuts(self, points: np.ndarray, spans: _Spans) -> np.ndarray:
        """Where parts begin, but the first."""
        kinds = self._kinds.take(points, mode="clip")
        before, after = kinds[:-1], kinds[1:]
        cut = (after == _SPACE) & (before != _SPACE)
        cut |= (before >= _HAN) != (after >= _HAN)
        inside = np.flatnonzero((before == _HAN) & (after == _HAN))
        cut[inside] = ~spans.join(points[inside], points[inside + 1])
        return np.flatnonzero(cut) + 1


class _Spans:
    """Which neighbours some token may span. Most tokens hold whole characters: a table of bits, by pair. A few hold the
    end of one or the beginning of another and so join many pairs: a bit for each kind, by character."""

    def __init__(self, pairs: list[tuple[str, str]], partial: list[tuple[bytes, bytes]], characters: dict[str, bytes]):
        self._left, self._right = np.zeros((2, _NUM_POINTS), dtype=np.uint32)  # 0: no token joins it to anything
        for side, table in enumerate((self._left, self._right)):
            found = sorted({ord(pair[side]) for pair in pairs})
            table[found] = np.arange(1, len(found) + 1)
        self._width = self._right.max() + np.uint32(1)
        joined = np.zeros(int(self._left.max() + 1) * int(self._width), dtype=bool)
        for a, b in pairs:
            joined[self._left[ord(a)] * self._width + self._right[ord(b)]] = True
        self._joined = np.packbits(joined, bitorder="little")
        self._ends, self._starts = np.zeros((2, _NUM_POINTS), dtype=np.uint64)
        for kind, (end, start) in enumerate(partial):
            bit = np.uint64(1 << kind)
            self._ends[[ord(c) for c, raw in characters.items() if raw.endswith(end)]] |= bit
            self._starts[[ord(c) for c, raw in characters.items() if raw.startswith(start)]] |= bit

    def join(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """bool (n,): whether some token may span the border of each two code points."""
        place = self._left[left] * self._width + self._right[right]
        whole = (self._joined[place >> np.uint32(3)] >> (place & np.uint32(7)).astype(np.uint8)) & np.uint8(1)
        joined: np.ndarray = (whole != 0) | ((self._ends[left] & self._starts[right]) != 0)
        return joined


def _points_of(ranges: str) -> np.ndarray:
    """The code points of a class written as inside [] of a pattern, without escapes."""
    found = [np.arange(ord(m[1]), ord(m[2] or m[1]) + 1) for m in re.finditer(r"(?s)(.)(?:-(.))?", ranges)]
    return np.concatenate(found)


def _borders(token: bytes) -> Iterator[tuple[bytes, bytes]]:
    """At each border of two characters inside a token that may be Han: how much of each of the two it holds."""
    for border in range(1, len(token)):
        if token[border] < 0xE0 or not _follows(token[border - 1]):
            continue
        start, stop = border - 1, border + 1
        while start > 0 and _follows(token[start]):
            start -= 1
        while stop < len(token) and _follows(token[stop]):
            stop += 1
        yield token[start:border], token[border:stop]


def _follows(byte: int) -> bool:
    return 0x80 <= byte < 0xC0


def _is_whole(part: bytes) -> bool:
    """Whether these are all three bytes of a character; those of four are never cut, those of two are not Han."""
    return len(part) == 3 and 0xE0 <= part[0] < 0xF0
