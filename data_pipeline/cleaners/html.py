"""Raw bytes to main text: charset, parse, main content, normal form, language, title, date.

The steps lie in files of their own: charset.py, nesting.py (refuses what would take the parser hours), blocks.py (one
walk over lexbor's tree), extract.py (which blocks are main text; noise.py has its words), layout.py (blocks to
text), head.py (title, date), mojibake.py and remains.py (repairs). Cost: 2 to 4 ms a page; memory: some ten times
the page. Nothing in a page raises.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from data_pipeline.cleaners.density import num_text_chars, num_visible_chars
from data_pipeline.document import Document, Drop, Measure
from data_pipeline.pages import extract, layout
from data_pipeline.pages.blocks import Block, Page, read_page, visible_text
from data_pipeline.pages.charset import decode
from data_pipeline.pages.head import article_body, find_date, find_titles
from data_pipeline.pages.mojibake import broken_share, repair
from data_pipeline.pages.nesting import is_too_deep
from data_pipeline.pages.remains import strip_markup_remains
from mindllm.text import language, normalise

MAX_BROKEN = 0.05  # share of U+FFFD and the like from which on a text is none
_MAX_CONTROLS, _MAX_NULS = 0.1, 0.001  # shares of control bytes and NULs from which a file is no page
_SHORT, _LONG = 50, 200  # characters: less main text than _SHORT is none, if the body holds _LONG
_SAMPLE = 4_000  # bytes that are looked at for control bytes
_ALL_LINK = 0.95  # share of a line's characters in links from which it is a line of links
_NO_C1 = dict.fromkeys(range(0x80, 0xA0))
_CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\r\f\x1b")


@dataclass(frozen=True)
class Html:
    """Turns meta["html"] (or meta["plain"]: bytes of plain text) into text, lang and meta; others pass unchanged.

    max_bytes: larger pages are dropped.  headline: the page's own headline is put in front of its text.  comments:
    readers' comments are kept.  meta: title, date (YYYY-MM-DD), charset, link_chars and page_chars (for the density
    cleaner); where it applies extraction ("body", "json-ld": where else the text was found), mojibake (what was
    repaired), remains (lines of script and style removed). meta["charset"] may come in as HTTP's charset.
    """

    max_bytes: int = 5_000_000
    headline: bool = True
    comments: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.max_bytes < 1:
            yield "max_bytes: must be at least 1"

    def measures(self, document: Document) -> Iterable[Measure]:
        """The size of the raw page."""
        data = document.meta.get("html") or document.meta.get("plain")
        if isinstance(data, bytes):
            yield Measure("bytes", len(data), f"at most {self.max_bytes:,}", len(data) <= self.max_bytes)

    def __call__(self, document: Document) -> Document | Drop:
        """Drops html:empty, html:too_large, html:binary, html:too_deep, html:broken_text, html:no_text."""
        plain, html = document.meta.pop("plain", None), document.meta.pop("html", None)
        data = plain if html is None else html
        if data is None:
            return document
        reason = _refuse(data, self.max_bytes)
        if reason:
            return Drop(f"html:{reason}")
        text, document.meta["charset"] = decode(data, document.meta.get("charset") or "")
        if html is None:
            document.text, document.meta["link_chars"] = text, 0
        elif is_too_deep(text, data):
            return Drop("html:too_deep")
        else:
            self._read(text, _parser_input(data, text, document.meta["charset"]), document)
        repaired = _repair(document.text, document.meta)
        if repaired is None:
            return Drop("html:broken_text")
        document.text, document.lang = repaired, language(repaired)
        return document if repaired.strip() else Drop("html:no_text")

    def _read(self, html: str, source: str | bytes, document: Document) -> None:
        """Parse a page; set text, title, date, link_chars, page_chars and how the text was found."""
        meta, titles = document.meta, find_titles(html)
        main = _find_main(html, source, titles, self.comments)
        document.text = f"{main.headline}\n\n{main.text}" if main.headline and self.headline else main.text
        meta["link_chars"] = num_text_chars("".join(b.text for b in main.blocks if b.links >= _ALL_LINK))
        meta["page_chars"] = num_visible_chars(visible_text(main.page))
        if main.source:
            meta["extraction"] = main.source
        title = main.headline or next(iter(titles), "")
        date = find_date(html, document.url)
        for key, value in (("title", " ".join(normalise(title).split())), ("date", date)):
            if value:
                meta.setdefault(key, value)


def extract_text(html: bytes, url: str = "") -> str:
    """The main text of one page (at `url`) without its headline; "" where the cleaner would drop the page."""
    if _refuse(html, Html.max_bytes):
        return ""
    text, charset = decode(html)
    if is_too_deep(text, html):
        return ""
    main = _find_main(text, _parser_input(html, text, charset), find_titles(text), comments=False)
    return _repair(main.text, {}) or ""


class _Main(NamedTuple):
    """The main text of a page; `source` says where else than in its main content it was found ("": there)."""

    text: str
    headline: str
    blocks: list[Block]
    page: Page
    source: str


def _find_main(html: str, source: str | bytes, titles: list[str], comments: bool) -> _Main:
    """The main content of a page; where that is next to nothing the article in JSON-LD, or the whole body."""
    page = read_page(source, comments)
    headline = extract.select(page, titles)
    kept = [block for block in page.blocks if not block.dropped]
    length = sum(len(block.text) for block in kept)
    if length < 5 * _LONG:
        body = article_body(html)
        if len(body) >= max(_LONG, 2 * length):
            return _Main(body, headline, [], page, "json-ld")
    if length < _SHORT and sum(len(block.text) for block in page.blocks) >= _LONG:
        kept = [block for block in page.blocks if block.dropped != "title"]
        return _Main(layout.write(page, kept), headline, kept, page, "body")
    return _Main(layout.write(page, kept), headline, kept, page, "")


def _parser_input(data: bytes, text: str, charset: str) -> str | bytes:
    """The bytes where they are UTF-8, which spares the parser an encoding, else the text.

    Vertical tabs go: white space to Python, but not in HTML, they would part words.
    """
    if charset == "utf-8" and b"\v" not in data and not data.startswith(codecs.BOM_UTF8):
        return data
    return text.replace("\v", "")


def _refuse(data: bytes, max_bytes: int) -> str:
    """Why these bytes cannot be a page: empty, too_large, binary (many NULs or control bytes); "" if they can."""
    if not data[:1000].strip() and not data.strip():
        return "empty"
    if len(data) > max_bytes:
        return "too_large"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    start = data[:_SAMPLE]
    controls = len(start) - len(start.translate(None, _CONTROLS))
    too_many = controls > _MAX_CONTROLS * len(start) or (b"\0" in data and data.count(0) > _MAX_NULS * len(data))
    return "binary" if too_many else ""


def _repair(text: str, meta: dict[str, Any]) -> str | None:
    """The text repaired and in its normal form; None for one that is broken. In this order: each step needs the next.

    What was repaired is noted in `meta`.
    """
    broken = broken_share(text) > MAX_BROKEN
    if broken and broken_share(text.translate(_NO_C1)) > MAX_BROKEN:
        return None
    text, kind = repair(text)
    if broken and broken_share(text) > MAX_BROKEN:  # C1 controls count only now: UTF-8 read as Latin-1 is full of them
        return None
    if kind:
        meta["mojibake"] = kind
    text, num_lines = strip_markup_remains(text)
    if num_lines:
        meta["remains"] = num_lines
    return normalise(text)
