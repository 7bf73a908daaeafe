"""Repeated paragraphs across documents (dedup.paragraphs): each stays in one document and is cut from the others.

A paragraph is a line of at least min_paragraph_units units. One that stands in min_paragraph_documents documents or
more (of the whole run, any site, duplicates gone) stays in the first: any fixed rule will do, and this one needs no
second look at the texts. Same paragraph = same units: spaces, case and punctuation do not count (128-bit hashes, so
none are mixed up by chance); Simplified and Traditional Chinese are two. Repeats within a document are refine's.
Cost: collect 90 MB/s of Chinese, 55 of English text a core; find_repeats 1 to 6 million paragraphs a second; 24 bytes
of disk a paragraph, which is 2 to 8 % of the text.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipeline.config import DedupConfig
from data_pipeline.document import Document
from data_pipeline.duplicates.arrays import open_array, save
from data_pipeline.duplicates.minhash import exact_hashes
from data_pipeline.parquet import read_documents
from data_pipeline.phrases import CODE_INDENTS
from mindllm.text import unit_hashes, unit_hashes_many

TOO_LITTLE = "dedup:paragraphs"  # the reason of a document of which too little would be left
ENTRY = np.dtype([("hash", "<u8", 2), ("row", "<u4"), ("place", "<u4")])  # place: number of the line in the document
CUT = np.dtype([("ordinal", "<i8"), ("place", "<u4"), ("num_documents", "<u4")])
PARAGRAPHS = pa.schema([("id", pa.string()), ("text", pa.string()), ("num_documents", pa.int64())])
CHARACTERS_PER_BATCH = 100_000
FENCE = "```"

# What data_pipeline.phrases takes for code, and end tags. Here long lines only are looked at, one by one.
_CODE_MARKS = ("{", "}", "=", "\\", "\t", "()", "::", "->", "</")
_STARTS = ("$ ", "> ", "//", "| ", "import ", "def ", "return ", FENCE)
_SENTENCE_ENDS = tuple("。！？…」』”.!?")  # a line with an indent and one of these is text, as novels are printed
_HEADINGS = tuple("#" * n + " " for n in range(1, 7))
_NUMBER = "[0-9]{1,3}|[a-zA-Z]|[一二三四五六七八九十]{1,3}"
_ITEM = re.compile(rf"[ \u3000]*(?:[-*+•·●○■◆▪‣–—①-⑳]|[(（]?(?:{_NUMBER})[.)、．）])[ \u3000]*\S")
_COLONS = (":", "：")


def collect(path: Path, kept: np.ndarray, out: Path, settings: DedupConfig) -> Path:
    """Write ENTRY (n,) to `out`: the paragraphs of one shard's kept documents (bool, a row each), sorted by hash.

    memory: 24 bytes a paragraph, 60 while sorting, and one row group.
    """
    if out.exists():
        return out
    texts = ((row, d.text) for row, d in enumerate(read_documents(path, ("text",))) if kept[row])
    found = [np.zeros(0, dtype=ENTRY), *(_hash(*batch, settings) for batch in _batches(texts, settings))]
    entries = np.concatenate(found)
    del found
    save(out, entries[np.lexsort((entries["hash"][:, 1], entries["hash"][:, 0]))])  # stable: rows and places rise
    return out


def find_places(text: str, min_units: int) -> Iterator[tuple[int, str]]:
    """(place, line) of the lines of a text that may be cut, if they have the units (whose number is not looked at).

    Never cut: short lines; headings; code (between fences, indented and not a sentence, with a mark of code); formulas
    ($x$ too) and rows of tables.
    """
    lines = text.split("\n")
    marks = [mark for mark in _CODE_MARKS if mark in text]
    fenced = _fenced(lines) if FENCE in text else frozenset()
    for place, line in enumerate(lines):
        if len(line) < min_units or line.isascii() and len(line) < 2 * min_units - 1:
            continue
        body = line
        if line.startswith(CODE_INDENTS):
            body = line.lstrip(" \t")
            if not body.endswith(_SENTENCE_ENDS):
                continue
        if body.startswith(_STARTS) or body.startswith(_HEADINGS) or body.endswith(";") or place in fenced:
            continue
        if not (marks and any([mark in body for mark in marks]) or body.count("$") > 1):
            yield place, line


def _fenced(lines: Sequence[str]) -> frozenset[int]:
    """The places between ``` and ```, or the end."""
    fenced, inside = set(), False
    for place, line in enumerate(lines):
        if line.lstrip().startswith(FENCE):
            inside = not inside
        elif inside:
            fenced.add(place)
    return frozenset(fenced)


Batch = tuple[list[str], list[int], list[int]]  # lines, the rows and the places where they stand


def _batches(texts: Iterable[tuple[int, str]], settings: DedupConfig) -> Iterator[Batch]:
    lines: list[str] = []
    rows: list[int] = []
    places: list[int] = []
    size = 0
    for row, text in texts:
        for place, line in find_places(text, settings.min_paragraph_units):
            lines.append(line)
            rows.append(row)
            places.append(place)
            size += len(line)
        if size >= CHARACTERS_PER_BATCH:
            yield lines, rows, places
            lines, rows, places, size = [], [], [], 0
    if lines:
        yield lines, rows, places


def _hash(lines: Sequence[str], rows: Sequence[int], places: Sequence[int], settings: DedupConfig) -> np.ndarray:
    """ENTRY of those lines that have the units, in order: XXH3-128 of their unit hashes, as minhash.py."""
    hashes, offsets = unit_hashes_many(lines)
    long = np.flatnonzero(np.diff(offsets) >= settings.min_paragraph_units)
    entries = np.zeros(len(long), dtype=ENTRY)
    entries["hash"] = exact_hashes(hashes, offsets[long], offsets[long + 1])
    entries["row"], entries["place"] = np.array(rows)[long], np.array(places)[long]
    return entries


def num_ranges(collected: Sequence[Path], rows_per_task: int) -> int:
    """Into how many ranges of hashes find_repeats has to be cut, for a task to see about `rows_per_task` paragraphs."""
    total = sum(len(open_array(path)) for path in collected)
    return max(1, -(-total // rows_per_task))


def find_repeats(
    number: int, num_ranges: int, collected: Sequence[tuple[Path, int]], out: Path, settings: DedupConfig
) -> Path:
    """Write CUT (n,) into the folder `out`: what goes, of all paragraphs in one of `num_ranges` equal ranges of hashes.

    `collected`: the file of every shard, in order, and the ordinal of its first document. All places of a paragraph in
    the documents after the first go; sorted by ordinal and place.
    memory: 20 bytes a paragraph of the range, and 110 for each that is repeated (all that are equal are in one range,
    however many there are).
    """
    path = out / f"{number:05d}-of-{num_ranges:05d}.npy"
    if path.exists():
        return path
    high = [np.array(_slice(file, number, num_ranges)["hash"][:, 0]) for file, _ in collected]
    repeated = _repeated(np.concatenate([np.zeros(0, dtype="<u8"), *high]), settings.min_paragraph_documents)
    del high
    found, ordinals = [np.zeros(0, dtype=ENTRY)], [np.zeros(0, dtype=np.int64)]
    for file, first in collected:
        piece = _slice(file, number, num_ranges)
        found.append(piece[_among(piece["hash"][:, 0], repeated)])  # a copy: the system limits open files
        ordinals.append(found[-1]["row"].astype(np.int64) + first)
    cuts = _choose(np.concatenate(found), np.concatenate(ordinals), settings.min_paragraph_documents)
    save(path, cuts[np.lexsort((cuts["place"], cuts["ordinal"]))])
    return path


def _slice(path: Path, number: int, num_ranges: int) -> np.ndarray:
    """The entries of one range of hashes, still on disk: the first half of the hash tells the range."""
    entries = open_array(path)
    high = entries["hash"][:, 0]
    start, stop = (bisect.bisect_left(high, -(-(n << 64) // num_ranges), key=int) for n in (number, number + 1))
    return entries[start:stop]


def _repeated(high: np.ndarray, least: int) -> np.ndarray:
    """Sorted, distinct: the values that are there `least` times or more. Sorts its argument."""
    high.sort()
    return np.unique(high[least - 1 :][high[least - 1 :] == high[: max(len(high) - least + 1, 0)]])


def _among(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Whether each value is one of `chosen`, which is sorted."""
    if not len(chosen):
        return np.zeros(len(values), dtype=bool)
    places = np.minimum(np.searchsorted(chosen, values), len(chosen) - 1)
    return chosen[places] == values


def _choose(entries: np.ndarray, ordinals: np.ndarray, least: int) -> np.ndarray:
    """CUT of the entries of all documents but the first, of hashes in `least` documents or more; in hash order."""
    order = np.lexsort((entries["place"], ordinals, entries["hash"][:, 1], entries["hash"][:, 0]))
    entries, ordinals = entries[order], ordinals[order]
    new = np.ones(len(entries), dtype=bool)
    new[1:] = np.any(entries["hash"][1:] != entries["hash"][:-1], axis=1)
    begins = np.flatnonzero(new)
    of = np.cumsum(new) - 1  # the number of each entry's paragraph
    another = new.copy()  # whether the entry is the first of its document
    another[1:] |= ordinals[1:] != ordinals[:-1]
    num_documents = np.bincount(of[another], minlength=len(begins))[of]
    going = (num_documents >= least) & (ordinals != ordinals[begins][of])
    cuts = np.zeros(np.count_nonzero(going), dtype=CUT)
    cuts["ordinal"], cuts["place"], cuts["num_documents"] = (
        values[going] for values in (ordinals, entries["place"], num_documents)
    )
    return cuts


Cuts = dict[int, int]  # place -> number of documents that have the paragraph


def load_cuts(found: Sequence[Path], first: int, count: int) -> dict[int, Cuts]:
    """For one shard, row -> what is to be cut, from the files of find_repeats. memory: 200 bytes a cut of the shard."""
    parts = [np.zeros(0, dtype=CUT)]
    for path in found:
        cuts = open_array(path)
        start, stop = (bisect.bisect_left(cuts["ordinal"], ordinal) for ordinal in (first, first + count))
        parts.append(np.array(cuts[start:stop]))  # a copy, as above
    rows: dict[int, Cuts] = {}
    for ordinal, place, num_documents in np.concatenate(parts).tolist():
        rows.setdefault(ordinal - first, {})[place] = num_documents
    return rows


def cut(text: str, places: Iterable[int]) -> tuple[str, list[int]]:
    """The text without the lines at `places`, and the places that went: what others need in order to be read stays.

    An item of a list goes only with all others that stand next to it, a line that ends with a colon only with what
    follows it. Two empty lines that a cut brings together become one. A heading whose section has gone stays.
    """
    lines = text.split("\n")
    going = _without_needed(lines, frozenset(places))
    left: list[str] = []
    after_cut = False
    for place, line in enumerate(lines):
        if place in going:
            after_cut = True
        elif line.strip() or not after_cut or left and left[-1].strip():
            left.append(line)
            after_cut = after_cut and not line.strip()
    while after_cut and left and not left[-1].strip():
        left.pop()
    return "\n".join(left), sorted(going)


def _without_needed(lines: Sequence[str], places: frozenset[int]) -> frozenset[int]:
    """`places` without lists that do not go as a whole, and without what introduces a line that stays."""
    going = set(places)
    for members in _lists(lines):
        if not going.issuperset(members):
            going.difference_update(members)
    stays = True
    for place in range(len(lines) - 1, -1, -1):
        if lines[place].strip():
            if stays and lines[place].endswith(_COLONS):
                going.discard(place)
            stays = place not in going
    return frozenset(going)


def _lists(lines: Sequence[str]) -> Iterator[list[int]]:
    """The places of each list: its items, and lines between two of them where no empty line stands."""
    members: list[int] = []
    between: list[int] = []
    parted = False
    for place, line in enumerate(lines):
        if _ITEM.match(line):
            if between and parted:
                yield members
                members, between = [], []
            members += [*between, place]
            between, parted = [], False
        elif not line.strip():
            parted = True
        elif members:
            between.append(place)
    yield members


def cut_document(document: Document, cuts: Cuts, min_left_units: int) -> tuple[str, list[dict[str, object]]]:
    """Cut a document, in place: ("", rows of PARAGRAPHS), and their number in meta["removed_paragraphs"].

    Where fewer than min_left_units units would be left: (TOO_LITTLE, []), and the document is as it was. So of the
    paragraphs that it was to keep for others, less than min_left_units units are lost.
    """
    lines = document.text.split("\n")
    text, gone = cut(document.text, cuts)
    if gone and len(unit_hashes(text)) < min_left_units:
        return TOO_LITTLE, []
    document.text = text
    document.meta["removed_paragraphs"] = len(gone)
    return "", [{"id": document.id, "text": lines[p], "num_documents": cuts[p]} for p in gone]
