"""Checks token shards (verb verify): reads all of them once more, and says everything that is wrong with them.

meta.json of every source and split is held against the stage's, and each file of tokens, a task of the engine, against
its meta.json and the tokenizer (mindllm/shard_faults.py). Nothing is written. Cost: some 300 million tokens a second
and worker. Memory: 60 MB a worker.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any, NamedTuple

from data_pipeline import workers
from data_pipeline.config import DataConfig
from data_pipeline.shard import engine_for
from data_pipeline.tokens.encode import tokenizer_of
from data_pipeline.tokens.runs import SPLITS
from mindllm.config import UserError
from mindllm.shard_faults import Checked, check_bytes, check_file, check_meta
from mindllm.shard_files import COUNTS, META
from mindllm.stage import require
from mindllm.tokenizer import Tokenizer, load_tokenizer


class Item(NamedTuple):
    """A file of tokens to look at: the first that `meta` lists. num_bytes: weighs it among others."""

    name: str
    folder: Path
    meta: dict[str, Any]
    num_bytes: int


def verify(config: DataConfig) -> int:
    """Token shards against their hashes, counts and tokenizer; lists every fault, exit code 1 if there is one."""
    folder = config.folder("shards")
    stage = require(folder, "python -m data_pipeline shard CONFIG")
    tokenizer = load_tokenizer(config.shard.tokenizer)
    written_with = stage.get("inputs", {}).get("tokenizer", tokenizer.fingerprint)
    if written_with != tokenizer.fingerprint:
        raise UserError(
            f"{folder} was written with tokenizer {written_with}, and {tokenizer.folder} is "
            f"{tokenizer.fingerprint}; name the one that it was written with (shard.tokenizer=...)"
        )
    metas, faults = _look_at_metas(folder, stage, tokenizer)
    faults += _look_at_files(metas, tokenizer, config.workers)
    for fault in faults:
        print(fault, file=sys.stderr)
    tokens = sum(meta["tokens"] for meta in metas.values())
    found = f"{len(faults)} fault{'s' * (len(faults) > 1)}" if faults else "all is as it was written"
    print(f"verify: {folder}: {len(metas)} sources and splits, {tokens:,} tokens: {found}", flush=True)
    return 1 if faults else 0


def _look_at_metas(
    folder: Path, stage: dict[str, Any], tokenizer: Tokenizer
) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """The meta.json of each source and split, where it is fit for use, and what is wrong with all of them."""
    metas: dict[Path, dict[str, Any]] = {}
    faults: list[str] = []
    for path in sorted(path for split in SPLITS for path in folder.glob(f"*/{split}") if path.is_dir()):
        meta, problems = check_meta(path, tokenizer)
        faults += problems or _differences(path, meta, stage, folder)
        if meta is not None:
            metas[path] = meta
    for name in _sources(stage):
        if not (folder / name).is_dir():
            faults.append(f"{folder / name}: missing, though {folder / META} names it")
    return metas, faults


def _differences(path: Path, meta: dict[str, Any] | None, stage: dict[str, Any], folder: Path) -> list[str]:
    """Where a source and split does not hold what the stage's meta.json says."""
    expected = _sources(stage).get(path.relative_to(folder).as_posix())
    if expected is None:
        return [f"{path}: {folder / META} does not name it"]
    if meta is None:
        return []
    known = [key for key in (*COUNTS, "fingerprint") if key in expected]  # older stages do not name the fingerprint
    wrong = [key for key in known if meta[key] != expected[key]]
    wrong = [key for key in wrong if key in COUNTS] or wrong  # other counts: another fingerprint, too
    here, there = (", ".join(f"{key} {values[key]}" for key in wrong) for values in (meta, expected))
    return [f"{path / META}: {here}, but {folder / META} says {there}"] if wrong else []


def _sources(stage: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = stage.get("counts", {}).get("sources", {})
    return found


def _look_at_files(metas: dict[Path, dict[str, Any]], tokenizer: Tokenizer, where: workers.WorkersConfig) -> list[str]:
    items = [
        Item(f"{path.parent.name}/{path.name}/{file['name']}", path, {**meta, "files": [file]}, 4 * file["tokens"])
        for path, meta in metas.items()
        for file in meta["files"]
    ]
    task = functools.partial(look, tokenizer=str(tokenizer.folder), fingerprint=tokenizer.fingerprint)
    where = engine_for(sum(meta["tokens"] for meta in metas.values()), where)
    checked = workers.run_all(task, items, where, "verify")
    faults = [line for found in checked for line in found.faults]
    for path, meta in metas.items():
        mine = [found for item, found in zip(items, checked, strict=True) if item.folder == path]
        faults += check_bytes(path, meta, mine, tokenizer)
    return faults


def look(item: Item, tokenizer: str, fingerprint: str) -> Checked:
    """One file, in a worker."""
    return check_file(item.folder, item.meta, 0, tokenizer_of(tokenizer, fingerprint))
