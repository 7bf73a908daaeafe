"""The sensitive cleaner on texts that are known to be clean: share dropped, hits a document, speed.

    python bench/sensitive.py [PATH ...] [--list PATH:CATEGORY ...]

The texts (files, or folders of files; samples/prose without any) are cut into documents of 800 characters at line ends.
Every document that is dropped is a false drop: printed with the terms that hit, so that a lexicon, or a plain list
given with --list, can be judged before it is used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from common import SAMPLE_TEXTS, read_text, text_files

from data_pipeline.cleaners.sensitive import Sensitive
from data_pipeline.document import Document, Drop

SIZE = 800  # characters


def main() -> None:
    """Print a line for each path, and the false drops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=[SAMPLE_TEXTS], metavar="PATH")
    parser.add_argument("--list", action="append", default=[], metavar="PATH:CATEGORY", help="a plain list of terms")
    options = parser.parse_args()
    if any(":" not in word for word in options.list):
        parser.error("--list: give PATH:CATEGORY")
    cleaner = Sensitive(lists=dict(word.rsplit(":", 1) for word in options.list))
    cleaner.find("")  # builds the automaton
    for path in options.paths:
        measure(str(path), [document for file in text_files([path]) for document in cut(read_text(file))], cleaner)


def measure(name: str, documents: list[str], cleaner: Sensitive) -> None:
    """Print what the cleaner does with documents that are clean."""
    start = time.process_time()
    results = [cleaner(Document(text, "1")) for text in documents]
    seconds = time.process_time() - start
    size = sum(len(text.encode()) for text in documents)
    hits = sum(len(cleaner.find(text)) for text in documents)
    dropped = [text for text, result in zip(documents, results, strict=True) if isinstance(result, Drop)]
    print(
        f"{name}: {len(documents):,} documents, {len(dropped)} dropped, "
        f"{hits / max(1, len(documents)):.2f} hits a document, {size / max(seconds, 1e-9) / 1e6:.1f} MB/s"
    )
    for text in dropped[:5]:
        print("   ", ", ".join(dict.fromkeys(term.text for term in cleaner.find(text))), "|", repr(text[:60]))


def cut(text: str) -> Iterator[str]:
    """The text in documents of whole lines, SIZE characters or a little more each."""
    lines: list[str] = []
    for line in text.split("\n"):
        lines.append(line)
        if sum(map(len, lines)) >= SIZE:
            yield "\n".join(lines)
            lines = []
    if any(lines):
        yield "\n".join(lines)


if __name__ == "__main__":
    main()
