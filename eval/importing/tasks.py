"""Task files for lm-eval over the imported rows: the stock tasks with their own prompts, pointed at local files.

Every task is written out in full, so the folder works on any machine with lm-eval, whether online or not:
`lm_eval --include_path OUT/tasks --tasks mindllm`. Names are the stock ones after `mindllm_`, as both can then be
loaded side by side; mindllm_mmlu and so on are the groups, mindllm is all of them. Examples are the first ones, the
same for each item of a subject, so that a scorer can share them. `metadata` carries what a report needs: group,
benchmark, marks, the stock task's name, and on the group of all what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from eval.importing.counts import notes
from eval.importing.found import Found
from eval.importing.sets import BENCHMARKS, Benchmark
from eval.importing.stock import OURS, Function, stock_tasks
from eval.importing.translation import TO_TRADITIONAL
from mindllm.config import UserError
from mindllm.stage import write_text

LEAVE_ONE_OUT = "examples drawn leave-one-out from the evaluated split"
FROM_VALIDATION = "examples from the validation split"
HELPERS = OURS / "helpers.py"
# What says where stock rows come from, how they are split, and nothing about prompt or score.
_REPLACED = (
    "task_alias tag dataset_path dataset_name dataset_kwargs training_split validation_split test_split fewshot_split"
    " num_fewshot should_decontaminate doc_to_decontamination_query"
).split()


def write_tasks(folder: Path, found: dict[str, Found], missing: list[dict[str, str]]) -> int:
    """Write all task and group files into `folder`, and the helpers beside them. Returns the number of tasks."""
    groups, num_tasks = [], 0
    for benchmark in BENCHMARKS:
        if benchmark.name not in found:
            continue
        made = list(_tasks(benchmark, found[benchmark.name]))
        group = f"mindllm_{benchmark.name}"
        groups.append(group)
        inside = [s["task"] for s in made if s["dataset_kwargs"].get("subject") not in benchmark.outside]
        counts = notes(benchmark.name, found[benchmark.name], benchmark.scored, benchmark.outside)
        if inside != [group]:
            _write(folder, f"_{group}", _group(benchmark, group, inside, counts))
        for settings in made:
            if inside == [group] or not benchmark.metrics:  # no group with a score that says it
                settings["metadata"]["marks"] += counts
            _write(folder, settings["task"], settings)
        num_tasks += len(made)
    metadata = {"version": 1.0, "missing": missing}
    _write(folder, "_mindllm", {"group": "mindllm", "task": groups, "metadata": metadata})
    write_text(folder / "helpers.py", HELPERS.read_text(encoding="utf-8"))
    return num_tasks


def _group(benchmark: Benchmark, name: str, tasks: list[str], marks: list[str]) -> dict[str, Any]:
    means = [{"metric": m, "aggregation": "mean", "weight_by_size": True} for m in benchmark.metrics]
    metadata = {"version": 1.0, "group": benchmark.group, "benchmark": benchmark.title, "marks": marks}
    return {"group": name, "task": tasks} | ({"aggregate_metric_list": means} if means else {}) | {"metadata": metadata}


def _tasks(benchmark: Benchmark, found: Found) -> Iterator[dict[str, Any]]:
    """The settings of the tasks of one benchmark, subject by subject."""
    stock = stock_tasks(benchmark.stock)
    for subject in benchmark.variants or found.subjects(benchmark.scored):
        name = benchmark.stock_name(subject)
        if name not in stock:
            way_out = "take its file away, or use lm-eval in the version of constraints.txt"
            raise UserError(
                f"{benchmark.title}: no subject {subject!r} is known (lm-eval has no task {name}); {way_out}"
            )
        yield _repointed(benchmark, found, subject, stock[name])


def _repointed(benchmark: Benchmark, found: Found, subject: str, stock: dict[str, Any]) -> dict[str, Any]:
    """One stock task over our rows, with the suite's number of fixed examples."""
    name = f"mindllm_{stock['task'].removeprefix('mindllm_')}"
    within = "" if benchmark.variants else subject
    kept = {key: value for key, value in stock.items() if key not in _REPLACED} | benchmark.changes
    own_metadata = kept.pop("metadata", None) or {}
    examples = dict(kept.pop("fewshot_config", None) or {})
    marks = _marks_of_rows(found, subject)
    if "custom_dataset" not in stock:  # else they are about rows that these are not
        marks += own_metadata.get("marks", [])
    settings = {"task": name, **_rows(benchmark, found, within), "num_fewshot": benchmark.num_fewshot}
    settings |= {key: value for key, value in kept.items() if value is not None and key != "task"}
    if "samples" not in examples:
        split = settings["fewshot_split"] = _examples_split(benchmark, found, within)
        if split == benchmark.scored:
            examples["process_docs"] = Function("helpers.candidates")
            marks.append(LEAVE_ONE_OUT)
        elif split == "validation":
            marks.append(FROM_VALIDATION)
    settings["fewshot_config"] = {**examples, "sampler": "first_n"}
    settings["metadata"] = {
        "version": own_metadata.get("version", 1.0),
        "group": benchmark.group,
        "benchmark": benchmark.title,
        "marks": marks,
    } | ({"stock_task": stock["task"]} if benchmark.stock else {})
    return settings


def _marks_of_rows(found: Found, subject: str) -> list[str]:
    """The marks of the rows that this task shows: a made Traditional side concerns two of the four directions."""
    return [mark for mark in found.marks if mark != TO_TRADITIONAL or "hant" in subject.split("_")]


def _rows(benchmark: Benchmark, found: Found, subject: str) -> dict[str, Any]:
    """The settings that name the rows of one subject."""
    used = [s for s in (benchmark.scored, *benchmark.examples) if s in found.splits]
    files = {split: f"{benchmark.name}/{split}.jsonl" for split in used}
    kwargs = {"data_files": files, "scored": benchmark.scored} | ({"subject": subject} if subject else {})
    return {
        "custom_dataset": Function("helpers.load_rows"),
        "dataset_path": "json",
        "dataset_kwargs": kwargs,
        "test_split": benchmark.scored,  # lm-eval leaves the item itself out only where examples come from test_split
    }


def _examples_split(benchmark: Benchmark, found: Found, subject: str) -> str:
    """The first split of examples with enough rows of the subject, else the scored one."""
    for split in benchmark.examples:
        rows = found.splits.get(split, [])
        if sum(row.get("subject", "") == subject for row in rows) >= benchmark.num_fewshot:
            return split
    return benchmark.scored


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes a Function as `!function module.name`, which lm-eval resolves beside the task file or by import."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal lists out twice instead of as &id001 and *id001: people read these files."""
        return True


def _text(dumper: Any, value: str) -> Any:
    """Line ends as \\n on one line."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if "\n" in value else None)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Function, lambda dumper, value: dumper.represent_scalar("!function", value.name))


def _write(folder: Path, name: str, settings: dict[str, Any]) -> None:
    text = yaml.dump(settings, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1_000_000)
    write_text(folder / f"{name}.yaml", text)
