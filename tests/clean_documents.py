"""A complete stage folder of clean text, as refine leaves it, for the tests of what is made from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Row(NamedTuple):
    """A document; its id has to be its own."""

    lang: str
    source: str
    id: str
    text: str


def write_stage(folder: Path, rows: Sequence[Row], num_shards: int = 2) -> Path:
    """Write the documents in shards of equal size, and a meta.json. The folder."""
    folder.mkdir(parents=True)
    size = -(-len(rows) // num_shards)
    for number in range(num_shards):
        part = rows[number * size : (number + 1) * size]
        columns = {name: pa.array([getattr(row, name) for row in part], pa.string()) for name in Row._fields}
        pq.write_table(pa.table(columns), folder / f"{number:05}.parquet")
    (folder / "meta.json").write_text(json.dumps({"hash": "0123456789abcdef"}))
    return folder
