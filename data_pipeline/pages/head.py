"""What the head of a page says of it: titles, date, and the article's text that some sites hand to search engines.

Read with a few regular expressions, since a parser's query costs as much as the whole page: <title>, Open Graph and
other <meta> tags, <time>, and schema.org's JSON-LD. Values are plain text: entities are resolved, tags removed. Cost:
.05 ms a page.
"""

from __future__ import annotations

import datetime
import html
import json
import re
from collections.abc import Collection, Iterator

MAX_TITLE = 300  # characters
_HEAD_CHARS = 200_000  # searched at most
_TITLE = re.compile(r"<title[^<>]*>(.{0,2000}?)</title", re.IGNORECASE | re.DOTALL)
_MAX_TAG = 4000  # characters
_ATTRIBUTE = re.compile(r"([a-z:-]{1,20})\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>]+))", re.IGNORECASE)
_TITLE_NAMES = ("og:title", "twitter:title", "headline")
_DATE_NAMES = frozenset(
    "article:published_time og:published_time datepublished date pubdate publishdate publish-date dc.date "
    "dc.date.issued dcterms.date dcterms.created sailthru.date parsely-pub-date weibo:article:create_at "
    "apub:time ptime".split()
)
_NAME = re.compile(r"[\s\"'](?:property|name|itemprop)\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_LD_DATE = re.compile(r"\"datePublished\"\s*:\s*\"([^\"]{8,40})\"")
_LD_BODY = re.compile(r"\"articleBody\"\s*:\s*(\"(?:[^\"\\]|\\.)*\")")
_TIME = re.compile(r"<time[^<>]{0,500}?datetime\s*=\s*[\"']([^\"']{8,40})[\"']", re.IGNORECASE)
_URL_DATE = re.compile(r"/((?:19|20)\d\d)[-/]?([01]\d)[-/]?([0-3]\d)?(?=[/_.-]|$)")
_ISO = re.compile(r"((?:19|20)\d\d)(?:(\d\d)(\d\d)|\s?[-/.年]\s?(\d\d?)\s?[-/.月]\s?(\d\d?)(?!\d))")
_TAG = re.compile(r"<[^<>]{1,300}>")


def find_titles(text: str) -> list[str]:
    """What the head calls the page: Open Graph's title and its like, then <title>."""
    end = _head_end(text)
    place = text.find("og:title", 0, end)  # nearly all pages have it; going through all tags takes five times as long
    start = text.rfind("<meta", 0, place) if place >= 0 else 0
    metas = _metas(text[start : place + _MAX_TAG], _MAX_TAG, _TITLE_NAMES) if place >= 0 and start >= 0 else {}
    metas = metas if "og:title" in metas else _metas(text, end, _TITLE_NAMES)
    title = _TITLE.search(text, max(0, text.find("<title", 0, end)), end)  # quick where it is in lower case
    titles = [metas[name] for name in _TITLE_NAMES if name in metas] + ([title[1]] if title else [])
    return [t for t in map(_plain, titles) if t]


def _head_end(text: str) -> int:
    end = text.find("</head", 0, _HEAD_CHARS)
    return end if end >= 0 else min(len(text), _HEAD_CHARS)


def _metas(text: str, end: int, names: Collection[str]) -> dict[str, str]:
    """Contents of the meta tags before `end` that have one of these names; the first of a name counts."""
    found: dict[str, str] = {}
    for start, stop in _meta_tags(text, end):
        named = _NAME.search(text, start, stop)
        if named is None or named[1].lower() not in names:  # taking all of them apart is slow
            continue
        values = {m[1].lower(): m[2] or m[3] or m[4] or "" for m in _ATTRIBUTE.finditer(text, start, stop)}
        if values.get("content"):
            found.setdefault(named[1].lower(), values["content"])
    return found


def _meta_tags(text: str, end: int) -> Iterator[tuple[int, int]]:
    """Where the meta tags before `end` begin and stop."""
    start = text.find("<meta", 0, end)
    if start < 0:
        text = text[:end].lower()
        start = text.find("<meta")
    while start >= 0:
        stop = text.find(">", start, start + _MAX_TAG)
        yield start, stop if stop >= 0 else start
        start = text.find("<meta", start + 1, end)


def _plain(value: str) -> str:
    return " ".join(html.unescape(value).split())[:MAX_TITLE]


def find_date(text: str, url: str) -> str:
    """The day of publication as YYYY-MM-DD, by meta tags, JSON-LD, the first <time> or the address; "" if unknown."""
    return next((date for date in map(_iso_date, _given_dates(text)) if date), "") or _url_date(url)


def _given_dates(text: str) -> Iterator[str]:
    """What the page gives as its date, the surest first; the later ones are slow to find."""
    yield from _metas(text, _head_end(text), _DATE_NAMES).values()
    for marker, pattern in (("datePublished", _LD_DATE), ("<time", _TIME)):
        place = text.find(marker)  # ten times as quick as the pattern
        found = pattern.search(text, max(0, place - 1)) if place >= 0 else None
        if found:
            yield found[1]


def _iso_date(value: str) -> str:
    found = _ISO.match(value.strip())
    return _valid(found[1], found[2] or found[4], found[3] or found[5]) if found else ""


def _url_date(url: str) -> str:
    found = _URL_DATE.search(url)
    return _valid(found[1], found[2], found[3]) if found and found[3] else ""


def _valid(year: str, month: str, day: str) -> str:
    try:
        return datetime.date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return ""


def article_body(text: str) -> str:
    """schema.org's articleBody as plain text: for pages whose article is put in place by a script; "" if absent."""
    found = _LD_BODY.search(text)
    if found is None:
        return ""
    try:
        body = json.loads(found[1], strict=False)
    except ValueError:
        return ""
    lines = _TAG.sub("\n", html.unescape(body)).split("\n")
    return "\n\n".join(line for line in map(str.strip, lines) if line)
