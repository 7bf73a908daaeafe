"""What share of documents the low-quality rule drops, by folder, language and threshold: the table in docs/quality.md.

    python bench/density.py FOLDER [FOLDER ...] [--documents 2000] [--text-field text]

Every folder (or file) may hold html, txt, jsonl, warc, parquet. For each of them and each language: the median density,
the share of documents below every threshold, and the share that is too short; once over the extracted text, and once
over the whole page where the html cleaner says how many characters that had (see data_pipeline/cleaners/density.py).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from common import read_documents

from data_pipeline.cleaners.density import Density, density
from data_pipeline.cleaners.html import Html
from data_pipeline.document import Document, Drop
from mindllm.text import LANGUAGES

THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
_SHARD_BYTES = 16_000_000


class Row(NamedTuple):
    """One document: language, density over its text and over its page, whether it is long enough."""

    lang: str
    over_text: float
    over_page: float | None  # None: it was no page, or the html cleaner does not count its characters
    is_long: bool


def rows(folder: str, num_documents: int, text_field: str) -> list[Row]:
    """The first documents of a folder that have any text. Raises UserError for a folder without files."""
    return [_row(document) for document in islice(_extracted(read_documents(folder, text_field)), num_documents)]


def _extracted(documents: Iterator[Document]) -> Iterator[Document]:
    html = Html()
    for document in documents:
        result = Drop(document.meta["broken"]) if "broken" in document.meta else html(document)
        if isinstance(result, Document):
            yield result


def _row(document: Document) -> Row:
    links, page = document.meta.get("link_chars", 0), document.meta.get("page_chars")
    over_page = None if page is None else density(document.text, links, page)
    is_long = isinstance(Density(min_density=0)(document), Document)
    return Row(document.lang, density(document.text, links), over_page, is_long)


def table(name: str, found: Sequence[Row]) -> Iterator[str]:
    """One line a language and definition: median density, percent below each threshold, percent too short."""
    for lang in LANGUAGES:
        chosen = [row for row in found if row.lang == lang]
        pages = [row.over_page for row in chosen if row.over_page is not None]
        for over, values in (("text", [row.over_text for row in chosen]), ("page", pages)):
            if values:
                below = " ".join(f"{percent(v < t for v in values):5.1f}" for t in THRESHOLDS)
                short = percent(not row.is_long for row in chosen)
                head = f"{name[:24]:24} {lang:8} {over:5} {len(values):9}"
                yield f"{head} {statistics.median(values):7.3f}  {below}  {short:5.1f}"


def percent(answers: Iterator[bool]) -> float:
    """The share of yes among answers, in percent."""
    given = list(answers)
    return 100 * sum(given) / len(given)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table for the folders named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="+", help="folders or files of documents")
    parser.add_argument("--documents", type=int, default=2000, help="at most so many of each folder (2000)")
    parser.add_argument("--text-field", default="text", help="key of the text in jsonl and parquet (text)")
    given = parser.parse_args(arguments)
    limits = " ".join(f"<{t:<4g}" for t in THRESHOLDS)
    print(f"{'folder':24} {'language':8} {'over':5} {'documents':>9} {'median':>7}  {limits}  {'short':>5}   (percent)")
    for folder in given.folders:
        for line in table(Path(folder).name, rows(folder, given.documents, given.text_field)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
