"""The sensitive cleaner on texts that are known to be clean: share dropped, hits a document, speed.

    python -m bench.sensitive FILE.txt ... [list=PATH:CATEGORY ...]

Files are cut into documents of 800 characters at line ends. Every document that is dropped is a false drop: printed
with the terms that hit, so that a lexicon, or a plain list given with list=, can be judged before it is used.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.cleaners.sensitive import Sensitive
from data_pipeline.document import Document, Drop

SIZE = 800  # characters


def main(words: list[str]) -> None:
    """Print a line per file, and the false drops."""
    lists = dict(word.removeprefix("list=").rsplit(":", 1) for word in words if word.startswith("list="))
    cleaner = Sensitive(lists=lists)
    cleaner.find("")  # builds the automaton
    for path in (Path(word) for word in words if not word.startswith("list=")):
        documents = list(cut(path.read_text(encoding="utf-8", errors="replace")))
        start = time.process_time()
        results = [cleaner(Document(text, "1")) for text in documents]
        seconds = time.process_time() - start
        size = sum(len(text.encode()) for text in documents)
        hits = sum(len(cleaner.find(text)) for text in documents)
        dropped = [text for text, result in zip(documents, results, strict=True) if isinstance(result, Drop)]
        print(
            f"{path.name}: {len(documents):,} documents, {len(dropped)} dropped, "
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
    main(sys.argv[1:])
