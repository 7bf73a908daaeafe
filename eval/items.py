"""Benchmark items as rows: their ids, the texts that would leak of them, and the files they come from.

An id is a hash of the item's text, so score rows, per-item results and contamination lists of different tools meet
without a common numbering. What would leak is not everything: a page that quotes a question mostly has the right answer
and not the wrong ones, so wrong ones count only where question and answer alone are too short to be recognised.
Cost: reading JSON; nothing is kept.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from eval.rows import read_rows
from mindllm.config import UserError
from mindllm.stage import require
from mindllm.text import units

MIN_UNITS = 24  # of question and right answer; with fewer, the other answers count, too
_QUESTION = ("context", "passage", "question", "text")  # keys of what is asked, in reading order
_LANGUAGES = ("zh_hans", "zh_hant", "en")  # keys of a translation's sides: each may leak alone


class Item(NamedTuple):
    """One benchmark item: its set ("mmlu"), split ("test"), row in that file from 0, id, and the texts to look for.

    Each text comes in parts (question, answer), for other things may stand between them. An item with several texts is
    found with any of them.
    """

    set: str
    split: str
    row: int
    id: str
    texts: tuple[tuple[str, ...], ...]


def item_id(text: str) -> str:
    """16 hex digits: xxh3_64 of the NFKC form of a text without its white space."""
    plain = "".join(unicodedata.normalize("NFKC", text).split())
    return xxhash.xxh3_64_hexdigest(plain.encode("utf-8", "surrogatepass"))


def row_id(row: Mapping[str, Any]) -> str:
    """The id that a row of a normalized set carries, else item_id of all that it asks and offers, a line each."""
    given = row.get("id")
    return given if isinstance(given, str) and given else item_id("\n".join([*_asked(row), *_choices(row)]))


def item_texts(row: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """What would leak of a row, as texts (in parts) of which each alone is the item.

    Choices: the question and the right answer; the other answers, too, where these have fewer than MIN_UNITS units.
    Free answers: the question; with the answer where it is that short. Translations: each language by itself.
    """
    sides = tuple(row[key] for key in _LANGUAGES if _is_text(row.get(key)))
    if sides:
        return tuple((side,) for side in sides)
    asked, choices, answer = _asked(row), _choices(row), row.get("answer")
    if choices:
        right = [choices[answer]] if isinstance(answer, int) and 0 <= answer < len(choices) else choices
        parts = [*asked, *right]
        return (tuple(parts if _is_long(parts) else [*asked, *choices]),)
    if not _is_long(asked) and answer is not None and not isinstance(answer, list | dict):
        asked = [*asked, str(answer)]
    return (tuple(asked),) if asked else ()


def _asked(row: Mapping[str, Any]) -> list[str]:
    sides = [row[key] for key in _LANGUAGES if _is_text(row.get(key))]
    return sides or [row[key] for key in _QUESTION if _is_text(row.get(key))]


def _choices(row: Mapping[str, Any]) -> list[str]:
    choices = row.get("choices")
    return [str(choice) for choice in choices] if isinstance(choices, list) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_long(texts: Sequence[str]) -> bool:
    return len(units("\n".join(texts))) >= MIN_UNITS


class ItemFile(NamedTuple):
    """A file of items, and the set and split that its place says."""

    path: Path
    set: str
    split: str

    @property
    def home(self) -> str:
        """What it has in common with the other splits of its set: their folder; of a file that was named, itself."""
        path = self.path.resolve()
        return str(path.parent if self.set == self.path.parent.name else path)


def list_item_files(paths: Sequence[str], splits: Sequence[str] = ()) -> list[ItemFile]:
    """The .jsonl files of normalized sets (a set's folder, or the folder of several), or files of rows; by set, split.

    splits: those wanted; empty: all but `train` and `dev`, from which examples are drawn. Files that are named are
    taken whatever their split. Raises UserError for a path without items or with an import that was not finished, and
    for two files of one set and split.
    """
    found: list[ItemFile] = []
    for path in map(Path, paths):
        if (path / "plan.json").exists():
            require(path, "python -m eval import")
        inside = sorted(p for pattern in ("*.jsonl", "*/*.jsonl") for p in path.glob(pattern)) if path.is_dir() else []
        files = [path] if path.is_file() else [p for p in inside if _is_wanted(p.stem, splits)]
        if not files:
            wanted = f" of the splits {', '.join(splits)}" if splits else ""
            raise UserError(f"{path}: no benchmark items{wanted} here; make some: python -m eval import")
        found += [ItemFile(p, p.stem if path.is_file() else p.parent.name, p.stem) for p in files]
    found.sort(key=lambda f: (f.set, f.split))
    for one, other in zip(found[:-1], found[1:], strict=True):
        if one[1:] == other[1:]:
            raise UserError(f"{one.path} and {other.path}: two files of the set {one.set}, split {one.split}")
    return found


def _is_wanted(split: str, splits: Sequence[str]) -> bool:
    return split in splits if splits else split not in ("train", "dev")


def read_items(file: ItemFile) -> Iterator[Item]:
    """The items of one file, in order. Raises UserError naming file and line of a row that is none."""
    for number, (_, row) in enumerate(read_rows(file.path)):
        yield Item(file.set, file.split, number, row_id(row), item_texts(row))
