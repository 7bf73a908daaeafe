"""The low-information filter: what a site repeats on many pages, and phrases repeated in a row, are removed.

Phrases in a row are found without regular expressions, which would be quadratic: for each period p from 2 to 60 the
text is compared with itself shifted by p, in numpy, four characters at a time and only at every L-th place, where L is
the shortest run of equality that matters; a period with a hit is looked at in full. Cost: 30 to 60 million characters a
second, 0.1 ms for a short document; site phrases cost one hash each (data_pipeline.phrases). Memory: 30 bytes a
character.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.document import Document, Drop, Measure
from data_pipeline.phrases import CODE_INDENTS, columns
from data_pipeline.site_phrases import SitePhrases, cut_site, read_sites
from mindllm.config import UserError
from mindllm.text import units

MAX_PERIOD = 60  # characters of a phrase; longer repeats are found as whole lines
# Columns (a CJK character takes two): shorter repeats stay, since people write "no, no, no", "哈哈哈", "快点快点快点".
MIN_COLUMNS = 20
_LONG_TEXT = 1 << 13  # characters; below, calls cost more than comparisons
_SLACK = 2  # characters: the last repeat may lack its separator ("x, x, x")
_CODE_MARKS = re.compile(r"[(){}=;|\\\t]")  # a phrase with one is code, a formula or a row of table cells
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Repetition:
    """Cuts repeats out of the text, or drops the document; meta["removed_chars"] says how much went.

    (a) A paragraph, line or sentence (data_pipeline.phrases) goes when it stands on at least min_site_documents
    documents of its site and on min_site_share of them (a tenth of that where it is long), unless the title begins with
    it. small_sites: what stands on half of the pages of a site, but on too few for that rule, goes at the beginning and
    end of the text, up to a quarter of it. (site_phrases: the file of data_pipeline.sites, set by the refine verb. None
    of this runs where it is empty, or min_site_documents is 0.)
    (b) A line, or a phrase of 2 to 60 characters, that comes min_repeats or more times in a row is cut to one. It must
    hold a letter, and the whole MIN_COLUMNS columns: rules (----, ......), numbers and short laughter stay. Phrases
    that look like code or table cells stay, too. Lines indented like code (four spaces, a tab) are out of both rules.
    Drops, after a cut only: repetition:low_information if less than the share min_left of the characters is left,
    repetition:too_short if fewer than min_left_units units (Chinese characters, words) are.
    """

    min_repeats: int = 3
    min_site_documents: int = 4
    min_site_share: float = 0.3
    small_sites: bool = True
    min_left: float = 0.5
    min_left_units: int = 30
    site_phrases: str = ""

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.min_repeats < 2:
            yield f"min_repeats: {self.min_repeats} would cut text that is not repeated; use 2 or more"
        if self.min_site_documents != 0 and self.min_site_documents < 2:
            yield "min_site_documents: must be 2 or more, or 0 (sites are not looked at)"
        if not 0 < self.min_site_share <= 1:
            yield f"min_site_share: {self.min_site_share} is not in (0, 1]"
        if not 0 <= self.min_left <= 1:
            yield f"min_left: {self.min_left} is not in [0, 1]"
        if self.min_left_units < 0:
            yield "min_left_units: must be 0 or more"

    def __call__(self, document: Document) -> Document | Drop:
        """The document with its repeats cut, or why it goes (its text then stays as it was)."""
        text = self._cut_rows(self._cut_site(document))
        removed = len(document.text) - len(text)
        if len(text) < self.min_left * len(document.text):
            return Drop("repetition:low_information")
        if removed and not _has_units(text, self.min_left_units):
            return Drop("repetition:too_short")
        document.text = text
        document.meta["removed_chars"] = removed
        return document

    def measures(self, document: Document) -> Iterator[Measure]:
        """What goes by which rule, and what is left, against the limits."""
        site = self._sites.get(document.site, SitePhrases())
        before, without_site = document.text, self._cut_site(document)
        text = self._cut_rows(without_site)
        yield Measure(f"documents of {document.site or 'no site'} with phrases in common", site.num_documents)
        yield Measure("phrases frequent there", len(site.frequent), f"on {self.min_site_documents} or more")
        yield Measure("characters cut as the site's", len(before) - len(without_site))
        yield Measure(
            "characters cut as repeats in a row", len(without_site) - len(text), f"{self.min_repeats} or more"
        )
        share = len(text) / len(before) if before else 1.0
        yield Measure("share left", round(share, 3), f"at least {self.min_left}", share >= self.min_left)
        left = len(units(text))
        short = len(text) < len(before) and left < self.min_left_units
        yield Measure("units left", left, f"at least {self.min_left_units} after a cut", not short)

    def _cut_site(self, document: Document) -> str:
        site = self._sites.get(document.site)
        return cut_site(document.text, site, str(document.meta.get("title") or "")) if site else document.text

    def _cut_rows(self, text: str) -> str:
        text = cut_phrases(cut_lines(text, self.min_repeats), self.min_repeats)
        return _BLANK_LINES.sub("\n\n", text).strip("\n")

    @functools.cached_property
    def _sites(self) -> dict[str, SitePhrases]:
        if not self.site_phrases or not self.min_site_documents:
            return {}
        path = Path(self.site_phrases)
        if not path.exists():
            raise UserError(f"repetition.site_phrases: {path} does not exist")
        return read_sites(path, self.min_site_documents, self.min_site_share, self.small_sites)


def cut_lines(text: str, min_repeats: int) -> str:
    """The text with equal lines in a row cut to one. Blank lines between them do not part them. Linear in the text."""
    lines = text.split("\n")
    kept = [True] * len(lines)
    filled = [i for i, line in enumerate(lines) if line.strip()]
    start = 0
    for end in range(1, len(filled) + 1):
        line = lines[filled[start]]
        if end < len(filled) and lines[filled[end]] == line:
            continue
        wide = end - start >= min_repeats and (end - start) * columns(line) >= MIN_COLUMNS
        if wide and _has_letter(line) and not line.startswith(CODE_INDENTS):
            kept[filled[start] + 1 : filled[end - 1] + 1] = [False] * (filled[end - 1] - filled[start])
        start = end
    return text if all(kept) else "\n".join(line for line, keep in zip(lines, kept, strict=True) if keep)


def cut_phrases(text: str, min_repeats: int) -> str:
    """The text with every phrase of 2 to MAX_PERIOD characters that repeats in a row cut to one occurrence.

    The shortest period of a stretch counts; what follows the last whole repeat stays. A second and a third look find
    repeats of what the first has shortened. Linear in the text.
    """
    for _ in range(3):
        cuts = _find_repeats(text, min_repeats)
        if not cuts:
            break
        text = _without(text, cuts)
    return text


def _find_repeats(text: str, min_repeats: int) -> list[tuple[int, int]]:
    """Spans to remove, disjoint."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    cuts: list[tuple[int, int]] = []
    done = np.zeros(len(points), dtype=bool)  # inside a stretch that a shorter period explains
    for period in _periods(points, min_repeats):
        for start, stop in _runs(points, period, _min_equal(min_repeats, period)):
            repeats = _count_repeats(text, start, stop, period)
            if repeats < min_repeats or done[start:stop].any():
                continue
            if _may_cut(text, start, stop, period):
                done[start:stop] = True
                cuts.append((start, start + (repeats - 1) * period))
    return cuts


def _periods(points: np.ndarray, min_repeats: int) -> list[int]:
    """The periods, rising, for which there may be a repeat that is long enough; all others have none.

    A run of n equal characters holds a place that is a multiple of n - 3 and the three after it, so it is enough to
    compare four characters at a time at these places: two for each character of the text, over all periods.
    """
    if len(points) < 4:
        return []
    pairs = points[:-1].astype(np.uint64) << np.uint64(32) | points[1:]
    fours = pairs[:-2] * np.uint64(0x9E3779B97F4A7C15) + pairs[2:]  # equal where the characters are; rarely elsewhere
    if len(fours) > _LONG_TEXT:
        steps = ((p, _min_equal(min_repeats, p) - 3) for p in range(2, MAX_PERIOD + 1))
        return [p for p, step in steps if (fours[p::step] == fours[:-p:step]).any()]
    later, places, periods = _probes(min_repeats)
    size = int(np.searchsorted(later, len(fours)))
    return sorted(set(periods[:size][fours[places[:size]] == fours[later[:size]]].tolist()))


@functools.cache
def _probes(min_repeats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For texts up to _LONG_TEXT: (place + period, place, period) of every comparison, by the first."""
    places, periods = [], []
    for period in range(2, MAX_PERIOD + 1):
        places.append(np.arange(0, _LONG_TEXT, _min_equal(min_repeats, period) - 3))
        periods.append(np.full(len(places[-1]), period))
    place, shift = np.concatenate(places), np.concatenate(periods)
    order = np.argsort(place + shift, kind="stable")
    return (place + shift)[order], place[order], shift[order]


def _min_equal(min_repeats: int, period: int) -> int:
    """How many characters must at least equal the one a period later, for a repeat that may be cut: 4 or more."""
    return max((min_repeats - 1) * period - _SLACK, MIN_COLUMNS // 2 - period)


def _runs(points: np.ndarray, period: int, min_equal: int) -> Iterator[tuple[int, int]]:
    """Stretches [start, stop) of the period in which at least `min_equal` characters equal the one a period later."""
    equal = points[:-period] == points[period:]
    size = 1
    while 2 * size <= min_equal:  # doubling: `equal` says that this and the next `size` - 1 characters are equal
        equal = equal[:-size] & equal[size:]
        size *= 2
    places = np.flatnonzero(equal)
    if not len(places):
        return
    breaks = np.flatnonzero(np.diff(places) != 1)
    starts = places[np.concatenate(([0], breaks + 1))]
    ends = places[np.concatenate((breaks, [len(places) - 1]))] + size
    long = ends - starts >= min_equal
    yield from zip(starts[long].tolist(), (ends[long] + period).tolist(), strict=True)


def _count_repeats(text: str, start: int, stop: int, period: int) -> int:
    """Occurrences in text[start:stop]; the last one may lack up to _SLACK characters that are no letters or digits."""
    repeats, rest = divmod(stop - start, period)
    missing = text[stop - period : stop - rest] if period - rest <= _SLACK else "x"
    return repeats + (rest > 0 and not any(c.isalnum() for c in missing))


def _may_cut(text: str, start: int, stop: int, period: int) -> bool:
    """Whether a repeat is of a kind that may go: wide enough, with a letter, not code, a rule, a number or a table."""
    phrase = text[start : start + period]
    if not _has_letter(phrase) or _CODE_MARKS.search(phrase) or columns(text[start:stop]) < MIN_COLUMNS:
        return False
    return not text.startswith(CODE_INDENTS, text.rfind("\n", 0, start) + 1)


def _has_units(text: str, least: int) -> bool:
    """Whether a text has so many units; mostly its beginning has them already."""
    return len(units(text[: 64 * least])) >= least or len(units(text)) >= least


def _has_letter(text: str) -> bool:
    return any(c.isalpha() for c in text)


def _without(text: str, cuts: list[tuple[int, int]]) -> str:
    """`text` without the given disjoint spans."""
    pieces: list[str] = []
    at = 0
    for start, stop in sorted(cuts):
        pieces.append(text[at:start])
        at = stop
    return "".join(pieces) + text[at:]
