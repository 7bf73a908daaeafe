"""The low-information filter: lines that a site repeats on many pages, and phrases repeated in a row, are removed.

Phrases are found without regular expressions, which would be quadratic: for each period p from 2 to 60 the text is
compared with itself shifted by p, in numpy, and long runs of equality are repeats. Cost: 59 comparisons a character
(15 to 30 million characters a second on long texts), about 1 ms for a short document; memory 20 bytes a character.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from data_pipeline.document import Document, Drop
from mindllm.config import UserError
from mindllm.text import CJK

MAX_PERIOD = 60  # characters of a phrase; longer repeats are found as whole lines
# Columns (a CJK character takes two): shorter repeats stay, since people write "no, no, no", "哈哈哈", "快点快点快点".
MIN_COLUMNS = 20
# Columns, characters of a line that is counted on its site: "相关主题" and "Related topics" are, "}" is not.
MIN_LINE, MAX_LINE = 8, 300
_SLACK = 2  # characters: the last repeat may lack its separator ("x, x, x")
_CODE_MARKS = re.compile(r"[(){}=;|\\\t]")  # a phrase with one is code, a formula or a row of table cells
_BLANK_LINES = re.compile(r"\n{3,}")
_CODE_INDENTS = ("    ", "\t")
_DIGITS = re.compile("[0-9\uff10-\uff19]+")
_CJK = re.compile(f"[{CJK}]")


@dataclass(frozen=True)
class Repetition:
    """Cuts repeats out of the text, or drops repetition:low_information; meta["removed_chars"] says how much went.

    (a) A line goes when it stands on at least min_site_documents documents of its site and on min_site_share of them,
    unless the document's title begins with it (`site_phrases`: the file of data_pipeline.sites, set by the refine verb;
    empty: this rule does not run).
    (b) A line, or a phrase of 2 to 60 characters, that comes min_repeats or more times in a row is cut to one. It must
    hold a letter, and the whole MIN_COLUMNS columns: rules (----, ......), numbers and short laughter stay. Phrases
    that look like code or table cells stay, too. Lines indented like code (four spaces, a tab) are out of both rules.
    min_left: share of the characters that must be left, or the document goes.
    """

    min_repeats: int = 3
    min_site_documents: int = 4
    min_site_share: float = 0.3
    min_left: float = 0.5
    site_phrases: str = ""

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.min_repeats < 2:
            yield f"min_repeats: {self.min_repeats} would cut text that is not repeated; use 2 or more"
        if self.min_site_documents < 2:
            yield "min_site_documents: must be 2 or more"
        if not 0 < self.min_site_share <= 1:
            yield f"min_site_share: {self.min_site_share} is not in (0, 1]"
        if not 0 <= self.min_left <= 1:
            yield f"min_left: {self.min_left} is not in [0, 1]"

    def __call__(self, document: Document) -> Document | Drop:
        """The document with its repeats cut, or why it goes (its text then stays as it was)."""
        title, frequent = document.meta.get("title", ""), self._frequent.get(document.site, frozenset())
        text = cut_lines(document.text, self.min_repeats, frequent, title)
        text = _BLANK_LINES.sub("\n\n", cut_phrases(text, self.min_repeats)).strip("\n")
        removed = len(document.text) - len(text)
        if len(text) < self.min_left * len(document.text):
            return Drop("repetition:low_information")
        document.text = text
        document.meta["removed_chars"] = removed
        return document

    @functools.cached_property
    def _frequent(self) -> dict[str, frozenset[int]]:
        if not self.site_phrases:
            return {}
        path = Path(self.site_phrases)
        if not path.exists():
            raise UserError(f"repetition.site_phrases: {path} does not exist")
        return frequent_lines(path, self.min_site_documents, self.min_site_share)


def line_hash(line: str) -> int | None:
    """xxh3-64 of the line's normal form (spaces collapsed, each number one 0), or None for a line that is not counted.

    Not counted: below MIN_LINE columns, above MAX_LINE characters, or indented like code (four spaces or a tab).
    """
    text = _DIGITS.sub("0", " ".join(line.split()))
    if len(text) > MAX_LINE or line.startswith(_CODE_INDENTS):
        return None
    if len(text) < MIN_LINE and _columns(text) < MIN_LINE:
        return None
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def frequent_lines(path: Path, min_documents: int, min_share: float) -> dict[str, frozenset[int]]:
    """Hashes of the lines that stand on at least `min_documents` documents and `min_share` of their site, by site.

    memory: about 100 bytes per line that passes.
    """
    table = pq.read_table(path, filters=[("num_documents", ">=", min_documents)])
    documents = table["num_documents"].to_numpy()
    table = table.filter(pa.array(documents >= min_share * table["site_documents"].to_numpy() - 1e-9))
    found: dict[str, list[int]] = {}
    for site, line in zip(table["site"].to_pylist(), table["line_hash"].to_pylist(), strict=True):
        found.setdefault(site, []).append(line)
    return {site: frozenset(lines) for site, lines in found.items()}


def cut_lines(text: str, min_repeats: int, frequent: frozenset[int] = frozenset(), title: str = "") -> str:
    """The text without the lines whose `line_hash` is in `frequent`, and with equal lines in a row cut to one.

    A line that the title begins with stays. Blank lines between equal lines do not part them. Linear in the text.
    """
    lines = text.split("\n")
    kept = [not frequent or line_hash(line) not in frequent or title.startswith(line.strip()) for line in lines]
    filled = [i for i, line in enumerate(lines) if kept[i] and line.strip()]
    start = 0
    for end in range(1, len(filled) + 1):
        line = lines[filled[start]]
        if end < len(filled) and lines[filled[end]] == line:
            continue
        wide = end - start >= min_repeats and (end - start) * _columns(line) >= MIN_COLUMNS
        if wide and _has_letter(line) and not line.startswith(_CODE_INDENTS):
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
    for period in range(2, min(MAX_PERIOD, len(points) // 2) + 1):
        for start, stop in _runs(points, period, _min_equal(min_repeats, period)):
            repeats = _count_repeats(text, start, stop, period)
            if repeats < min_repeats or done[start:stop].any():
                continue
            if _may_cut(text, start, stop, period):
                done[start:stop] = True
                cuts.append((start, start + (repeats - 1) * period))
    return cuts


def _min_equal(min_repeats: int, period: int) -> int:
    """How many characters must at least equal the one a period later, for a repeat that may be cut."""
    return max((min_repeats - 1) * period - _SLACK, MIN_COLUMNS // 2 - period, 1)


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
    if not _has_letter(phrase) or _CODE_MARKS.search(phrase) or _columns(text[start:stop]) < MIN_COLUMNS:
        return False
    return not text.startswith(_CODE_INDENTS, text.rfind("\n", 0, start) + 1)


def _has_letter(text: str) -> bool:
    return any(c.isalpha() for c in text)


def _columns(text: str) -> int:
    """Width in columns: a CJK character takes two, so that both languages are measured alike."""
    return len(text) + len(_CJK.findall(text))


def _without(text: str, cuts: list[tuple[int, int]]) -> str:
    """`text` without the given disjoint spans."""
    pieces: list[str] = []
    at = 0
    for start, stop in sorted(cuts):
        pieces.append(text[at:start])
        at = stop
    return "".join(pieces) + text[at:]
