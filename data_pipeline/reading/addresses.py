"""Names of input files, local or behind URLs: put together, taken apart, and shown without secrets.

A name below a root is a path or the end of a URL; with no root it is complete. Queries of http URLs may hold a
signature that opens a private file, so no message, id or plan holds a query: an id has a hash of it, or nothing where
it is signed. Costs nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from data_pipeline.sources import SECRETS
from mindllm.config import UserError

HTTP = ("http", "https")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_USER_IN_TEXT, _QUERY_IN_TEXT = re.compile(r"(?<=://)[^/@\s'\"]*@"), re.compile(r"[?#][^\s'\"<>)]+")
_SIGNED = (*SECRETS, "sig", "expires", "policy")  # words in the keys of a signed query


class Entry(NamedTuple):
    """A file as a listing shows it: name below the root, bytes (None: unknown), what identifies its content ("")."""

    name: str
    num_bytes: int | None = None
    stamp: str = ""


def is_url(text: str, *schemes: str) -> bool:
    """Whether a text begins as a URL: of one of `schemes`, or of any."""
    found = _URL.match(text)
    return found is not None and (not schemes or found[1].lower() in schemes)


def join(root: str, name: str) -> str:
    """The path or URL of a file: `name` below `root`, or `name` itself where there is no root."""
    return f"{root.rstrip('/')}/{name}" if root.strip("/") else root + name


def base_of(url: str) -> tuple[str, str]:
    """(the folder without / at its end, the name behind it) of a URL; an http folder ends in / and has the name ""."""
    scheme, _, rest = url.partition("://")
    path, mark, query = rest.partition("?") if scheme.lower() in HTTP else (rest, "", "")
    folder, slash, name = path.rpartition("/")
    if not slash:  # a host alone
        return f"{scheme}://{path}", ""
    return f"{scheme}://{folder}", name + mark + query if name else ""


def shown(url: str) -> str:
    """A URL for messages and plans: without user and password and, over http, without its query."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("/")
    rest = host.rpartition("@")[2] + slash + path
    return f"{scheme}://{rest.partition('?')[0].partition('#')[0] if scheme.lower() in HTTP else rest}"


def scrub(text: str) -> str:
    """A library's message without users, passwords and queries of URLs; anything behind a ? or # goes."""
    return _QUERY_IN_TEXT.sub("", _USER_IN_TEXT.sub("", text))[:1000]


def label(root: str, name: str) -> str:
    """The id of a file within its source: its name; in place of a query over http a hash of it, or nothing (signed)."""
    if not is_url(join(root, name), *HTTP) or "?" not in name:
        return name
    path, _, query = name.partition("?")
    keys = [key.lower() for key, _ in parse_qsl(query, keep_blank_values=True)]
    if any(word in key for word in _SIGNED for key in keys):
        return path
    return f"{path}?{hashlib.sha256(query.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def check(where: str, url: str) -> None:
    """Raises UserError for a URL that no file is read from: with a secret in it, or of this machine's own disk."""
    try:
        parts = urlsplit(url)
        secret = parts.password is not None or (parts.scheme.lower() in HTTP and "@" in parts.netloc)
    except ValueError as error:  # [ without ], for example
        raise UserError(f"{where}: {shown(url)} is no URL ({error})") from None
    if secret:
        way = "secrets come from the environment or ~/.netrc (docs/sources.md), not from a URL"
        raise UserError(f"{where}: {shown(url)} is given with a user or password in it; {way}")
    if parts.scheme.lower() in ("file", "local"):
        raise UserError(f"{where}: {shown(url)}: write a file of this machine as its path, without {parts.scheme}://")
