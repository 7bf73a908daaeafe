"""Which format a file holds: its suffix says what to expect, its first bytes overrule it where they are plain.

| suffix (upper or lower case; also before ?, @, ; as wget writes pages)         | read as                            |
|---------------------------------------------------------------------------------|------------------------------------|
| .html .htm .xhtml .shtml .php .asp .aspx .jsp .jspx .jhtml .phtml .cfm .cgi .do | a page                             |
| .txt .text                                                                      | plain text                         |
| .jsonl .ndjson .json                                                            | records: lines, or one array       |
| .warc .wet, .parquet                                                            | themselves                         |
| all of them also with .gz, .zst, .lz4                                           | the same (Parquet: not compressed) |
| any other, or none                                                              | what the content shows, if it does |
Content: gzip, zstd and lz4 are undone whatever the suffix; WARC and Parquet are known by their first bytes; what begins
like HTML is a page; what begins with a JSON object that has the source's text or html field is records; what is named
as a page, but has no tag in its first 4 KB, is plain text. PDF, office documents, images, sound, video, archives, ARC,
MHTML, XML feeds and program sources are not read: read:unknown_format.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

PAGE, TEXT, LINES, VALUES, WARC, PARQUET, UNKNOWN = "page", "text", "lines", "values", "warc", "parquet", "unknown"
HEAD_BYTES = 4096
# What readers raise for damaged files.
DAMAGE = (OSError, EOFError, ValueError, RecursionError, MemoryError, zlib.error, pa.ArrowException)

_SUFFIXES = {
    PAGE: "html htm xhtml shtml php php3 php5 phtml asp aspx jsp jspx jhtml cfm cgi do".split(),
    TEXT: ["txt", "text"],
    LINES: ["jsonl", "ndjson", "json"],
    WARC: ["warc", "wet"],
    PARQUET: ["parquet"],
}
_KINDS = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_COMPRESSIONS = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".lz4": b"\x04\x22\x4d\x18"}
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # how files of pzstd, and seekable ones, begin
_TAGS = b"html head body title meta link script style base div p table h[1-6] ul ol dl center font".replace(b" ", b"|")
_PAGE_START = re.compile(  # possessive (++, *+): no going back, so no hostile beginning is slow
    rb"(?:\s++|<\?xml[^>]{0,200}+>|<!--.{0,2000}?-->)*+<(?:!doctype\s+html|(?:%b)[\s/>])" % _TAGS,
    re.IGNORECASE | re.DOTALL,
)
_WARC_START = re.compile(rb"WARC/[01]\.[0-9]+\r?\n")
_VALUES_START = re.compile(rb"\s*\[\s*\{")
# How files begin that we do not read, and what they are. In a file named as text, words in ASCII are no sign.
_BINARY = {
    rb"%PDF-": "PDF", rb"PK\x03\x04|PK\x05\x06": "zip archive or office document", rb"Rar!\x1a\x07": "rar archive",
    rb"7z\xbc\xaf\x27\x1c": "7z archive", rb"BZh[1-9]1AY&SY": "bzip2", rb"\xfd7zXZ\x00": "xz",
    rb".{257}ustar": "tar archive", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "old office document", rb"\{\\rtf1": "RTF",
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|II\*\x00|MM\x00\*|\x00\x00\x01\x00|RIFF.{4}WEBP": "image",
    rb"ID3[\x02-\x04]|OggS\x00|fLaC\x00|\x1aE\xdf\xa3|.{4}ftyp|RIFF.{4}(?:WAVE|AVI )": "sound or video",
    rb"\x7fELF|MZ\x90\x00|\x00asm|\xca\xfe\xba\xbe": "program", rb"wOF[F2]|\x00\x01\x00\x00\x00": "font",
    rb"SQLite format 3\x00": "SQLite database", rb"ARROW1\x00\x00": "Arrow file",
}  # fmt: skip
_WORDS = {
    rb"filedesc://": "ARC archive", rb"From: <Saved by|MIME-Version:": "MHTML or mail", rb"%!PS": "PostScript",
    rb"\s*<\?php": "PHP source", rb"\s*<%": "page source", rb"\s*(?:<\?xml[^>]*>\s*)?<(?:rss|feed|svg|urlset)\b": "XML",
}  # fmt: skip
_ANY_BINARY, _ANY_WORD = (re.compile(b"|".join(signs), re.DOTALL) for signs in (_BINARY, _WORDS))


def expected(name: str) -> str:
    """The kind that a file's name promises; UNKNOWN if it promises nothing."""
    # as wget writes pages: index.php?id=3, index.php@id=3
    for part in (_without_compression(name), _without_compression(re.split("[?@;#]", name, maxsplit=1)[0])):
        _, dot, suffix = part.rpartition("/")[2].rpartition(".")
        if dot and suffix in _KINDS:
            return _KINDS[suffix]
    return UNKNOWN


def stands_alone(name: str) -> bool:
    """Whether a file's name promises many documents, so that it is a shard of its own; .json is small as a rule."""
    return expected(name) in (WARC, LINES, PARQUET) and not _without_compression(name).endswith(".json")


def stem(name: str) -> str:
    """A file's name without folders, compression and suffix: "a" of x/a.jsonl.gz."""
    last = _without_compression(name.rpartition("/")[2])
    return last.rpartition(".")[0] or last


def recognise(name: str, head: bytes, fields: Iterable[str]) -> tuple[str, str]:
    """(kind, what it looks like if the kind is UNKNOWN) of a file, from its name and first HEAD_BYTES, decompressed.

    `fields`: the keys of text and HTML in records; in a file that is not named as records, only they make it some.
    """
    kind = expected(name)
    start = head.removeprefix(codecs.BOM_UTF8)
    if _WARC_START.match(start):
        return WARC, ""
    if start.startswith(b"PAR1"):
        return PARQUET, ""
    if kind in (WARC, PARQUET):
        return kind, ""
    foreign = _foreign(start, words=kind != TEXT)
    if foreign:
        return UNKNOWN, foreign
    if _PAGE_START.match(_ascii(start)):
        return PAGE, ""
    if kind == LINES:
        pretty = _without_compression(name).endswith(".json") and _is_open(start)
        return (VALUES if pretty or _VALUES_START.match(start) else LINES), ""
    if _is_records(start, set(fields)):
        return (VALUES if _VALUES_START.match(start) else LINES), ""
    if kind == UNKNOWN:
        return UNKNOWN, "binary" if b"\0" in head else "text"
    return TEXT if kind == PAGE and start and not re.search(rb"[<\0]", _ascii(start)) else kind, ""


def open_file(path: Path) -> tuple[io.BufferedReader, str]:
    """The file's bytes, decompressed if they begin like gzip, zstd or lz4, and the suffix of that ("" for none).

    Raises OSError (no regular file, no permission, a clipped beginning under a compression's suffix).
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever
        raise OSError("no file, but a folder that cannot be listed or that leads back to itself, a pipe, or a device")
    file = open(path, "rb")
    head = file.read(4)
    if _SKIPPABLE.match(head) and path.suffix.lower() == ".zst":
        file.close()
        return _decompressed(path, ".zst"), ".zst"
    for suffix, magic in _COMPRESSIONS.items():
        clipped = len(head) < len(magic) and magic.startswith(head) and path.suffix.lower() == suffix
        if clipped or head.startswith(magic):
            file.close()
            if clipped:
                raise EOFError(f"{len(head)} bytes, the beginning of {suffix}")
            return _decompressed(path, suffix), suffix
    file.seek(0)
    return file, ""


def _decompressed(path: Path, suffix: str) -> io.BufferedReader:
    if suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]  # peeks and reads like one
    # pyarrow's readers take several frames, and say so when the last one is clipped
    return io.BufferedReader(pa.input_stream(str(path), compression={".zst": "zstd", ".lz4": "lz4"}[suffix]))


def utf16_mark(head: bytes) -> bytes:
    """The byte order mark that UTF-16 without one needs; b"" for anything else. Seen by the zeros beside ASCII."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or len(head) < 4:
        return b""
    even, odd = head[: len(head) & ~1 : 2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if odd > 0.2 * half and even < 0.01 * half:
        return codecs.BOM_UTF16_LE
    return codecs.BOM_UTF16_BE if even > 0.2 * half and odd < 0.01 * half else b""


def _without_compression(name: str) -> str:
    stem, dot, suffix = name.lower().rpartition(".")
    return stem if dot + suffix in _COMPRESSIONS else name.lower()


def _ascii(head: bytes) -> bytes:
    """The head with UTF-16 undone as far as ASCII goes: enough to see tags."""
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or utf16_mark(head)
    return head[:HEAD_BYTES].replace(b"\0", b"").lstrip(b"\xff\xfe") if marked else head[:HEAD_BYTES]


def _foreign(head: bytes, words: bool) -> str:
    """What a file is that we do not read; "" for what we may."""
    for pattern, signs in ((_ANY_BINARY, _BINARY), (_ANY_WORD, _WORDS if words else {})):
        if signs and pattern.match(head):  # one look for nearly all files
            return next(what for sign, what in signs.items() if re.match(sign, head, re.DOTALL))
    return ""


def _is_open(head: bytes) -> bool:
    """Whether the first line begins a JSON object that later lines close."""
    line, end, _ = head.lstrip().partition(b"\n")
    if not line.startswith(b"{") or not end:
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def _is_records(head: bytes, fields: set[str]) -> bool:
    """Whether the head is JSON with one of `fields` as a key: one line, or as much of it as there is."""
    if not re.match(rb"\s*(?:\[\s*)?\{\s*\"", head):
        return False
    keys = b"|".join(re.escape(json.dumps(f, ensure_ascii=False).encode()) for f in sorted(fields) if f)
    return re.search(rb"(?:%b)\s*:\s*\"" % keys, head) is not None if keys else False
