"""Rows of JSON Lines files, one by one: what is wrong is named with its line.

Lines end at \\n alone, for texts may hold other characters that Python takes for line ends. What a user gives is
checked: every text must be UTF-8 when it is written again (JSON can spell half a surrogate pair). Memory: a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mindllm.config import UserError
from mindllm.stage import write_text

Row = dict[str, Any]


def read_rows(path: str | Path, texts: Iterable[str] = (), optional: Iterable[str] = ()) -> Iterator[tuple[int, Row]]:
    """(line number, row) of the JSON objects in a file; empty lines are passed over.

    texts, optional: see `check`. Raises UserError for a file or line that is no such thing.
    """
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield number, check(parse_row(line, where), where, texts, optional)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def parse_row(line: bytes, where: str) -> Row:
    """The object of one line, unchecked. Raises UserError naming `where` it stands if it is none."""
    try:
        row = json.loads(line.strip())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON ({error})") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object {{...}}, got {type(row).__name__}")
    return row


def check(row: Row, where: str, texts: Iterable[str], optional: Iterable[str] = ()) -> Row:
    """The row with its texts as texts: the values of `texts`, and those of `optional` that are there.

    A whole number is taken for its digits, for ids are written so, too. Raises UserError naming `where` and the key.
    """
    found = dict(row)
    for key in (*texts, *(key for key in optional if key in row)):
        value = row.get(key)
        found[key] = str(value) if type(value) is int else value
        if not isinstance(found[key], str):
            raise UserError(f"{where}: {key}: expected a text, got {type(value).__name__}")
        if not is_utf8(found[key]):
            raise UserError(f"{where}: {key}: holds half a surrogate pair, which is no text")
    return found


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON Lines file, complete or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
