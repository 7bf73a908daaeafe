"""Which blocks of a page are its main text.

1. Elements whose names say "boilerplate" fall away, with all they hold, unless they hold most of the prose.
2. The container with most of the prose is the centre of the page (centre.py).
3. Inside it lists of links, headlines of the page itself, calls to subscribe and the credits at both ends go.
The numbers were swept on one half of some 1,000 pages of both languages and checked on the other half; around each of
them F1 is flat. Cost: .2 to .4 ms a page. No rule knows a site.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from data_pipeline.pages.blocks import Block, Page
from data_pipeline.pages.centre import FIRM, count_prose, find_boilerplate, find_centre, prose_by_element, sums
from data_pipeline.pages.nodes import CELL, HEAD, PRE
from data_pipeline.pages.noise import REST, STOPS, is_call, is_edge, is_tail

# Share of the prose that may stand before the title, and go; if the heading is the whole title.
BEFORE, BEFORE_EXACT = 0.5, 0.7
LINKED_LIST, LINKED, ALL_LINKED = 0.5, 0.8, 0.95  # share of links from which an element, a block, a sentence goes
SHORT = 60  # bytes: a fragment
_ENDS = (*".!?。！？；;…”\"'’）)」』】》>",)
_MAX_SHORT = 5  # short blocks at one end that go: more are a list, not credits
_LETTERS = re.compile(r"[^\W_]+")
_TABLE = ("table", "thead", "tbody")
_MAX_TITLE = 600  # bytes
_TOP_BLOCKS = 12  # among which the headline stands


def select(page: Page, titles: Sequence[str]) -> str:
    """Mark each block of the page that is not main text (`dropped`: why), and return the page's headline ("": none).

    titles: what the head of the page calls it.
    """
    blocks = page.blocks
    if not blocks:
        return ""
    first = _drop_titles(page, [t for t in dict.fromkeys(map(squash, titles)) if len(t) >= 5])
    boilerplate = find_boilerplate(page)
    for block in blocks:
        if boilerplate[block.element] and not block.dropped:
            block.dropped = "boilerplate"
    live = [block for block in blocks if not block.dropped]
    if not live:  # all of it is marked: then the marks mean nothing
        live = [block for block in blocks if block.dropped == "boilerplate"]
    best = find_centre(page, live, first)
    kept = _drop_outside(page, live, best)
    _drop_calls(kept)
    top = _drop_ends(page, [block for block in kept if not block.dropped])
    headline = blocks[first] if first is not None else top or _only_h1(page)
    return headline.text if headline is not None else ""


def _only_h1(page: Page) -> Block | None:
    """The page's h1, if it has a single one: a headline in a header whose title reads otherwise."""
    found = [block for block in page.blocks if _is_h1(page, block)]
    return found[0] if len(found) == 1 and found[0].dropped and found[0].size < _MAX_TITLE else None


def squash(text: str) -> str:
    """The letters and digits of a text, in lower case: how titles are compared."""
    return "".join(_LETTERS.findall(text)).lower()


def _drop_titles(page: Page, titles: list[str]) -> int | None:
    """Drop the blocks that repeat the page's title and what stands before it; the index of the headline's block."""
    first = None
    for index in _may_be_titles(page, titles):
        block = page.blocks[index]
        if not _is_title(block, titles):
            continue
        better = first is None or (_is_h1(page, block) and not _is_h1(page, page.blocks[first]))
        if block.kind == HEAD and better:
            first = index
        block.dropped, block.good = "title", 0
    share = BEFORE_EXACT if first is not None and squash(page.blocks[first].text) in titles else BEFORE
    if first is not None and count_prose(page.blocks[:first]) < share * count_prose(page.blocks):
        for block in page.blocks[:first]:
            block.dropped, block.good = block.dropped or "before", 0
    return first


def _may_be_titles(page: Page, titles: list[str]) -> Iterator[int]:
    """The blocks of a fitting size whose first letters agree: comparing in full is slow."""
    if not titles:
        return
    sizes = [len(title.encode()) for title in titles]
    low, high = 0.4 * min(sizes), min(3 * max(sizes), _MAX_TITLE)
    known, firsts = "\n".join(titles), {title[:4] for title in titles}
    for index, block in enumerate(page.blocks):
        if low <= block.size <= high:
            text = block.text.lower()
            start = text[:4] if text[:4].isalnum() else squash(text[:8])[:4]
            if start in known or any([first in text for first in firsts]):
                yield index


def _is_title(block: Block, titles: list[str]) -> bool:
    text = squash(block.text)
    if len(text) < 5:
        return False
    return any(
        (text in title and (block.kind == HEAD or len(text) >= 0.4 * len(title)))
        or (title in text and len(title) >= 0.5 * len(text))
        for title in titles
    )


def _is_h1(page: Page, block: Block) -> bool:
    return page.tags[block.element] == "h1"


def _drop_outside(page: Page, live: list[Block], best: int) -> list[Block]:
    """Drop what lies outside the centre, and its lists of links; the blocks that are left."""
    parents = page.parents
    state = ["outside"] * len(parents)
    state[best] = ""
    lists = _linked_lists(page, live) if any(block.links > LINKED_LIST for block in live) else ()
    for element in range(best + 1, len(parents)):
        state[element] = state[parents[element]] or ("links" if element in lists else "")
    for block in live:
        block.dropped = state[block.element] or ("links" if _is_link(block) else "")
    return [block for block in live if not block.dropped]


def _is_link(block: Block) -> bool:
    """Whether a block is a link to elsewhere; in a table it is a name, and a sentence is text."""
    is_sentence = block.links < ALL_LINKED and block.text.endswith(STOPS)
    return block.links > LINKED and not block.good and block.kind != CELL and not is_sentence


def _linked_lists(page: Page, live: list[Block]) -> set[int]:
    """Elements that hold links more than anything else; the cells of a table may."""
    linked, own = [0] * len(page.parents), [0] * len(page.parents)
    for block in live:
        linked[block.element] += int(block.links * block.size)
        own[block.element] += block.size
    links, size, prose = sums(page, linked), sums(page, own), sums(page, prose_by_element(page, live))
    headed = sums(page, [int(tag == "th") for tag in page.tags]) if "th" in page.tags else linked
    return {
        element
        for element, amount in enumerate(links)
        if amount > LINKED_LIST * size[element]
        and prose[element] < 0.3 * size[element]
        and not (page.tags[element] in _TABLE and headed[element] and headed is not linked)  # with a head: data
        and page.tags[element] not in ("td", "th", "tr")
    }


def _drop_calls(kept: list[Block]) -> None:
    calls = [block for block in kept if is_call(block.text, block.size)]
    if count_prose(kept) - count_prose(calls) >= REST:
        for block in calls:
            block.dropped = "call"


def _drop_ends(page: Page, kept: list[Block]) -> Block | None:
    """Drop headline, by-lines and credits at both ends; the headline's block, if there is one at the top."""
    headline = next((b for b in _top(kept) if _is_h1(page, b)), None)
    if headline is not None:
        headline.dropped = "title"
        kept = [block for block in kept if not block.dropped]
    _drop_credits(kept[:0:-1], "end")
    kept = [block for block in kept if not block.dropped]
    _drop_credits(kept[:-1], "start")
    return headline


def _top(kept: list[Block]) -> Iterable[Block]:
    """The first blocks, up to the first real paragraph."""
    for block in kept[:_TOP_BLOCKS]:
        if block.good and block.size >= FIRM and block.kind != HEAD:
            return
        yield block


def _drop_credits(blocks: Sequence[Block], where: str) -> None:
    """Drop the fringe from one end on, and before the first real paragraph the by-lines behind it, too."""
    num_short = 0
    for block in blocks:
        if not (_is_credit(block) or (where == "end" and is_tail(block.text, block.size))):
            is_head = where == "start" and block.kind == HEAD  # of a section that follows
            if num_short == _MAX_SHORT or is_head or not _is_fragment(block):
                break
            num_short += block.kind != HEAD
        block.dropped = where
    if where == "start":
        for block in blocks:
            if not block.dropped and block.size >= FIRM:
                break
            if _is_credit(block):
                block.dropped = where


def _is_credit(block: Block) -> bool:
    """Whether it is a by-line, a date, a source."""
    return is_edge(block.text, block.size)


def _is_fragment(block: Block) -> bool:
    """Whether it is a heading without a text, or a few words."""
    if block.kind == HEAD:
        return block.size < FIRM
    if block.good or block.kind in (PRE, CELL):
        return False
    return block.size < SHORT and not block.text.endswith(_ENDS)
