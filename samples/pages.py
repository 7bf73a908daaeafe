"""Pages of the sample prose: reading the files, and the block structure the templates print."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
KINDS = ((r"#{2,6} ", "h"), (r"- ", "ul"), (r"\d+\. ", "ol"), (r"\|", "table"))


@dataclass(frozen=True)
class Block:
    """One block of a page: p, h, ul, ol, table, code or links (`info`: a code's language, a list's first number)."""

    kind: str
    lines: tuple[str, ...]
    info: str = ""
    hrefs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """An article: the header fields of its prose file and its blocks."""

    site: str
    slug: str
    title: str
    lang: str
    kind: str
    date: str
    author: str
    blocks: tuple[Block, ...] = field(repr=False)


def roll(key: str, sides: int) -> int:
    """A number from 0 to sides - 1 that depends on nothing but the key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % sides


def line_kind(line: str) -> str:
    """The kind of block a line belongs to."""
    return next((kind for pattern, kind in KINDS if re.match(pattern, line)), "p")


def bare_line(line: str, kind: str) -> str:
    """A line without the mark that gave its kind away."""
    return line if kind in ("p", "table") else re.sub(r"^(#{2,6}|-|\d+\.) +", "", line)


def chunk_blocks(chunk: str) -> list[Block]:
    """The blocks of a chunk of lines that holds no blank line and no code."""
    blocks = []
    for kind, group in groupby(chunk.splitlines(), line_kind):
        lines = list(group)
        if kind == "table":
            lines = [line for line in lines if not re.fullmatch(r"[|:\- ]+", line)]
        first = lines[0].split(".")[0] if kind == "ol" else ""
        blocks.append(Block(kind, tuple(bare_line(line, kind) for line in lines), first))
    return blocks


def parse_blocks(text: str) -> tuple[Block, ...]:
    """The blocks of a prose text."""
    parts = FENCE.split(text)
    blocks: list[Block] = []
    for i in range(0, len(parts), 3):
        for chunk in re.split(r"\n\s*\n", parts[i]):
            blocks += chunk_blocks(chunk.strip("\n")) if chunk.strip() else []
        if i + 2 < len(parts):
            blocks.append(Block("code", tuple(parts[i + 2].split("\n")), parts[i + 1]))
    return tuple(blocks)


def read_page(path: Path) -> Page:
    """The page of one prose file."""
    head, body = path.read_text(encoding="utf-8").split("\n---\n", 1)
    fields = dict(line.split(": ", 1) for line in head.splitlines() if line.strip())
    title, lang, kind, date, author = (fields[name].strip() for name in ("title", "lang", "kind", "date", "author"))
    return Page(path.parent.name, path.stem, title, lang, kind, date, author, parse_blocks(body))


def read_prose(folder: Path) -> dict[str, list[Page]]:
    """All pages under the prose folder, by site, in sorted order."""
    sites = sorted(path for path in folder.iterdir() if path.is_dir())
    return {site.name: [read_page(path) for path in sorted(site.glob("*.md"))] for site in sites}


def plain_text(page: Page) -> str:
    """A page as a plain text document."""
    body = ("\n".join(block.lines) for block in page.blocks)
    return "\n\n".join([page.title, f"{page.author}, {page.date}", *body]) + "\n"
