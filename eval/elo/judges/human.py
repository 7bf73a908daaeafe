"""Judgements that are there already: of people, or of an earlier run. JSON Lines or CSV, pairs or rankings.

{"prompt": id, "first": a, "second": b, "verdict": "first" | "second" | "tie"}, with "judge": name where it is known:
two rows of one judge with the answers swapped become one game. {"prompt": id, "ranking": ["a", ["b", "c"], "d"]}: best
first, ties in a list of their own. In CSV the same names head the columns, and a ranking is `a > b = c > d`.
Cost and memory: the file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.elo.games import VERDICTS, Judgement, ranking_pairs
from eval.rows import Row, check, is_utf8, read_rows
from mindllm.config import UserError

_OPTIONAL = ("judge", "reason")


def read_judgements(path: str | Path) -> list[Judgement]:
    """All judgements of a .jsonl or .csv file; a ranking as its pairs. Raises UserError that names a wrong line."""
    if Path(path).suffix.lower() not in (".jsonl", ".csv"):
        raise UserError(f"judgements: {path} must be a .jsonl or .csv file")
    rows = _read_csv(path) if Path(path).suffix.lower() == ".csv" else read_rows(path, ("prompt",), _OPTIONAL)
    found = [judgement for number, row in rows for judgement in _judgements(row, f"{path}:{number}")]
    if not found:
        raise UserError(f"judgements: {path} holds none")
    return found


def _judgements(row: Row, where: str) -> Iterator[Judgement]:
    if "ranking" in row:
        if both := sorted({"first", "second", "verdict"} & set(row)):
            raise UserError(f"{where}: a ranking beside {', '.join(both)}; give one of the two")
        yield from ranking_pairs(row["prompt"], _ranking(row["ranking"], where))
        return
    row = check(row, where, ("first", "second"))
    verdict = row.get("verdict", "(missing)")
    if verdict is not None and verdict not in VERDICTS:
        known = f"{', '.join(VERDICTS)} (or null: none could be had)"
        raise UserError(f"{where}: verdict: expected {known}, got {json.dumps(verdict, ensure_ascii=False)[:60]}")
    for key in ("first", "second"):
        if not _is_name(row[key]):
            raise UserError(f"{where}: {key}: {row[key]!r} is no name (empty, or with blanks around it)")
    if row["first"] == row["second"]:
        raise UserError(f"{where}: {row['first']!r} is compared with itself")
    yield Judgement(row["prompt"], row["first"], row["second"], verdict, row.get("judge", ""), row.get("reason", ""))


def _ranking(value: Any, where: str) -> list[list[str]]:
    """Places, best first, of names. Raises UserError for another form, a name twice, or fewer than two."""
    places = [place if isinstance(place, list) else [place] for place in value] if isinstance(value, list) else []
    names = [name for place in places for name in place]
    if len(names) < 2 or not all(places) or not all(map(_is_name, names)):
        raise UserError(f'{where}: ranking: expected names, best first, such as ["a", ["b", "c"], "d"]')
    if len(set(names)) < len(names):
        raise UserError(f"{where}: ranking: a name comes twice")
    return places


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value == value.strip() and is_utf8(value)


def _read_csv(path: str | Path) -> Iterator[tuple[int, Row]]:
    """(line, row) of a CSV file with a heading; empty cells are left out."""
    lines = list(_read_lines(path))
    reader = csv.DictReader((f"{line}\n" for _, line in lines), strict=True)
    try:
        heading = list(reader.fieldnames or ())
        if twice := sorted({name for name in heading if heading.count(name) > 1}):
            raise UserError(f"{path}:{lines[0][0]}: two columns are called {twice[0]!r}")
        for cells in reader:
            number = lines[reader.line_num - 1][0]
            if None in cells or None in cells.values():
                raise UserError(f"{path}:{number}: has not as many cells as the heading")
            row: Row = {key: value.strip() for key, value in cells.items() if value.strip()}
            if "ranking" in row:
                row["ranking"] = [place.split(" = ") for place in row["ranking"].split(" > ")]
            elif not cells.get("verdict", "-").strip():
                row["verdict"] = None
            yield number, check(row, f"{path}:{number}", ("prompt",), _OPTIONAL)
    except csv.Error as error:
        raise UserError(f"{path}:{lines[reader.reader.line_num - 1][0]}: not CSV ({error})") from None


def _read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank. Raises UserError for a file that cannot be read as UTF-8."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error.reason} at byte {error.start})") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line
