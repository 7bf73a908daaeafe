"""Writes one output file: the documents of a range of keys, from all runs, in the order of their keys.

The range is gone through in pieces of up to TASK_TOKENS tokens, one stretch read from each run a piece; a piece that
turns out larger is halved. One run is open at a time. Cost: a sequential read and write of the tokens, 150 million a
second, 0.6 us a document, and some 0.3 ms a run and piece. Memory: TASK_TOKENS times the size of a token, 150 bytes for
each of up to TASK_ROWS documents (with uint32: 0.3 GB, and up to 0.3 GB more where documents are a few words), or one
document that is larger.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.tokens.encode import RUNS
from data_pipeline.tokens.plan import FilePlan
from data_pipeline.tokens.runs import TRAIN, VALID, Stretch, arrange, read_rows, read_tokens
from mindllm.shard_files import COUNTS, FileWriter, Languages
from mindllm.stage import read_json, write_json
from mindllm.text import LANGUAGES

SOURCES, RECORDS = "sources", "files"  # below the work folder
TASK_TOKENS = 1 << 26
TASK_ROWS = 1 << 21
_FILLED = 0.8  # how much of that a piece should have, so that few have to be halved
Chosen = tuple[str, np.ndarray]  # a run, and ROWs of it


def gather_file(plan: FilePlan, work: Path, out: Path, vocab_size: int, extra: Sequence[int]) -> dict[str, Any]:
    """Write the file that the plan says, if it gets a document; what meta.json should know of it.

    extra: hashes of the clusters that are held out besides those that the runs know of.
    {"file": the entry among the files of meta.json (None: no document), "bytes": of text, "languages": Languages}.
    work/sources/<source>.json lists the Stretches; work/files/ keeps what was returned: complete, not done again.
    """
    folder = out / plan.source / plan.split
    record_path = work / RECORDS / f"{plan.name}.json"
    record: dict[str, Any] | None = read_json(record_path)
    if record is None or (record["file"] and not _exists(folder, plan.file)):
        stretches = [Stretch(*row) for row in read_json(work / SOURCES / f"{plan.source}.json")]
        chooser = _Chooser(work / RUNS, plan.split, stretches, np.array(sorted(extra), dtype=np.uint64))
        record = _write(plan, folder, chooser, vocab_size)
        write_json(record_path, record)
    return record


def _exists(folder: Path, name: str) -> bool:
    return all((folder / f"{name}.{kind}").exists() for kind in ("bin", "ends"))


class _Chooser:
    """Finds the documents of a split in the runs. Train documents of the `extra` clusters belong to valid."""

    def __init__(self, folder: Path, split: str, stretches: Sequence[Stretch], extra: np.ndarray):
        self.folder, self._split, self._extra = folder, split, extra
        parts = (VALID, TRAIN) if split == VALID and len(extra) else (split,)
        places = ((s.run, part, *s.rows(part)) for s in stretches for part in parts)
        self._places = [place for place in places if place[2] < place[3]]

    def choose(self, low: int, high: int) -> list[Chosen] | None:
        """The documents with keys in [low, high) by run; None where they are too many, and fewer could be asked for."""
        chosen, num_rows, num_tokens = [], 0, 0
        for run, part, begin, end in self._places:
            rows = read_rows(self.folder, run, begin, end, low, high)
            num_rows += len(rows)
            if part == TRAIN and len(self._extra):
                rows = rows[np.isin(rows["cluster"], self._extra, invert=self._split == TRAIN)]
            if len(rows):
                chosen.append((run, rows))
                num_tokens += int(rows["length"].sum(dtype=np.int64))
            if (num_rows > TASK_ROWS or num_tokens > TASK_TOKENS) and num_rows > 1 and high - low > 1:
                return None
        return chosen

    def pieces(self, plan: FilePlan) -> Iterator[list[Chosen]]:
        """The documents of a file in pieces that fit into memory, in the order of their keys."""
        count = max(1, math.ceil(max(plan.tokens / TASK_TOKENS, plan.rows / TASK_ROWS) / _FILLED))
        borders = [plan.low + (plan.high - plan.low) * i // count for i in range(count, -1, -1)]
        waiting = [(low, high) for high, low in itertools.pairwise(borders)]
        while waiting:
            low, high = waiting.pop()
            chosen = self.choose(low, high)
            if chosen is None:
                middle = (low + high) // 2
                waiting += [(middle, high), (low, middle)]
            elif chosen:
                yield chosen


def _write(plan: FilePlan, folder: Path, chooser: _Chooser, vocab_size: int) -> dict[str, Any]:
    pieces = chooser.pieces(plan)
    first = next(pieces, None)
    if first is None:
        return {"file": None, "bytes": 0, "languages": {}}
    counts = np.zeros((len(LANGUAGES), len(COUNTS)), dtype=np.int64)
    with FileWriter(folder, plan.file, vocab_size) as file:
        for chosen in itertools.chain([first], pieces):
            counts += _append(file, chooser.folder, chosen)
    languages: Languages = {
        lang: dict(zip(COUNTS, row, strict=True))
        for lang, row in zip(LANGUAGES, counts.tolist(), strict=True)
        if row[0]
    }
    return {"file": file.record, "bytes": int(counts[:, 2].sum()), "languages": languages}


def _append(file: FileWriter, runs: Path, chosen: Sequence[Chosen]) -> np.ndarray:
    """Write one piece; int64 (languages, documents and tokens and bytes)."""
    tokens, rows = _read(runs, chosen, file.dtype)
    for block, where in arrange(tokens, rows):
        file.append(block, rows["length"][where])
    counts = np.zeros((len(LANGUAGES), len(COUNTS)), dtype=np.int64)
    for code in np.unique(rows["language"]).tolist():
        mine = rows[rows["language"] == code]
        counts[code] = len(mine), mine["length"].sum(dtype=np.int64), mine["bytes"].sum(dtype=np.int64)
    return counts


def _read(runs: Path, chosen: Sequence[Chosen], dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of the chosen rows, as they are read, and the rows in the order of their keys, `start` in these."""
    rows = np.concatenate([part for _, part in chosen])
    ends = np.cumsum(rows["length"], dtype=np.int64)
    tokens = np.empty(int(ends[-1]), dtype=dtype)  # memory: up to TASK_TOKENS, or one document
    done = 0
    for run, part in chosen:
        size = int(part["length"].sum(dtype=np.int64))
        read_tokens(runs, run, part, tokens[done : done + size])
        done += size
    rows["start"] = ends - rows["length"]
    return tokens, rows[np.argsort(rows["key"], kind="stable")]
