"""Takes out what pages leave of scripts and style sheets as text: trackers, advertisement calls, CSS rules, comments.

The html cleaner drops script and style elements; broken comments and escaped scripts still arrive as lines of text.
Only lines of known kinds go, with the lines of code that hang on to them; nothing that is fenced or indented as code,
and nothing at all in a text that speaks of scripts or styles, for such pages teach them. A miss costs a few lines, a
false hit would cost a lesson its code. Cost: a few searches for words where there is none of it (100 to 200 MB/s).
"""

from __future__ import annotations

import re

_HINTS = (
    "{",
    "<!",
    "-->",
    "document.",
    "window.",
    "_hmt",
    "_gaq",
    "dataLayer",
    "adsbygoogle",
    "google_ad",
    "CDATA",
    "@import",
    "var ",
)

_SCRIPT = (
    r"\(?\s*function\s*\w*\s*\([\w\s,$]*\)\s*\{",  # function(){ ... or (function(a, b) { ...
    r"(?:var|let|const)\s+[\w$]+\s*=[^=].*[;{(\[,|]\s*$",  # var _hmt = _hmt || [];
    r"(?:window|document|location|jQuery|\$|googletag|_hmt|_gaq|dataLayer|ga|gtag|fbq)\s*[.(\[]\S.*[;{(,)]\s*$",
    r"\(\s*(?:adsbygoogle|window\.\w+)\s*=",
    r"(?:google_ad|BAIDU_CLB|bd_cpro|cpro|_bd_share|wgTitle|theForm)\w*\s*[=(].*;?\s*$",
)
_PROPERTY = r"-?[a-z][a-z-]*+\s*+:[^;{}]++"
_STYLE = (
    r"@(?:media|import|charset|font-face|keyframes|-webkit-keyframes)\b.*[{;]\s*$",
    # whole rules on one line; possessive, so that a hostile line cannot make it try all ways to cut one
    rf"(?:[.#\w*](?:[\w\s.#:>,*+~()-]|\[[^\]]*\])*+\{{\s*+{_PROPERTY}(?:;\s*+{_PROPERTY})*+;?\s*+\}}\s*+)+$",
)
_COMMENT = (
    r"<!(?:--)?\[(?:if|endif|CDATA)\b.*$",
    r"<!--(?:(?!-->).)*(?:-->)?\s*$",
    r"(?://)?\s*(?:<!\[CDATA\[|\]\]>|<!--|-->)\s*$",
)
_START = re.compile("|".join(f"(?:{kind})" for kind in (*_SCRIPT, *_STYLE, *_COMMENT)))
# What may follow inside: ends as a statement, or only closes brackets; a property of a rule that opened above.
_FOLLOWS = re.compile(r".*[;{}]\s*$|[\s{}()\[\];,]*$|//.*$|[\w$.]+\s*[=(].*[,(]\s*$|\s*[.#\w][\w\s.#:>,-]*,\s*$")
_TEACHES = re.compile(
    r"\b(?:javascript|jquery|css|stylesheets?|scripts?|html|typescript|analytics|node\.js|php|programming|source code|"
    r"algorithms?)\b|脚本|腳本|样式|樣式|代码|代碼|程式|编程|函数|函數",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\s*(?:```|~~~)")
_PROSE = re.compile(
    "[\u4e00-\u9fff]{4}|[,.] [A-Za-z]+ [a-z]+ [a-z]+ "
)  # inside a statement it is a string or a comment
_INDENTED = (" ", "\t", "\u3000")
_MAX_BLOCK = 60  # lines


def strip_markup_remains(text: str) -> tuple[str, int]:
    """The text without remains of scripts, styles and comments, and the number of lines that went (0: unchanged).

    A line goes when all of it is of a known kind, or when it follows such a line and is code, too, up to a blank line.
    Fenced (``` or ~~~) and indented lines stay, and so does everything in a text whose other lines speak of programs.
    """
    if not any(hint in text for hint in _HINTS):
        return text, 0
    lines = text.split("\n")
    junk = _find_junk(lines)
    if not junk or any(_TEACHES.search(line) for k, line in enumerate(lines) if k not in junk):
        return text, 0
    return "\n".join(line for k, line in enumerate(lines) if k not in junk), len(junk)


def _find_junk(lines: list[str]) -> set[int]:
    """The numbers of the lines that are remains."""
    junk: set[int] = set()
    fenced = False
    block = 0  # lines of the block that this line may belong to; 0: none is open
    for k, line in enumerate(lines):
        if _FENCE.match(line):
            fenced, block = not fenced, 0
        elif fenced or not line.strip():
            block = 0
        elif not line.startswith(_INDENTED) and _START.match(line):
            junk.add(k)
            block = 1
        elif 0 < block < _MAX_BLOCK and _FOLLOWS.match(line) and not _PROSE.search(line):
            junk.add(k)
            block += 1
        else:
            block = 0
    return junk
