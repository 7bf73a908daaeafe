"""Pages at their addresses, and the markup of their blocks: modern, or that of the last century."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from html import escape
from typing import Any

from pages import Block, Page, roll

Links = list[tuple[str, str]]


@dataclass
class Doc:
    """A page at the address where it will stand, and the traps it carries."""

    page: Page
    site: str
    path: str
    traps: list[str] = field(default_factory=list)
    source: str = ""
    charset: str = "utf-8"
    claimed: str = "utf-8"

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://www.{self.site}.example/{self.path}"


@dataclass
class View:
    """A page together with all that its template needs."""

    doc: Doc
    site: dict[str, Any]
    words: dict[str, Any]
    related: Links
    titles: dict[str, str]

    def name(self, index: int, word: str) -> str:
        """A class name: the site's own, or one hashed the way style tools do it."""
        if self.site.get("hashed"):
            return word[0] + "_" + hashlib.sha256(f"{self.doc.site}{word}".encode()).hexdigest()[:6]
        return str(self.site["classes"][index])


def anchors(links: Links, join: str = "\n") -> str:
    """Links in a row."""
    return join.join(f'<a href="{href}">{escape(text)}</a>' for href, text in links)


def items(links: Links) -> str:
    """Links as a list."""
    return "<ul>\n" + "\n".join(f"<li>{anchors([link])}</li>" for link in links) + "\n</ul>"


def stale(texts: list[str], stem: str) -> Links:
    """Links to places that no sample page holds."""
    return [(f"/{stem}/{i + 1}.html", text) for i, text in enumerate(texts)]


def crosslink(view: View, html: str) -> str:
    """The first mention of another entry of the site as a link, an entry being linked once on a page."""
    if not (view.site.get("crosslink") and view.titles):
        return html
    names = sorted(view.titles, key=lambda name: (-len(name), name))
    pattern = re.compile(r"(?<![A-Za-z])(" + "|".join(map(re.escape, names)) + r")(?![A-Za-z])")
    return pattern.sub(lambda m: f'<a href="{view.titles.pop(m[1])}">{m[1]}</a>' if m[1] in view.titles else m[1], html)


def rows(block: Block) -> list[list[str]]:
    """The cells of a table."""
    return [[escape(cell.strip(), quote=False) for cell in line.strip("| ").split("|")] for line in block.lines]


def new_block(view: View, block: Block) -> str:
    """A block in the markup of our day."""
    lines = [escape(line, quote=False) for line in block.lines]
    if block.kind == "p":
        return f"<p>{crosslink(view, '<br>'.join(lines))}</p>"
    if block.kind == "h":
        edit = f' <a class="edit" href="#">{view.site["edit"]}</a>' if "edit" in view.site else ""
        return "\n".join(f'<h2 id="s{roll(line, 9999)}">{line}</h2>{edit}' for line in lines)
    if block.kind == "code":
        return f'<pre><code class="language-{block.info or "text"}">' + "\n".join(lines) + "</code></pre>"
    if block.kind == "table":
        cells = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows(block)]
        return "<table>\n" + "\n".join(f"<tr>{row}</tr>" for row in cells) + "\n</table>"
    if block.kind == "links":
        return items(list(zip(block.hrefs, block.lines, strict=True)))
    start = f' start="{block.info}"' if block.kind == "ol" and block.info != "1" else ""
    return f"<{block.kind}{start}>\n" + "\n".join(f"<li>{line}</li>" for line in lines) + f"\n</{block.kind}>"


def old_block(view: View, block: Block) -> str:
    """A block in the markup of the last century."""
    lines = [escape(line, quote=False) for line in block.lines]
    if block.kind == "p":
        text = "<BR>\n".join(lines)
        return f"　　{text}<BR><BR>" if view.site.get("break") else f"<P><FONT SIZE=3>{text}</FONT>"
    if block.kind == "h":
        return "\n".join(f"<P><FONT SIZE=4 COLOR=#003366><B>{line}</B></FONT><P>" for line in lines)
    if block.kind == "code":
        return "<PRE>" + "\n".join(lines) + "</PRE>"
    if block.kind == "table":
        cells = ["".join(f"<TD>{cell}" for cell in row) for row in rows(block)]
        return "<TABLE BORDER=1 CELLPADDING=4>\n" + "\n".join(f"<TR>{row}" for row in cells) + "\n</TABLE>"
    if block.kind == "links":
        return "<BR>\n".join("◎" + anchors([link]) for link in zip(block.hrefs, block.lines, strict=True)) + "<BR>"
    first = int(block.info or 1)
    marks = [f"{first + i}. " if block.kind == "ol" else "◎" for i in range(len(lines))]
    return "".join(f"{mark}{line}<BR>\n" for mark, line in zip(marks, lines, strict=True))
