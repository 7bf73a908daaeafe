"""Recall on real manuals, where MINDLLM_DATA names a folder with html/debian-* and html/libreoffice-help.

Slow (10 seconds), so these run by `make test-full` only. Measured when written: LibreOffice .97 in English,
.95 in Simplified and in Traditional Chinese.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
from selectolax.lexbor import LexborHTMLParser

from data_pipeline.cleaners.html import Html, extract_text
from data_pipeline.document import Document
from data_pipeline.pages.blocks import GOOD_LINKS, read_page
from mindllm.text import units

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "MINDLLM_DATA" not in os.environ, reason="MINDLLM_DATA: folder with html/debian-reference and others"
    ),
]
MIN_CHAPTER = 0.7  # of the text of any one chapter: tables whose names are links may go


def shingles(text: str) -> set[tuple[str, ...]]:
    """Every four units of a text in a row."""
    found = units(text.lower())
    return {tuple(found[n : n + 4]) for n in range(len(found) - 3)}


def members(name: str, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of the files of an archive whose path matches, in order."""
    with tarfile.open(Path(os.environ["MINDLLM_DATA"]) / "html" / name / "pages.tar.gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            data = archive.extractfile(member) if member.isfile() and re.search(pattern, member.name) else None
            if data is not None:
                yield member.name, data.read()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("debian-reference", "en"),
        ("debian-reference", "zh-cn"),
        ("debian-reference", "zh-tw"),
        ("debian-guides", "en"),
        ("debian-guides", "zh-cn"),
        ("debian-guides", "zh-tw"),
        ("debian-guides", "faq-en"),
        ("debian-guides", "faq-zh-cn"),
    ],
)
def test_debian_chapters(name: str, folder: str) -> None:
    """Of what a chapter's blocks (those of links left out: its table of contents) share with the official text."""
    rendering = b"".join(data for _, data in members(name, rf"(^|/){folder}/[^/]*\.txt$"))
    truth, recalls = shingles(rendering.decode()), {}
    for path, data in members(name, rf"(^|/){folder}/(?!index)[^/]*\.html$"):
        blocks = [block for block in read_page(data.decode()).blocks if block.links < GOOD_LINKS]
        wanted = set().union(*(shingles(block.text) for block in blocks)) & truth
        recalls[path] = len(wanted & shingles(extract_text(data))) / len(wanted)
    assert len(recalls) >= 9 and mean(recalls.values()) >= 0.95
    assert min(recalls.values()) >= MIN_CHAPTER, recalls


@pytest.mark.parametrize("language", ["en-US", "zh-CN", "zh-TW"])
def test_libreoffice_help(language: str) -> None:
    """Of the paragraphs of the element that holds the page's text, on pages of 20 shingles and more."""
    recalls = []
    for _, data in members("libreoffice-help", rf"(^|/){language}/.*\.html$"):
        area = LexborHTMLParser(data.decode()).css_first("#DisplayArea")
        paragraphs = area.css("p, h1, h2, h3, h4, h5, h6, pre") if area is not None else []
        wanted = set().union(set(), *(shingles(node.text()) for node in paragraphs))
        if len(wanted) >= 20:
            result = Html()(Document("", "1", meta={"html": data}))
            text = result.text if isinstance(result, Document) else ""
            recalls.append(len(wanted & shingles(text)) / len(wanted))
    assert len(recalls) > 1_000 and mean(recalls) >= 0.9
