"""Speed of the repetition cleaner in MB of text a second and core, next to datatrove's Gopher filter if it is there.

    python bench/repetition.py [PATH ...]

The texts (files, or folders of files; samples/prose without any) are cut into documents of three sizes. CPU seconds of
one process, so other load does not count. Pass one is `phrases`; the cleaner does that only on sites that have frequent
phrases (`with site`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import SAMPLE_TEXTS, read_text, text_files

from data_pipeline.cleaners.repetition import Repetition, cut_phrases
from data_pipeline.document import Document
from data_pipeline.parquet import SCHEMA, write_rows
from data_pipeline.phrases import find_phrases
from data_pipeline.sites import collect_phrases
from data_pipeline.workers import WorkersConfig
from mindllm.text import num_han

SIZES = (1000, 4000, 100_000)  # characters of a document
LEAST = 2_000_000  # bytes that are timed


def main() -> None:
    """Print a table: language, size of the documents, MB/s of each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=[SAMPLE_TEXTS], metavar="PATH")
    texts = [read_text(path) for path in text_files(parser.parse_args().paths)]
    for name, chinese in (("zh", True), ("en", False)):
        whole = "\n\n".join(text for text in texts if (num_han(text) > len(text) / 4) == chinese)
        for size in SIZES if whole else ():
            documents = [whole[i : i + size].strip() for i in range(0, len(whole), size)]
            documents *= max(1, LEAST // len("".join(documents).encode()))
            speeds = "  ".join(f"{part} {rate(work, documents):6.1f}" for part, work in parts(documents, name))
            print(f"{name} {size:7,} characters  MB/s: {speeds}")


def parts(documents: list[str], language: str) -> Iterator[tuple[str, Callable[[str], object]]]:
    """What is timed: name and function of a text."""
    yield "rows", lambda text: cut_phrases(text, 3)
    yield "phrases", find_phrases
    plain = Repetition()
    yield "cleaner", lambda text: plain(Document(text, "1", site="a"))
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "a.parquet"
        with write_rows(shard, SCHEMA) as rows:
            for text in [*documents[:4], *["A line that is on all pages.\n每一页上都有的一行字。\n"] * 9]:
                rows.add_document(Document(text, "1", site="a"))
        path = collect_phrases([shard], Path(folder) / "sites.parquet", WorkersConfig(num_workers=1))
        cleaner = Repetition(site_phrases=str(path))
        yield "with site", lambda text: cleaner(Document(text, "1", site="a"))
    try:
        from datatrove.data import Document as TheirDocument
        from datatrove.pipeline.filters import GopherRepetitionFilter
    except ImportError:
        return
    theirs = GopherRepetitionFilter(language=language)
    yield "datatrove", lambda text: theirs.filter(TheirDocument(text=text, id="1"))


def rate(work: Callable[[str], object], documents: list[str]) -> float:
    """MB of UTF-8 a CPU second, after one document to warm up."""
    work(documents[0])
    start = time.process_time()
    for text in documents:
        work(text)
    return len("".join(documents).encode()) / (time.process_time() - start) / 1e6


if __name__ == "__main__":
    main()
