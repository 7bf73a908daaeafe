"""Drops the documents in which `python -m eval contamination` has found benchmark items.

The search itself needs an index of all items and looks at whole runs, so it is a step of its own; its list names what
goes. A document is known by its id, or by the hash of its text, for text that was searched in token shards has no ids.
Ids and hashes are kept as sorted 64-bit hashes: a look-up takes microseconds, a million documents 16 MB. memory:
reading holds one list, of up to MAX_LIST_BYTES, at a time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from data_pipeline.document import Document, Drop, Measure
from data_pipeline.lists import Stamp, read_text, stamp
from mindllm.config import UserError


@dataclass(frozen=True)
class Contamination:
    """Drops contamination:benchmark_item.

    lists: documents.jsonl of `python -m eval contamination` (also gzipped), each over a stage of this run or its token
    shards: a document is dropped where its id is listed, or its text as it is when this cleaner runs. Put it last in
    `refine`, and the text is what the token shards hold. Make the list from `dedup/`: from `refine/`, the next one
    would be empty.
    """

    lists: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each; the lists are read and checked."""
        if not self.lists:
            yield "lists: name at least one documents.jsonl of python -m eval contamination"
        for path in self.lists:
            try:
                _read(stamp(path))
            except UserError as error:
                yield f"lists: {error}"

    def __call__(self, document: Document) -> Document | Drop:
        """The document unchanged, or why it goes."""
        return Drop("contamination:benchmark_item") if self._is_listed(document) else document

    def measures(self, document: Document) -> Iterator[Measure]:
        """Whether a list names the document."""
        listed = self._is_listed(document)
        yield Measure("listed as holding benchmark items", int(listed), "on no list", not listed)

    def _is_listed(self, document: Document) -> bool:
        ids, hashes = self._listed
        text_hash = xxhash.xxh3_64_intdigest(document.text.encode("utf-8", "surrogatepass"))
        return _holds(ids, _id_hash(document.id)) or _holds(hashes, text_hash)

    @functools.cached_property
    def _listed(self) -> tuple[np.ndarray, np.ndarray]:
        return _load(tuple(map(stamp, self.lists)))


def _holds(ascending: np.ndarray, value: int) -> bool:
    place = int(np.searchsorted(ascending, np.uint64(value)))
    return place < len(ascending) and int(ascending[place]) == value


def _id_hash(id: str) -> int:
    return xxhash.xxh3_64_intdigest(id.encode("utf-8", "surrogatepass"))


@functools.lru_cache(maxsize=4)  # cleaners are built anew for every shard
def _load(files: tuple[Stamp, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the ids, and of the texts, of all lists, ascending."""
    pairs = [_read(file) for file in files]
    ids, hashes = (np.unique(np.concatenate([pair[kind] for pair in pairs])) for kind in (0, 1))
    return ids, hashes


@functools.lru_cache(maxsize=4)
def _read(file: Stamp) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the ids, and of the texts, of one list. Raises UserError naming file and line of a mistake."""
    ids, hashes = [], []
    for number, line in enumerate(read_text(file[0], "UTF-8").split("\n"), 1):
        if line.strip():
            row = _row(line, f"{file[0]}:{number}")
            ids.append(_id_hash(row["id"]))
            hashes.append(int(row["hash"], 16))
    return np.array(ids, dtype=np.uint64), np.array(hashes, dtype=np.uint64)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row["id"], str) and 0 <= int(row["hash"], 16) < 1 << 64:
            return dict(row)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f'{where}: expected {{"id": "...", "hash": "16 hex digits"}}, as in documents.jsonl')
