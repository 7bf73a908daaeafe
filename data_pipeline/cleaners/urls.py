"""Drops documents by blocklists of hosts, of URL prefixes and of words in the path; nothing is listed by default.

Lists are plain text, never regular expressions, so that no list can make a run slow. Hosts are kept as sorted 64-bit
hashes: a million load in half a second (once a process) and take 8 MB, a look-up takes microseconds. memory: prefixes
stay strings (about 120 bytes each); reading holds one list, of up to MAX_LIST_BYTES, at a time.
"""

from __future__ import annotations

import bisect
import functools
import ipaddress
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import xxhash

from data_pipeline.document import Document, Drop, Measure
from data_pipeline.lists import Stamp, read_text, stamp
from mindllm.config import UserError
from mindllm.text import units

MAX_HOST = 253  # characters of a host name (RFC 1035, section 2.3.4, without the final dot)
_MAX_URL = 20_000  # characters of a URL that are looked at
_PLAIN_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_HOST_LINE = re.compile(
    rb"^(?:0\.0\.0\.0 )?([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){1,9})\r?$|^.+", re.MULTILINE | re.ASCII
)
_NEWLINE = b"\n"


class Parts(NamedTuple):
    """What is compared of a URL: the host in its normal form, path and query with the percent signs undone."""

    host: str
    path: str


def normal_host(host: str) -> str:
    """A host in lower case, without port and final dot, in ASCII (IDNA: punycode); "" where it can be none."""
    host = host.strip().lower().rstrip(".")
    if not _PLAIN_HOST.fullmatch(host):
        host = _ascii_host(host)
    return host if len(host) <= MAX_HOST else ""


def _ascii_host(host: str) -> str:
    host = unquote(host) if len(host) <= 9 * MAX_HOST else ""  # %E6%96%B0 is one character
    if host.startswith("["):  # IPv6
        return host[1:].partition("]")[0]
    host = host.partition(":")[0] if host.count(":") == 1 else host
    if not host.isascii() and len(host) <= MAX_HOST:  # longer ones are none, and slow to encode
        try:
            host = host.encode("idna").decode().lower()
        except UnicodeError:  # newer than the codec's tables (IDNA 2003), such as emoji: plain punycode
            host = ".".join(x if x.isascii() else f"xn--{x.encode('punycode').decode()}" for x in host.split("."))
    return "" if re.search(r"[\s/@]", host) else host.strip(".")


def split_url(url: str) -> Parts:
    """Host and path of a URL, with or without a scheme; user, password, port and fragment go. Never raises."""
    url = url.strip()[:_MAX_URL]
    try:
        found = urlsplit(url if "://" in url.partition("?")[0] or url.startswith("//") else f"//{url}")
        host = found.hostname or ""
    except ValueError:  # [ without ], for example
        return Parts("", "")
    path = unquote(found.path + (f"?{found.query}" if found.query else "")) or "/"
    return Parts(normal_host(host), path if path.startswith("/") else f"/{path}")


class Hosts:
    """A set of hosts; `host in hosts` is true for a listed host and for all below it (www.a.example for a.example)."""

    def __init__(self, hosts: Iterable[bytes]):
        hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, hosts), dtype=np.uint64)
        self._hashes = array("Q", np.sort(hashes).tobytes())

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, host: object) -> bool:
        labels = str(host).encode("utf-8", "surrogatepass").split(b".") if host and len(self) else []
        return any(self._holds(b".".join(labels[i:])) for i in range(len(labels)))

    def _holds(self, host: bytes) -> bool:
        wanted = xxhash.xxh3_64_intdigest(host)
        place = bisect.bisect_left(self._hashes, wanted)
        return place < len(self) and self._hashes[place] == wanted


class Prefixes:
    """A set of URL beginnings; `"host/path" in prefixes` is true when one of them begins it, character by character."""

    def __init__(self, prefixes: Iterable[str]):
        self._sorted: list[str] = []
        for prefix in sorted(prefixes):  # what a shorter one covers is left out, so only one can begin a URL
            if not self._sorted or not prefix.startswith(self._sorted[-1]):
                self._sorted.append(prefix)

    def __contains__(self, url: object) -> bool:
        place = bisect.bisect_right(self._sorted, str(url))
        return place > 0 and str(url).startswith(self._sorted[place - 1])


class Words:
    """A set of words; `path in words` is true when the path holds all units of a word in a row (see mindllm.text)."""

    def __init__(self, words: Iterable[str]):
        self._words = {tuple(units(word.lower())) for word in words}
        self._sizes = sorted({len(word) for word in self._words})

    def __contains__(self, path: object) -> bool:
        found = units(str(path).lower()) if self._words else []
        rows = (tuple(found[i : i + size]) for size in self._sizes for i in range(len(found) - size + 1))
        return any(row in self._words for row in rows)


def read_list(path: str | Path) -> Iterator[tuple[int, str]]:
    """(line number, entry) of a UTF-8 list, gzipped if its name ends in .gz: one entry a line, # begins a comment.

    Raises UserError as lists.read_text does.
    """
    for number, line in enumerate(read_text(path, "UTF-8").split("\n"), 1):
        entry = _without_comment(line)
        if entry:
            yield number, entry


def _without_comment(line: str) -> str:
    line = line.strip()
    return "" if line.startswith("#") else line.partition(" #")[0].rstrip()


def read_hosts(path: str | Path) -> Iterator[bytes]:
    """The hosts of a list in normal form, one after the other. Raises UserError as read_list, and for what is no host.

    slow: two million lines a second; most are plain, and those are taken as they are, without a function call.
    """
    data = read_text(path, "UTF-8").encode().lower()  # ASCII only; what else there is becomes lower case with its line
    for match in _HOST_LINE.finditer(data):
        if match[1]:
            yield match[1]
        elif entry := _without_comment(match[0].decode()):
            try:
                yield _host_entry(entry).encode()
            except UserError as error:
                raise UserError(f"{path}:{data.count(_NEWLINE, 0, match.start()) + 1}: {error}") from None


def _host_entry(entry: str) -> str:
    """a.example, *.a.example, .a.example or, as in hosts files, 0.0.0.0 a.example; all in normal form."""
    fields = entry.split()
    if len(fields) == 2 and _is_address(fields[0]):
        entry = fields[1]
    host = normal_host(entry.removeprefix("*").removeprefix("."))
    if not host:
        raise UserError(f"{entry[:80]!r} is no host (beginnings of URLs go into prefixes)")
    return host


@functools.lru_cache(maxsize=64)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _prefix_entry(entry: str) -> str:
    parts = split_url(entry)
    if not parts.host:
        raise UserError(f"{entry[:80]!r} is no beginning of a URL: expected host/path")
    return parts.host + parts.path


def _word_entry(entry: str) -> str:
    if len("".join(units(entry))) < 2:
        raise UserError(f"{entry[:80]!r} has fewer than two letters; it would hit everywhere")
    return entry


@functools.lru_cache(maxsize=12)  # cleaners are built anew for every shard
def _load(kind: str, listed: tuple[str, ...], files: tuple[Stamp, ...]) -> Any:
    """Hosts, Prefixes or Words of the entries in the config and in files. Raises UserError naming file and line."""
    if kind == "hosts":
        return Hosts(chain((_host_entry(e).encode() for e in listed), *(read_hosts(path) for path, _, _ in files)))
    entry_of, set_of = (_prefix_entry, Prefixes) if kind == "prefixes" else (_word_entry, Words)
    return set_of(chain(map(entry_of, listed), *(_entries(entry_of, path) for path, _, _ in files)))


def _entries(entry_of: Callable[[str], str], path: str) -> Iterator[str]:
    for number, entry in read_list(path):
        try:
            yield entry_of(entry)
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from None


@dataclass(frozen=True)
class Urls:
    """Drops urls:blocked_host, urls:blocked_url, urls:blocked_word.

    hosts: a listed host blocks all hosts below it, too; a document without a URL is judged by its site.
    prefixes: beginnings of URLs (host and path; the scheme does not matter): a.example/ads blocks a.example/ads-2 too,
    a.example/ads/ does not.  words: blocked in path and query, where they stand between separators; a Chinese word
    anywhere among Chinese characters.  *_files: the same, one a line (see `read_list`).
    """

    hosts: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    host_files: list[str] = field(default_factory=list)
    prefix_files: list[str] = field(default_factory=list)
    word_files: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each; the lists are read and checked."""
        for kind in ("hosts", "prefixes", "words"):
            try:
                self._load(kind)
            except UserError as error:
                yield f"{kind}: {error}"

    def __call__(self, document: Document) -> Document | Drop:
        """The document unchanged, or why it goes."""
        reason = self._reason(document)
        return Drop(f"urls:{reason}") if reason else document

    def measures(self, document: Document) -> Iterator[Measure]:
        """What is compared with the lists, and whether one of them holds it."""
        parts, reason = _parts(document), self._reason(document)
        yield Measure("host", parts.host, "not on the lists", reason != "blocked_host")
        yield Measure("path", parts.path, "not on the lists", reason not in ("blocked_url", "blocked_word"))

    def _reason(self, document: Document) -> str:
        parts = _parts(document)
        if parts.host in self._hosts:
            return "blocked_host"
        if parts.host and parts.host + parts.path in self._prefixes:
            return "blocked_url"
        return "blocked_word" if parts.path in self._words else ""

    @functools.cached_property
    def _hosts(self) -> Hosts:
        return self._load("hosts")

    @functools.cached_property
    def _prefixes(self) -> Prefixes:
        return self._load("prefixes")

    @functools.cached_property
    def _words(self) -> Words:
        return self._load("words")

    def _load(self, kind: str) -> Any:
        files = {"hosts": self.host_files, "prefixes": self.prefix_files, "words": self.word_files}[kind]
        return _load(kind, tuple(getattr(self, kind)), tuple(map(stamp, files)))


def _parts(document: Document) -> Parts:
    parts = split_url(document.url) if document.url else Parts("", "")
    return parts if parts.host else Parts(normal_host(document.site), parts.path)
