"""Which pages would take the parser too long: those that nest too deep, or hold a tag with too many attributes.

HTML parsers spend time on every open element at every tag: 100,000 nested elements cost 15 s, a hostile page of 5 MB
hours. A linear scan finds such pages before they are parsed. Cost: .1 ms for ordinary pages, 60 MB/s for large ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

MAX_NESTING = 20_000_000  # parsing stays below a second or so; of 3,950 real pages none passed 57,000

_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style|textarea|title|iframe|xmp|noscript)\b.*?(?:</\1|\Z)"
    r"|<(/?)([a-z][a-z0-9]*)[^<>]*",
    re.DOTALL | re.IGNORECASE | re.ASCII,
)
_BRACKET = ord("<")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_MANY = 20_000  # characters of a tag: below, its attributes cost nothing to speak of
# Elements that hold nothing, that the parser closes itself, or that cannot nest without one that is counted.
_UNCOUNTED = frozenset(
    "area base basefont bgsound br col embed frame hr img input link meta param source track wbr "
    "p li dt dd tr td th thead tbody tfoot colgroup caption option optgroup html head body a".split()
)


def is_too_deep(html: str, data: bytes = b"") -> bool:
    """Whether parsing costs more than MAX_NESTING steps; at once for pages with too few tags to get there.

    data: the bytes that `html` was decoded from, if at hand: counting in them is quicker.
    """
    num_tags = int(np.count_nonzero(np.frombuffer(data, np.uint8) == _BRACKET)) if data else html.count("<")
    if num_tags**2 > MAX_NESTING:
        num_tags = html.count("<") - html.count("</")
    if num_tags**2 > MAX_NESTING and nesting(html) > MAX_NESTING:
        return True
    return sum(map(_attribute_cost, _long_tags(html))) > MAX_NESTING


def _long_tags(html: str) -> Iterator[str]:
    """The tags of more than _MANY characters: each holds a whole stretch of half as many without angle brackets."""
    step, end = _MANY // 2, 0
    for start in range(0, len(html) - step, step):
        if start < end or html.find("<", start, start + step) >= 0 or html.find(">", start, start + step) >= 0:
            continue
        begin = html.rfind("<", 0, start)
        end = html.find(">", start)
        end = end if end >= 0 else len(html)
        if end - begin > _MANY and html[begin + 1 : begin + 2].isalpha() and html.rfind(">", 0, start) < begin:
            yield html[begin:end]


def _attribute_cost(tag: str) -> int:
    return len(re.findall(r"[\s/]", _QUOTED.sub("", tag))) ** 2 // 20


def nesting(html: str) -> int:
    """Sum over opening tags of the number of elements open around them: an upper estimate of what parsing costs.

    A closing tag counts only where it closes the innermost open element, so sloppy and hostile pages are rated too
    high. The parser is quadratic in the options of a select and the attributes of a tag, too: each counts as if it
    held the next. Stops soon after MAX_NESTING.
    """
    total = options = 0
    stack: list[str] = []
    for token in _TOKEN.finditer(html):
        if token[3] is None:
            continue
        name = token[3].lower()
        if token.end() - token.start() > _MANY:
            total += _attribute_cost(token[0])
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
