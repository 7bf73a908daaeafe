"""What is planted in the sample web: reprints, personal data, noise, lists, stubs, spam and broken files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pages import Block, Page

Prose = dict[str, list[Page]]
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def nth(prose: Prose, site: str, n: int) -> Page | None:
    """The n-th page of a site; the count goes round, so that few pages do for any n."""
    pages = prose.get(site)
    return pages[n % len(pages)] if pages else None


def check_digit(digits: str) -> str:
    """The check digit of a Chinese identity number (GB 11643-1999) after its first seventeen digits."""
    return "10X98765432"[sum(int(d) * w for d, w in zip(digits, WEIGHTS, strict=True)) % 11]


def sentences(text: str) -> list[str]:
    """A text cut after every full stop, with the blank that follows it."""
    return [part for part in re.split(r"(?<=[。！？])|(?<=[.!?] )(?=[A-Z\"])", text) if part]


def without_sentence(blocks: Iterable[Block]) -> list[Block]:
    """The blocks with the second sentence of the longest paragraph left out."""
    kept = list(blocks)
    plain = [i for i, block in enumerate(kept) if block.kind == "p" and len(sentences(block.lines[0])) > 2]
    if plain:
        i = max(plain, key=lambda i: len(kept[i].lines[0]))
        parts = sentences(kept[i].lines[0])
        kept[i] = replace(kept[i], lines=("".join(parts[:1] + parts[2:]), *kept[i].lines[1:]))
    return kept


def swapped(blocks: list[Block], swaps: list[list[str]]) -> list[Block]:
    """The blocks with a few words changed, each once."""
    done: set[str] = set()
    out = []
    for block in blocks:
        text = "\n".join(block.lines)
        for old, new in swaps if block.kind == "p" and len(block.lines) == 1 else []:
            pattern = rf"\b{old}\b" if old.isascii() else old
            if old not in done and re.search(pattern, text):
                text = re.sub(pattern, new, text, count=1)
                done.add(old)
        out.append(replace(block, lines=tuple(text.split("\n"))))
    return out


def reprint(page: Page, words: dict[str, Any], name: str) -> Page:
    """A page as another site would print it: a sentence short, a few words changed, and its source named."""
    blocks = swapped(without_sentence(page.blocks), words["swaps"])
    credit = Block("p", (words["reprint"].format(name=name),))
    return replace(page, slug=page.slug + "-reprint", blocks=(credit, *blocks))


def with_contact(page: Page, entry: dict[str, Any]) -> Page:
    """A page with a paragraph of contact data at its end."""
    number = entry.get("id", "")
    number += check_digit(number) if number else ""
    block = Block("p", (entry["text"].replace("{id}", number),))
    return replace(page, blocks=(*page.blocks, block))


def noisy_text(text: str, turn: int) -> str:
    """A text with emoji, characters of no width and control characters, of another kind at every turn."""
    middle = len(text) // 2
    if turn % 4 == 0:
        return text + (" 😀👍🏽" if text.isascii() else "😀👍🏽")
    if turn % 4 == 1:
        return "\u200b".join(text[i : i + 20] for i in range(0, len(text), 20))
    if turn % 4 == 2:
        return f"\ufeff{text[:middle]}\x08\x0b{text[middle:]}\x1f"
    return f"\u00a0{text[:middle]}\u200d\u00ad\u2060{text[middle:]}✨🌏\u200e\x7f"


def noisy(page: Page) -> Page:
    """A page with odd characters in its paragraphs."""
    blocks = []
    for i, block in enumerate(page.blocks):
        lines = tuple(noisy_text(line, i) for line in block.lines) if block.kind == "p" else block.lines
        blocks.append(replace(block, lines=lines))
    return replace(page, blocks=tuple(blocks))


def made(site: str, entry: dict[str, Any], page: Page, blocks: Iterable[Block], kind: str) -> Page:
    """A page that has no prose file; it borrows language, date and author."""
    return replace(page, site=site, slug=entry["slug"], title=entry["title"], kind=kind, blocks=tuple(blocks))


def spam_blocks(text: str, times: int) -> list[Block]:
    """One sentence over and over, in paragraphs of five."""
    return [Block("p", (text * min(5, times - i),)) for i in range(0, times, 5)]


def link_block(links: list[tuple[str, str]], count: int = 30) -> Block:
    """A block of nothing but links, from (address, title) pairs."""
    return Block("links", tuple(title for _, title in links[:count]), "", tuple(href for href, _ in links[:count]))


def cut_short(html: str) -> bytes:
    """A page that broke off on its way, inside a tag and inside a character."""
    whole = html.encode("utf-8")
    at = whole.index(b"\n", len(whole) * 6 // 10)
    return whole[:at] + '\n<p class="more" title="桥头'.encode()[:-1]


def binary(seed: str, blocks: int = 128) -> bytes:
    """Bytes that look random, 32 a block."""
    return b"".join(hashlib.sha256(f"{seed} {i}".encode()).digest() for i in range(blocks))
