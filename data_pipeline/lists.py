"""Lists that users name in a config (hosts, words, terms): plain text files, read whole and safely.

Cleaners are built anew for every shard, so what they make of a list is kept in the process under the list's stamp: a
file that changes is read again. memory: one list at a time, at most MAX_LIST_BYTES decompressed.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from mindllm.config import UserError

MAX_LIST_BYTES = 200_000_000  # of one list, decompressed
_DAMAGE = (OSError, EOFError, ValueError, zlib.error)  # ValueError: a NUL in the path

Stamp = tuple[str, int, int]  # path, time of change in ns, bytes


def stamp(path: str | Path) -> Stamp:
    """What tells one content of a file from another. Raises UserError for a file that cannot be looked at."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return str(path), found.st_mtime_ns, found.st_size


def read_text(path: str | Path, *encodings: str) -> str:
    """The text of a file, gzipped if its name ends in .gz, in the first of `encodings` that fits.

    UTF-16 is tried for files with its mark only, and nothing else for those. Raises UserError for a file that cannot be
    read, is larger than MAX_LIST_BYTES, or is no text in these encodings.
    """
    try:
        with gzip.open(path) if Path(path).suffix.lower() == ".gz" else open(path, "rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
    except _DAMAGE as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {error})") from None
    if len(data) > MAX_LIST_BYTES:
        raise UserError(f"{path}: holds more than {MAX_LIST_BYTES:,} bytes; split it into several lists")
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in encodings:
        try:
            if marked == (encoding == "UTF-16"):
                return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    raise UserError(f"{path}: is no text in {' or '.join(encodings)}")
