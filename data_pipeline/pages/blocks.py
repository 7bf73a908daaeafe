"""One walk over a page's element tree: blocks of text, and the elements that hold them.

A block is what stands between two block-level tags or line breaks: a paragraph, a list item, a table cell, a line. The
tree is lexbor's (selectolax), read once; all later decisions (extract.py) look only at the lists made here. Sizes are
UTF-8 bytes, so that Chinese and English share thresholds. Cost: .3 to .8 ms a page; memory: the text, and some 200
bytes a block.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from data_pipeline.pages.nodes import (
    BLOCK,
    BREAK,
    CAPTION,
    HEAD,
    INLINE,
    KINDS,
    MAX_DEPTH,
    PARAGRAPH,
    PRE,
    RULE,
    SILENT,
    SKIPPED,
    blank_before,
    code_text,
    deep_text,
    is_mark,
    text_size,
)  # fmt: skip
from data_pipeline.pages.noise import find_noise, is_sparing, may_be_spared
from mindllm.text import unwrap

_TAG_NOISE = {"aside": "aside", "header": "header", "figcaption": "caption", "caption": "caption"}
_NEVER_NOISE = frozenset("article main blockquote ul ol dl pre form".split())
_READ_AT_ONCE = ("", "header")  # a header may hold the headline
_PLAIN = frozenset("table tbody thead tfoot tr td th dt dd h1 h2 h3 h4 h5 h6".split())  # their attributes are not read
GOOD_SIZE = 40  # bytes, below which a block is no prose
GOOD_LINKS = 0.34  # share of its characters in links, from which on it is none
_MARKS = re.compile(r"[.,;:!?](?=\s|$|[\"'”’)])|[。，；：！？、…؟،؛۔।]")  # what prose has and menus have not


class Block:
    """One block: `links` is the share of its characters in links, `good` its size if it reads as prose, else 0.

    `dropped` says why the block is no main text ("" while it is). Lines of one paragraph share `paragraph`.
    """

    __slots__ = ("text", "size", "links", "element", "kind", "good", "dropped", "paragraph")

    def __init__(self, text: str, links: float, element: int, kind: int, paragraph: int):
        self.text = text
        self.links = links if links < 1.0 else 1.0
        self.element = element
        self.kind = kind
        self.paragraph = paragraph
        self.size = len(text) if text.isascii() else len(text.encode("utf-8", "ignore"))
        self.good = 0
        self.dropped = ""


class Page(NamedTuple):
    """A page as lists. Element 0 is the body; parents stand before their children in every list of elements.

    noise: the word that marks the element as boilerplate ("" for none).  classes: its class attribute.  is_body:
    whether schema.org calls it the article's body.  skipped: elements that a reader sees, but that are not read.
    """

    blocks: list[Block]
    parents: list[int]
    tags: list[str]
    noise: list[str]
    classes: list[str]
    is_body: list[bool]
    skipped: list[LexborNode]


def read_page(html: str | bytes, comments: bool = False) -> Page:
    """Parse HTML (bytes: UTF-8) and read its body; with `comments`, readers' comments are text like any other."""
    reader = _Reader(comments)
    body = LexborHTMLParser(html, scripting=True).body
    if body is not None:
        reader.walk(body, 0, BLOCK, 0)
        reader.flush(0, BLOCK)
        reader.read_deferred()
    return reader.page


def visible_text(page: Page) -> str:
    """All that a reader sees, boilerplate included. slow: .2 ms."""
    return " ".join([block.text for block in page.blocks] + ["".join(deep_text(node)) for node in page.skipped])


class _Deferred(NamedTuple):
    """An element marked as boilerplate, to be read later or never: `place` is where its blocks belong."""

    place: int
    node: LexborNode
    element: int
    kind: int
    depth: int
    in_link: int


class _Reader:
    """The state of one walk: the page so far, and the pieces of the block at hand."""

    def __init__(self, comments: bool) -> None:
        self._comments = comments
        self.page = Page([], [-1], ["body"], [""], [""], [False], [])
        self._lists = self.page[1:6]
        self._pieces: list[str] = []
        self._linked = 0  # characters of the pieces that lie in links
        self._in_link = 0
        self._lines: list[Block] = []  # blocks of one paragraph, parted by line breaks
        self._paragraph = 1
        self._deferred: list[_Deferred] | None = []  # None: nothing is put off any more

    def walk(self, node: LexborNode, element: int, kind: int, depth: int) -> None:
        """Read what `node` holds; `element` and `kind` are those of the innermost block-level element.

        White space between tags is passed over, a third of all nodes, and looked up where text stands before it.
        """
        pieces, lines, kinds = self._pieces, self._lines, KINDS
        for child in node.iter(include_text=True, skip_empty=True):
            tag = child.tag or ""
            if tag == "-text":
                text = child.text_content or ""
                pieces.append(text)
                if self._in_link:
                    self._linked += len(text.strip())
                continue
            what = kinds.get(tag, BLOCK)
            if what == INLINE:
                if (kind == HEAD or tag == "sup") and is_mark(child):
                    continue
                if pieces:
                    pieces.append(blank_before(child))
                linked = tag == "a" and child.attrs.get("href") is not None
                self._in_link += linked
                self._read_inline(child, element, kind, depth + 1)
                self._in_link -= linked
            elif what == BREAK:
                self.flush(element, kind, at_break=True)
            elif what == SKIPPED:
                self.page.skipped.append(child)
            elif what != SILENT:
                if pieces or lines:
                    self.flush(element, kind)
                if what != RULE:
                    self._enter(child, tag, what, element, depth + 1)

    def _read_inline(self, node: LexborNode, element: int, kind: int, depth: int) -> None:
        only = node.first_child
        if only is not None and only.is_text_node and only.next is None:  # most of them; saves a loop
            text = only.text_content or ""
            self._pieces.append(text)
            if self._in_link:
                self._linked += len(text.strip())
        elif depth < MAX_DEPTH:
            self.walk(node, element, kind, depth)
        else:
            self._pieces.extend(deep_text(node))

    def _enter(self, node: LexborNode, tag: str, kind: int, element: int, depth: int) -> None:
        """Read a block-level element. Paragraphs are too many and too plain to be elements of the page."""
        inside = element if kind == PARAGRAPH else self._add_element(node, tag, element)
        if self._deferred is not None and self.page.noise[inside] not in _READ_AT_ONCE and inside != element:
            place = len(self.page.blocks)
            self._deferred.append(_Deferred(place, node, inside, kind, depth, self._in_link))
            return
        if kind == PRE:
            self._add_code("".join(code_text(node, 0)), inside)
        elif depth < MAX_DEPTH:
            self.walk(node, inside, kind, depth)
        else:
            self._pieces.extend(deep_text(node))
        if self._pieces or self._lines:
            self.flush(inside, kind)

    def read_deferred(self) -> None:
        """Read the marked elements that might be spared; the others, two thirds of many pages, never are."""
        deferred, self._deferred = self._deferred or [], None
        blocks, noise = self.page.blocks, self.page.noise
        prose = sum(block.good for block in blocks)
        sizes = [text_size(d.node) if is_sparing(noise[d.element]) else 0 for d in deferred]
        words: dict[str, int] = {}
        for d, size in zip(deferred, sizes, strict=True):
            words[noise[d.element]] = words.get(noise[d.element], 0) + size
        for number in range(len(deferred) - 1, -1, -1):  # the last first, so that places stay right
            d = deferred[number]
            word = noise[d.element]
            if not may_be_spared(word, sizes[number], words[word], prose):
                self.page.skipped.append(d.node)
                continue
            later = blocks[d.place :]
            del blocks[d.place :]
            self._in_link = d.in_link
            self._enter_again(d)
            blocks.extend(later)

    def _enter_again(self, d: _Deferred) -> None:
        if d.kind == PRE:
            self._add_code("".join(code_text(d.node, 0)), d.element)
        else:
            self.walk(d.node, d.element, d.kind, d.depth)
            self.flush(d.element, d.kind)

    def _add_element(self, node: LexborNode, tag: str, parent: int) -> int:
        parents, tags, noises, classes, is_body = self._lists
        noise, names, body = _TAG_NOISE.get(tag, ""), "", False
        if tag not in _PLAIN:
            attributes = node.attributes
            if attributes:
                names = attributes.get("class") or ""
                noise = noise or find_noise(names, attributes.get("id") or "", attributes.get("role") or "")
                body = attributes.get("itemprop") == "articleBody"
                if noise and (self._comments if noise == "comment" else tag in _NEVER_NOISE):
                    noise = ""
        parents.append(parent)
        tags.append(tag)
        noises.append(noise)
        classes.append(names)
        is_body.append(body)
        return len(parents) - 1

    def _add_code(self, text: str, element: int) -> None:
        if text.strip():
            block = Block(text.strip("\r\n").rstrip(), 0.0, element, PRE, 0)
            block.good = block.size if _MARKS.search(text) and block.size >= GOOD_SIZE else 0
            self.page.blocks.append(block)

    def flush(self, element: int, kind: int, at_break: bool = False) -> None:
        """End a block. Lines parted by breaks are judged together: verse has short ones."""
        pieces, lines = self._pieces, self._lines
        if pieces:
            text = pieces[0] if len(pieces) == 1 else "".join(pieces)
            text = unwrap(text)
            if text:
                block = Block(text, self._linked / len(text), element, kind, self._paragraph)
                self.page.blocks.append(block)
                lines.append(block)
            pieces.clear()
            self._linked = 0
        if lines and not at_break:
            _judge(lines)
            lines.clear()
            self._paragraph += 1


def _judge(lines: list[Block]) -> None:
    """Set `good` of the lines of one paragraph: enough text, punctuated in every second line, few links."""
    if len(lines) == 1:
        line = lines[0]
        if line.size >= GOOD_SIZE and line.links < GOOD_LINKS and line.kind != CAPTION and _MARKS.search(line.text):
            line.good = line.size
        return
    prose = [line for line in lines if line.links < GOOD_LINKS and line.kind != CAPTION]
    if sum(line.size for line in prose) < GOOD_SIZE:
        return
    if sum(_MARKS.search(line.text) is not None for line in prose) >= 0.5 * len(prose):
        for line in prose:
            line.good = line.size
