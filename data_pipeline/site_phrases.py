"""Cuts the phrases that a web site repeats: frequent ones everywhere, on small sites the frame around the text.

What is frequent is read from the file of data_pipeline.sites. Cost: the keys of a text's phrases (phrases.py) and a
look into a set for each; memory: about 100 bytes per frequent phrase of all sites.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.phrases import LINE, SENTENCE, Phrases, find_phrases

LONG_SHARE = 0.1  # of min_share: what a phrase of phrases.LONG columns needs
SMALL_SHARE = 0.5  # of the documents of a small site, at least two of them
MAX_FRAME = 0.25  # share of a text up to which what it has in common with a small site is taken for a frame
_BLANK_LINES = re.compile(r"\n{3,}")
_HEADING = "#*= \u3000"  # marks around a title


class Phrase(NamedTuple):
    """One entry of phrases.Phrases."""

    start: int
    stop: int
    kind: int
    key: int


class SitePhrases(NamedTuple):
    """The keys of one site's phrases: on many documents (`frequent`), or on half of the few there are (`small`)."""

    num_documents: int = 0
    frequent: frozenset[int] = frozenset()
    small: frozenset[int] = frozenset()


def read_sites(path: Path, min_documents: int, min_share: float, small_sites: bool) -> dict[str, SitePhrases]:
    """The frequent phrases of every site that has some (see Repetition); `path` is a file of data_pipeline.sites.

    memory: 24 bytes a row of the file while it is read, about 100 per phrase that passes.
    """
    table = pq.read_table(path)
    keys, num, of = (table[name].to_numpy() for name in ("phrase_key", "num_documents", "site_documents"))
    share = np.where(keys & np.uint64(1), LONG_SHARE * min_share, min_share)  # phrases.LONG
    frequent = (num >= min_documents) & (num >= share * of - 1e-9)
    small = small_sites & (num < min_documents) & (num >= SMALL_SHARE * of)
    rows = table.append_column("frequent", pa.array(frequent)).filter(pa.array(frequent | small)).to_pylist()
    documents = {row["site"]: row["site_documents"] for row in rows}
    found: dict[tuple[str, bool], list[int]] = {}
    for row in rows:
        found.setdefault((row["site"], row["frequent"]), []).append(row["phrase_key"])
    return {
        site: SitePhrases(n, frozenset(found.get((site, True), ())), frozenset(found.get((site, False), ())))
        for site, n in documents.items()
    }


def cut_site(text: str, site: SitePhrases, title: str = "") -> str:
    """The text without the site's phrases; a line that the title begins with stays. Linear in the text."""
    found = find_phrases(text)
    cuts: list[tuple[int, int]] = []
    for phrase in _chosen(found, [i for i, key in enumerate(found.keys.tolist()) if key in site.frequent]):
        nested = cuts and phrase.start < cuts[-1][1]
        if not nested and not _is_title(text, phrase, title):
            cuts.append((phrase.start, phrase.stop))
    frame = _frame(text, found, site, title) if site.small else []
    if 0 < sum(stop - start for start, stop in frame) <= MAX_FRAME * len(text):
        cuts = _merged(cuts + frame)
    return _without_blanks(text, cuts) if cuts else text


def _chosen(found: Phrases, indices: list[int]) -> list[Phrase]:
    """Those phrases one by one: only those that matter, for going through arrays is slow."""
    return [Phrase(*values) for values in zip(*(column[indices].tolist() for column in found), strict=True)]


def _is_title(text: str, phrase: Phrase, title: str) -> bool:
    """Whether a line, or one of a paragraph's, begins the title."""
    if not title or phrase.kind == SENTENCE:
        return False
    lines = (line.strip(_HEADING) for line in text[phrase.start : phrase.stop].split("\n"))
    return any(line and title.startswith(line) for line in lines)


def _frame(text: str, found: Phrases, site: SitePhrases, title: str) -> list[tuple[int, int]]:
    """The lines of a small site from both ends of the text up to the first that is the page's own."""
    lines = _chosen(found, np.flatnonzero(found.kinds == LINE).tolist())
    cuts = []
    for ordered in (lines, lines[::-1]):
        for line in ordered:
            if _is_title(text, line, title):
                continue
            if line.key not in site.small and line.key not in site.frequent:
                break
            cuts.append((line.start, line.stop))
    return _merged(cuts)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of spans, of which two are disjoint or one holds the other."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not merged or start >= merged[-1][1]:
            merged.append((start, stop))
    return merged


def _without_blanks(text: str, cuts: list[tuple[int, int]]) -> str:
    """`text` without the spans, and without the lines and the blanks at line ends that they leave behind."""
    pieces: list[str] = []
    at = 0
    for start, stop in cuts:
        pieces.append(text[at:start])
        begins, ends = start == 0 or text[start - 1] == "\n", stop == len(text) or text[stop] == "\n"
        if ends and not begins:
            pieces[-1] = pieces[-1].rstrip(" \t\u3000")
        at = stop + 1 if begins and ends else stop
    return _BLANK_LINES.sub("\n\n", "".join(pieces) + text[at:]).strip("\n")
