"""Clean text to token shards (verb shard): encode every document, hold some out by duplicate cluster, permute, pack.

Two passes of tasks, on any engine: each refined shard is encoded into sorted runs (tokens/encode.py); then each output
file takes its range of keys from all runs (tokens/gather.py), so that a training context does not hold one site after
the other. In between this process decides what is held out and which files there will be (tokens/plan.py). All that is
written is complete or absent: a killed stage goes on from there. Disk: the tokens twice, until the work folder goes.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_pipeline import workers
from data_pipeline.clean import StageShard, stage_shards
from data_pipeline.config import DataConfig, ShardConfig
from data_pipeline.tokens.encode import encode_shard
from data_pipeline.tokens.gather import SOURCES, gather_file
from data_pipeline.tokens.plan import FilePlan, extra_clusters, list_files, total_of
from data_pipeline.tokens.runs import SPLITS
from mindllm.config import UserError
from mindllm.shard_files import COUNTS, add_languages, write_meta
from mindllm.stage import Stage, require, write_json
from mindllm.tokenizer import Tokenizer, load_tokenizer

WORK = ".work"  # no source can have this name
LITTLE = 1 << 24  # tokens: below, reading them takes less time than workers to start


def shard(config: DataConfig) -> int:
    """Clean text to token shards: shards/<source>/{train,valid}."""
    refined = require(config.folder("refine"), "python -m data_pipeline refine CONFIG")
    tokenizer = load_tokenizer(config.shard.tokenizer)
    settings = {k: v for k, v in asdict(config.shard).items() if k != "tokenizer"}
    inputs = {"refine": refined["hash"], "tokenizer": tokenizer.fingerprint}
    stage = Stage(config.folder("shards"), "shards", settings, inputs)
    if stage.start(config.force):
        shards = stage_shards(config.folder("refine"))
        metas = make_shards(shards, stage.folder, tokenizer, config.shard, config.workers)
        total = sum(meta["tokens"] for meta in metas.values())
        text_bytes = sum(meta["bytes"] for meta in metas.values())
        stage.finish(**{"in": text_bytes, "out": total, "unit": "bytes -> tokens", "sources": _summary(metas)})
        _print(metas)
    shutil.rmtree(stage.folder / WORK, ignore_errors=True)
    return 0


def make_shards(
    shards: Sequence[StageShard], out: Path, tokenizer: Tokenizer, settings: ShardConfig, where: workers.WorkersConfig
) -> dict[str, dict[str, Any]]:
    """Write out/<source>/{train,valid} from refined shards; {"source/split": meta}. What out/.work has is not redone.

    Raises UserError where there is no document.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)  # what is a folder here must be one on every machine (docs/cluster.md)
    task = functools.partial(
        encode_shard,
        tokenizer=str(tokenizer.folder),
        fingerprint=tokenizer.fingerprint,
        work=work,
        settings=settings,
    )
    sources = total_of(workers.run_all(task, shards, where, "shards: encode"))
    if not sources:
        raise UserError("shards: no document is left after cleaning; look at the reasons in */stats.json")
    for name, summary in sources.items():
        write_json(work / SOURCES / f"{name}.json", summary["stretches"])
    extra = extra_clusters(sources, settings)
    plans = list(list_files(sources, settings, bool(extra)))
    where = engine_for(sum(plan.tokens for plan in plans), where)
    gather = functools.partial(gather_file, work=work, out=out, vocab_size=tokenizer.vocab_size, extra=extra)
    records = workers.run_all(gather, plans, where, "shards: gather")
    return _complete(plans, records, out, tokenizer)


def engine_for(tokens: int, where: workers.WorkersConfig) -> workers.WorkersConfig:
    """Where so many tokens are read: in this process where they are few, else as the user says."""
    return where if tokens >= LITTLE else replace(where, engine=workers.LOCAL, num_workers=1, address="")


def _complete(
    plans: Sequence[FilePlan], records: Sequence[Mapping[str, Any]], out: Path, tokenizer: Tokenizer
) -> dict[str, dict[str, Any]]:
    """The meta.json of each source and split that has documents."""
    metas: dict[str, dict[str, Any]] = {}
    done = [(p.source, p.split, r) for p, r in zip(plans, records, strict=True) if r["file"]]
    for source in sorted({source for source, _, _ in done}):
        for split in SPLITS:
            mine = [r for s, of, r in done if (s, of) == (source, split)]
            if mine:
                languages = add_languages(r["languages"] for r in mine)
                files, text_bytes = [r["file"] for r in mine], sum(r["bytes"] for r in mine)
                folder = out / source / split
                metas[f"{source}/{split}"] = write_meta(
                    folder, files, tokenizer.vocab_size, tokenizer.fingerprint, text_bytes, languages
                )
    return metas


def _summary(metas: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {k: meta[k] for k in (*COUNTS, "fingerprint")} for name, meta in metas.items()}


def _print(metas: dict[str, dict[str, Any]]) -> None:
    table = Table("source", "documents", "tokens", "bytes", "bytes per token", title="shards")
    for name, meta in metas.items():
        ratio = meta["bytes"] / max(1, meta["tokens"])
        table.add_row(name, f"{meta['documents']:,}", f"{meta['tokens']:,}", f"{meta['bytes']:,}", f"{ratio:.2f}")
    Console().print(table)
