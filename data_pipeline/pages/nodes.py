"""What the tags of HTML are to a reader, and the text of single nodes of lexbor's tree."""

from __future__ import annotations

from collections.abc import Iterator

from selectolax.lexbor import LexborNode

INLINE, BLOCK, BREAK, RULE, SKIPPED, SILENT, PRE, CELL, ITEM, HEAD, PARAGRAPH, CAPTION = range(12)
_TAGS = {
    INLINE: "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark nobr picture q rb rp "
    "rt ruby s samp small source span strike strong sub sup time tt u var wbr map area",
    BREAK: "br",
    RULE: "hr",
    # never main content, but seen by the reader
    SKIPPED: "nav footer menu select button textarea dialog",
    SILENT: "script style noscript template svg math iframe object embed canvas audio video input head title link meta "
    "frameset noframes applet datalist progress meter -comment",
    PRE: "pre listing xmp plaintext",
    CELL: "td th",
    ITEM: "li dt dd",
    HEAD: "h1 h2 h3 h4 h5 h6",
    PARAGRAPH: "p",
    CAPTION: "figcaption caption",
}
KINDS = {tag: kind for kind, tags in _TAGS.items() for tag in tags.split()}
# Deeper elements are read as plain text: no page nests so deep for a reason, and Python's stack is finite.
MAX_DEPTH = 200


def text_size(node: LexborNode) -> int:
    """Bytes of text in an element, white space aside."""
    return len("".join(node.text().split()).encode("utf-8", "ignore"))


def is_mark(node: LexborNode) -> bool:
    """Whether it is an encyclopedia's "[edit]" beside a heading, or the number of a reference."""
    return any(
        word in (node.attrs.get("class") or "") for word in ("editsection", "reference", "edit-icon", "edit-link")
    )


def blank_before(node: LexborNode) -> str:
    """The white space between a node and the one before it, comments aside."""
    before = node.prev
    while before is not None and before.is_comment_node:
        before = before.prev
    return (before.text_content or "") if before is not None and before.is_empty_text_node else ""


def code_text(node: LexborNode, depth: int) -> Iterator[str]:
    """The text of a code element as it stands; line breaks and block-level elements in it begin new lines."""
    for child in node.iter(include_text=True):
        tag = child.tag or ""
        kind = KINDS.get(tag, BLOCK)
        if tag == "-text":
            yield child.text_content or ""
        elif kind == BREAK:
            yield "\n"
        elif kind not in (SILENT, SKIPPED) and depth >= MAX_DEPTH:
            yield from deep_text(child)
        elif kind not in (SILENT, SKIPPED):
            inner = "".join(code_text(child, depth + 1))
            yield inner if kind == INLINE or not inner or inner.endswith("\n") else inner + "\n"


def deep_text(node: LexborNode) -> Iterator[str]:
    """The text of an element that is nested too deep to be read as such."""
    for child in node.traverse(include_text=True):
        if (
            child.is_text_node
            and child.parent is not None
            and KINDS.get(child.parent.tag or "") not in (SILENT, SKIPPED)
        ):
            yield f"{child.text_content} "
