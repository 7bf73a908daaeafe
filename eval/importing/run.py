"""python -m eval import: benchmark files in known layouts -> rows of one form, and lm-eval tasks over them.

`out` is a stage folder: complete with its meta.json, done again only when the files in `data` change. Each set has
its rows (OUT/<set>/<split>.jsonl) and a meta.json with counts, differences from the published counts, marks and where
it came from; a set that is not in `data` is named, and is missing from the group mindllm, never averaged away.
Cost: 5 s and 190 MB of memory for all fifteen benchmarks; 64 MB on disk.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.importing.archives import Files
from eval.importing.counts import count, differences
from eval.importing.found import Found
from eval.importing.sets import BENCHMARKS, Benchmark
from eval.importing.tasks import HELPERS, write_tasks
from mindllm.config import UserError
from mindllm.stage import Stage, hash_file, hash_json, held, write_json, write_text


@dataclass
class ImportConfig:
    """Where benchmark files lie, and where the rows and tasks made of them go.

    data: a folder with a folder for each benchmark (mmlu, ceval, ...).  out: the folder to write.  force: replace what
    was made from other files.
    """

    data: str = ""
    out: str = "runs/benchmarks"
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not self.data:
            yield "data: name the folder that holds a folder for each benchmark"
        elif not Path(self.data).is_dir():
            yield f"data: {self.data} is no folder"


def import_sets(config: ImportConfig) -> int:
    """Benchmark files -> rows of one form, and lm-eval tasks over them."""
    data = Path(config.data)
    places = {b.name: [data / n for n in b.folders if (data / n).is_dir()] for b in BENCHMARKS}
    if not any(places.values()):
        expected = ", ".join(b.folders[0] for b in BENCHMARKS)
        raise UserError(f"data: {data} holds no folder of a benchmark; their names are {expected}")
    stage = Stage(config.out, "import", {}, _inputs(data, places), place="out=...")
    if stage.start(config.force):
        with held(stage.folder):
            _make(stage, data, places)
    return 0


def _make(stage: Stage, data: Path, places: dict[str, list[Path]]) -> None:
    found: dict[str, Found] = {}
    missing, differing = [], []
    for benchmark in BENCHMARKS:
        place, rows = _find(benchmark, places[benchmark.name])
        if rows is None:
            missing.append(_missing(benchmark, data))
            continue
        found[benchmark.name] = rows
        differing += _write_set(stage.folder / benchmark.name, benchmark, place, rows)
    if not found:
        raise UserError(f"data: none of the folders in {data} holds a benchmark in a known layout (docs/evaluation.md)")
    num_tasks = write_tasks(stage.folder / "tasks", found, missing)
    num_items = sum(len(rows) for f in found.values() for rows in f.splits.values())
    counts = {"in": len(found) + len(missing), "out": num_items, "unit": "items", "tasks": num_tasks}
    stage.finish(**counts, missing=missing, differing=differing)
    print(f"import: {num_items:,} items, {num_tasks} tasks; use them with include_path: {stage.folder / 'tasks'}")


def _inputs(data: Path, places: dict[str, list[Path]]) -> dict[str, Any]:
    """What the output depends on: the files of each folder, lm-eval's own tasks, our helpers, numbers of examples."""
    hashes = {}
    for folder in sorted({folder for folders in places.values() for folder in folders}):
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        hashes[folder.name] = hash_json([f"{p.relative_to(folder).as_posix()} {hash_file(p)}" for p in files])
    shots = {benchmark.name: benchmark.num_fewshot for benchmark in BENCHMARKS}
    version = importlib.metadata.version("lm_eval")
    return {"data": hashes, "lm_eval": version, "helpers": hash_file(HELPERS), "shots": shots}


def _find(benchmark: Benchmark, folders: list[Path]) -> tuple[str, Found | None]:
    """The first of these folders that holds the benchmark in a known layout, and its rows."""
    for folder in folders:
        rows = benchmark.read(Files(folder))
        if rows is not None:
            return folder.name, rows
    return "", None


def _missing(benchmark: Benchmark, data: Path) -> dict[str, str]:
    why = f"not in {data.name} (looked for {', '.join(benchmark.folders)})"
    print(f"{benchmark.name}: {why}; its tasks are left out", flush=True)
    return {"task": f"mindllm_{benchmark.name}", "why": f"{benchmark.title} {why}"}


def _write_set(folder: Path, benchmark: Benchmark, place: str, found: Found) -> list[dict[str, Any]]:
    """Write one set's rows and meta.json, say what it holds, and return where its counts are not the published ones.

    place: the name of the folder that it was read from.
    """
    for split, rows in found.splits.items():
        write_text(folder / f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    differing = differences(benchmark.name, found)
    counted = count(found)
    meta = {
        "set": benchmark.name,
        "benchmark": benchmark.title,
        "group": benchmark.group,
        "from": place,
        "scored": benchmark.scored,
        "items": counted,
        "differing": differing,
        "marks": found.marks,
        "files": {f"{split}.jsonl": hash_file(folder / f"{split}.jsonl") for split in found.splits},
    }
    write_json(folder / "meta.json", meta)
    numbers = ", ".join(f"{len(rows):,} {split}" for split, rows in found.splits.items())
    source = "" if place == benchmark.name else f" from {place}"
    print(f"{benchmark.name}{source}: {numbers}{''.join(f'; {mark}' for mark in found.marks)}", flush=True)
    for line in differing:
        print(f"  {line['what']}: {line['found']:,} here, {line['expected']:,} expected ({line['source']})", flush=True)
    return differing
