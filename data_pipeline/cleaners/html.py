"""Raw bytes to main text: charset, parse, main content, normal form, language, title.

Resiliparse (lexbor) finds the main content: fast (all in all 2 to 5 ms a page), high recall, some link lists left
over. Its rule that a bullet list near the top of the tree is navigation costs manuals all their lists, so the body is
wrapped in three more elements first. Its cost is depth times tags (and worse for some hostile pages), so a linear scan
drops pages that are too deep before they are parsed. Memory: some ten times the page. Nothing in a page raises.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from data_pipeline.cleaners.density import num_text_chars
from data_pipeline.document import Document, Drop
from mindllm.text import CJK, language, normalise

MAX_NESTING = 20_000_000  # parsing and extraction stay below a second or so; of 3,950 real pages none passed 57,000
MAX_TITLE = 300  # characters
_MAX_CONTROLS = 0.1  # share of control bytes from which a file is no page
_SHORT, _LONG = 50, 200  # characters: less main content than _SHORT is none, if the body holds _LONG
# Never main content. The words are few and long: "side", "menu", "tag", "list" also name containers of good text.
_SKIPPED = ["nav", "footer", "aside", "header:not(:has(h1))"]
_SKIPPED += [f"[role={role}]" for role in ("navigation", "banner", "contentinfo", "search", "dialog")]
_SKIPPED += [f"[{key}*={word}]" for word in ("footer", "copyright", "cookie", "breadcrumb") for key in ("class", "id")]
_SKIPPED += [
    f"[class*={word}]" for word in ("caption", "byline", "popup", "modal", "sharing", "pagination", "newsletter")
]

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CODECS = {"gbk": "gb18030", "gb2312": "gb18030", "big5": "big5hkscs"}  # supersets: pages use more than they declare
_META_CHARSET = re.compile(rb"<meta[^<>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\r\f\x1b")
_BODY = re.compile(r"</head\s*>|<body\b[^<>]*>", re.IGNORECASE)

_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style|textarea|title|iframe|xmp)\b.*?(?:</\1|\Z)"
    r"|<(/?)([a-z][a-z0-9]*)[^<>]*",
    re.DOTALL | re.IGNORECASE | re.ASCII,
)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_MANY = 20_000  # characters of a tag: below, its attributes cost nothing to speak of
_LONG_TAG = re.compile(rf"<[a-z][^<>]{{{_MANY}}}", re.IGNORECASE)
# Elements that hold nothing, that the parser closes itself, or that cannot nest without one that is counted.
_UNCOUNTED = frozenset(
    "area base basefont bgsound br col embed frame hr img input link meta param source track wbr "
    "p li dt dd tr td th thead tbody tfoot colgroup caption option optgroup html head body a".split()
)

_LONE_BULLET = re.compile(r"^[ \t]*[•‣▪●◦·][ \t]*\n", re.MULTILINE)
_BULLET = re.compile(r"^ {0,2}( *)[•‣▪●◦][ \t]*", re.MULTILINE)
_NUMBER = re.compile(r"^ {2}( *[0-9]{1,4}\. )", re.MULTILINE)
_CELLS = re.compile(r"(?<=[^ \t\n])[ \t]*\t[ \t]*")
_PRE = re.compile(r"<pre\b", re.IGNORECASE)
_LAYOUT_INDENT = re.compile(r"^[ \t]+(?=[^\s•‣▪●◦])(?![0-9]{1,4}\. )", re.MULTILINE)
_CJK_INDENT = re.compile(f"^[ \\t]+(?=[{CJK}])", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_WIDE_INDENT = re.compile(r"^[ \t]*\u3000[ \t\u3000]*", re.MULTILINE)
_LINK_WORD = re.compile(r"[^\s|·•»›>/｜-]+")
_LIST_NUMBER = re.compile(r"[0-9]{1,4}\.")
_MAX_LINK_WORDS = 8


@dataclass(frozen=True)
class Html:
    """Turns meta["html"] (or meta["plain"]: bytes of plain text) into text, lang, and meta title, charset, link_chars.

    meta["charset"] may hold the HTTP charset and is overwritten by the one used. meta["extraction"] = "body" says that
    no main content was found and the whole body was taken. A document without either key passes unchanged.
    """

    max_bytes: int = 5_000_000

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.max_bytes < 1:
            yield "max_bytes: must be at least 1"

    def __call__(self, document: Document) -> Document | Drop:
        """Drops html:empty, html:too_large, html:binary, html:too_deep, html:no_text."""
        plain, html = document.meta.pop("plain", None), document.meta.pop("html", None)
        data = plain if html is None else html
        if data is None:
            return document
        reason = _refuse(data, self.max_bytes)
        if reason:
            return Drop(f"html:{reason}")
        text, document.meta["charset"] = decode(data, document.meta.get("charset") or "")
        if html is None:
            document.text, document.meta["link_chars"] = normalise(text), 0
        elif is_too_deep(text):
            return Drop("html:too_deep")
        else:
            _extract(text.replace("\v", ""), document)  # a blank to resiliparse, but not in HTML: it would part words
        document.lang = language(document.text)
        return document if document.text.strip() else Drop("html:no_text")


def extract_text(html: bytes, url: str = "") -> str:
    """The main text of one page (at `url`), as the cleaner makes it; "" where the cleaner would drop the page."""
    result = Html()(Document("", url, url, meta={"html": html}))
    return "" if isinstance(result, Drop) else result.text


def _refuse(data: bytes, max_bytes: int) -> str:
    """Why these bytes cannot be a page: empty, too_large, binary (a NUL, or a tenth control bytes); "" if they can."""
    if not data.strip():
        return "empty"
    if len(data) > max_bytes:
        return "too_large"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    controls = len(data) - len(data.translate(None, _CONTROLS))
    return "binary" if b"\0" in data or controls > _MAX_CONTROLS * len(data) else ""


def decode(data: bytes, http_charset: str = "") -> tuple[str, str]:
    """(text, charset used). Never raises: what no charset explains becomes U+FFFD.

    Byte order mark, else UTF-8 where it is valid or nearly so (a page cut inside a character, a bad byte among many
    good), else what the bytes look like, else what HTTP or the page declares. Declarations come last: they are often
    wrong on old Chinese pages.
    """
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(charset, "replace"), charset
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if broken == 0 or broken < 0.1 * (len(text) - len(text.encode("ascii", "ignore"))):
        return text, "utf-8"
    charset = _detect(data, http_charset)
    return data.decode(charset, "replace"), charset


def _detect(data: bytes, http_charset: str) -> str:
    """A Python codec name. A few bytes of Chinese look like Greek or Western; there a declared CJK charset wins."""
    meta = _META_CHARSET.search(data[:4096])
    declared = [_known(http_charset), _known(meta[1].decode("ascii", "ignore") if meta else "")]
    chinese = [c for c in declared if c in _CODECS.values() and _decodes(data, c)]
    detected = _known(detect_encoding(data, html5_compatible=False) or "")
    if chinese and detected not in _CODECS.values():
        return chinese[0]
    return next((c for c in [detected, *declared] if c and not c.startswith("utf")), "cp1252")


def _known(charset: str) -> str:
    """The Python codec for a charset label of the web; "" for an unknown one."""
    name = (map_encoding_to_html5(charset, fallback_utf8=False) if charset else None) or ""
    return _CODECS.get(name.lower(), name.lower())


def _decodes(data: bytes, charset: str) -> bool:
    try:
        data.decode(charset)
    except UnicodeDecodeError:
        return False
    return True


def is_too_deep(html: str) -> bool:
    """Whether `nesting` exceeds MAX_NESTING; at once for pages with too few tags to get there."""
    num_tags = html.count("<") - html.count("</")
    return (num_tags**2 > MAX_NESTING or _LONG_TAG.search(html) is not None) and nesting(html) > MAX_NESTING


def nesting(html: str) -> int:
    """Sum over opening tags of the number of elements open around them: an upper estimate of what parsing costs.

    A closing tag counts only where it closes the innermost open element, so sloppy and hostile pages are rated too
    high. The parser is quadratic in the options of a select and the attributes of a tag, too: each counts as if it
    held the next. About 60 MB/s; stops soon after MAX_NESTING.
    """
    total = options = 0
    stack: list[str] = []
    for token in _TOKEN.finditer(html):
        if token[3] is None:
            continue
        name = token[3].lower()
        if token.end() - token.start() > _MANY:
            total += len(re.findall(r"[\s/]", _QUOTED.sub("", token[0]))) ** 2 // 20
        if token[2]:
            if stack and stack[-1] == name:
                stack.pop()
            continue
        options = 0 if name == "select" else options + (name == "option")
        total += len(stack) + options * (name == "option")
        if name not in _UNCOUNTED and not token[0].endswith("/"):
            stack.append(name)
        if total > MAX_NESTING:
            break
    return total


def _extract(text: str, document: Document) -> None:
    """Parse decoded HTML; set the document's text, title, link_chars and how the text was found."""
    tree = HTMLTree.parse(_wrap(text))
    has_code = _PRE.search(text) is not None
    document.text = _tidy(_plain_text(tree, main_content=True), has_code)
    if len(document.text) < _SHORT:
        body = _tidy(_plain_text(tree, main_content=False), has_code)
        if len(body) >= _LONG:
            document.text, document.meta["extraction"] = body, "body"
    title = " ".join(normalise(tree.title or "").split())[:MAX_TITLE]
    if title:
        document.meta.setdefault("title", title)
    document.meta["link_chars"] = _count_link_chars(tree, document.text)


def _wrap(text: str) -> str:
    """Three more elements between the body and its content (see the module's docstring)."""
    place = _BODY.search(text)
    at = place.end() if place else 0
    return f"{text[:at]}<div><div><div>{text[at:]}"


def _plain_text(tree: HTMLTree, main_content: bool) -> str:
    return extract_plain_text(
        tree,
        main_content=main_content,
        preserve_formatting=True,
        comments=False,
        alt_texts=False,
        skip_elements=_SKIPPED,
    )


def _tidy(text: str, has_code: bool) -> str:
    """The normal form of extracted text: "- " bullets, one tab between table cells, no wide spaces as indentation.

    Without a `pre` element indentation is layout (empty table cells, later paragraphs of list items) and goes; what was
    written with no-break spaces before Latin text may be code and stays.
    """
    text = _CELLS.sub("\t", normalise(text if has_code else _LAYOUT_INDENT.sub("", text)))
    text = text if has_code else _CJK_INDENT.sub("", text)
    text = _NUMBER.sub(r"\1", _BULLET.sub(r"\1- ", _LONE_BULLET.sub("", text + "\n")))
    return _BLANK_LINES.sub("\n\n", _WIDE_INDENT.sub("", text)).strip("\n")


def _count_link_chars(tree: HTMLTree, text: str) -> int:
    """Text characters in the lines that consist of the texts of links only; bullets, numbers, separators aside."""
    if tree.body is None:
        return 0
    anchors = tree.body.query_selector_all("a[href]")[:]  # slow: iterating the collection itself is quadratic
    lines = normalise("\n".join(" ".join((a.text or "").split()) for a in anchors)).split("\n")
    texts = {" ".join(_LINK_WORD.findall(line)) for line in lines} - {""}
    linked = [line for line in text.split("\n") if _is_linked(_LINK_WORD.findall(line), texts)]
    return num_text_chars("\n".join(linked))


def _is_linked(words: list[str], texts: set[str]) -> bool:
    """Whether `words` is a row of link texts, maybe after a list number: greedy, the longest first."""
    if not texts or not words:
        return False
    if " ".join(words) in texts:
        return True
    at = 1 if _LIST_NUMBER.fullmatch(words[0]) and len(words) > 1 else 0
    while at < len(words):
        for size in range(min(_MAX_LINK_WORDS, len(words) - at), 0, -1):
            if " ".join(words[at : at + size]) in texts:
                at += size
                break
        else:
            return False
    return True
