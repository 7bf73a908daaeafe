"""Where on a page the main text lies: which elements are boilerplate, and which one is the centre.

Every container scores the prose in it, .7 as much a level further up; prose right after the page's title counts twice.
The best one wins, and hands over to a parent as long as what that adds is prose, too, or further posts of a thread. A
page without such a centre (a shop, a start page) is taken whole. Around each of the numbers below F1 is flat.
"""

from __future__ import annotations

from collections.abc import Iterable

from data_pipeline.pages.blocks import Block, Page
from data_pipeline.pages.nodes import HEAD, PRE
from data_pipeline.pages.noise import OTHERS, POST, REST, SPARED, SPARED_COMMENTS, SPARED_LAYOUT, is_edge, is_loose

DECAY = 0.7  # of a score, a level
BODY_FACTOR = 3.0  # schema.org's articleBody
NEAR = 1500  # bytes of prose after the title that count twice
ANCHOR = 350  # bytes of prose that make an article of what stands around the title
CLIMB = 0.8  # share of what a parent adds that must be prose
POSTS = 0.4  # share of a thread that must be prose of posts of the same kind
WHOLE_SHARE, WHOLE_SIZE = 0.4, 2000  # a centre with less of the page's prose, and with fewer bytes, is none
FIRM = 100  # bytes: a paragraph for certain


def count_prose(blocks: Iterable[Block]) -> int:
    """Bytes of prose in these blocks."""
    return sum(block.good for block in blocks)


def sums(page: Page, own: list[int]) -> list[int]:
    """For every element what it and its descendants hold, from what each holds itself."""
    total = own[:]
    for element, parent in zip(range(len(own) - 1, 0, -1), reversed(page.parents), strict=False):
        if amount := total[element]:
            total[parent] += amount
    return total


def prose_by_element(page: Page, blocks: Iterable[Block]) -> list[int]:
    """Bytes of prose that each element holds itself."""
    own = [0] * len(page.parents)
    for block in blocks:
        own[block.element] += block.good
    return own


def find_boilerplate(page: Page) -> list[bool]:
    """For every element whether it lies in boilerplate."""
    prose = sums(page, prose_by_element(page, page.blocks))
    spared = _spared_words(page, prose)
    inside = [False]
    for word, parent, amount in zip(page.noise[1:], page.parents[1:], prose[1:], strict=True):
        marked = word != "" and word not in spared and _is_marked(word, amount, prose[0])
        inside.append(marked or inside[parent])
    return inside


def _is_marked(word: str, prose: int, total: int) -> bool:
    """Whether one element with this word goes: comments always, other texts if an article remains."""
    return word == "comment" or prose < SPARED * total or (word.startswith(OTHERS) and total - prose >= REST)


def _spared_words(page: Page, prose: list[int]) -> set[str]:
    """The words that mark nearly all prose of this page: here they name the main text (a thread's "reply")."""
    held: dict[str, int] = {}
    for element, word in enumerate(page.noise):
        if word and prose[element] and not _lies_in(page, element, word):
            held[word] = held.get(word, 0) + prose[element]
    total = prose[0]
    return {word for word, amount in held.items() if _is_spared(word, amount, total)}


def _lies_in(page: Page, element: int, word: str) -> bool:
    """Whether an element further out has the same word."""
    while element > 0:
        element = page.parents[element]
        if page.noise[element] == word:
            return True
    return False


def _is_spared(word: str, amount: int, total: int) -> bool:
    if word == "comment":
        return amount > SPARED_COMMENTS * total or total - amount < REST
    if word.startswith(OTHERS):
        return False
    return amount > (SPARED if is_loose(word) else SPARED_LAYOUT) * total


def find_centre(page: Page, live: list[Block], first: int | None) -> int:
    """The element that holds the main text; 0 (the body) where no part of the page does."""
    prose = sums(page, prose_by_element(page, live))
    own = [0] * len(page.parents)
    for block in live:
        if block.kind != PRE and (block.kind != HEAD or block.links):  # these belong to what follows them
            own[block.element] += block.size
    size = sums(page, own)
    best = _best_container(page, live, prose, first)
    if first is not None:
        best = _prefer_title(page, best, page.blocks[first].element, prose)
    best = _climb(page, best, prose, size)
    if prose[best] < WHOLE_SHARE * prose[0] and prose[best] < WHOLE_SIZE and not _follows(page, best, first):
        return 0
    return best


def _best_container(page: Page, live: list[Block], prose: list[int], first: int | None) -> int:
    score = [float(x) for x in prose_by_element(page, live)]
    if first is not None:
        so_far = 0
        for block in page.blocks[first:]:
            if so_far >= NEAR:
                break
            if not block.dropped:
                score[block.element] += block.good
                so_far += block.good
    for element in range(len(score) - 1, 0, -1):
        if page.is_body[element]:
            score[element] = max(BODY_FACTOR * score[element], BODY_FACTOR * prose[element])
        score[page.parents[element]] += DECAY * score[element]
    return max(range(len(score)), key=score.__getitem__)


def _prefer_title(page: Page, best: int, title: int, prose: list[int]) -> int:
    """The article around the title instead of a container elsewhere: a short text before a long list of others."""
    anchor = title
    while anchor > 0 and prose[anchor] < ANCHOR:
        anchor = page.parents[anchor]
    apart = anchor > 0 and not _holds(page, anchor, best) and not _holds(page, best, anchor)
    return anchor if apart else best


def _holds(page: Page, outer: int, inner: int) -> bool:
    while inner > outer:
        inner = page.parents[inner]
    return inner == outer


def _climb(page: Page, best: int, prose: list[int], size: list[int]) -> int:
    """Go up while what a parent adds is prose, or posts of one kind."""
    element = child = best
    while element > 0:
        element = page.parents[element]
        added = size[element] - size[best]
        if prose[element] - prose[best] >= CLIMB * added or _is_thread(page, element, child, prose, size):
            best = element
        child = element
    return best


def _is_thread(page: Page, element: int, child: int, prose: list[int], size: list[int]) -> bool:
    """Whether `child` and its siblings of the same kind are posts that make up most of `element`."""
    kind = _post_kind(page, child)
    if not kind:
        return False
    found = range(element + 1, len(page.parents))
    posts = [e for e in found if page.parents[e] == element and prose[e] > 0 and _post_kind(page, e) == kind]
    return len(posts) > 1 and sum(prose[e] for e in posts) >= POSTS * size[element]


def _post_kind(page: Page, element: int) -> str:
    """Tag and class of an element that is named like a post of a thread or a list; "" for others."""
    for name in page.classes[element].split():
        if POST.search(name) and not any(c.isdigit() for c in name):
            return f"{page.tags[element]}.{name}"
    return ""


def _follows(page: Page, best: int, first: int | None) -> bool:
    """Whether the first paragraph after the title lies in `best`: then it is a short article."""
    if first is None:
        return False
    for block in page.blocks[first:]:
        if block.good and block.size >= FIRM and not block.dropped and not is_edge(block.text, block.size):
            return _holds(page, best, block.element)
    return False
