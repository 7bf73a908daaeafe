"""Benchmark scores by lm-eval (EleutherAI) on an exported folder: the only file that imports it.

Scores are theirs, unchanged; added is the chance level of multiple-choice tasks, one over the number of choices (mean
over the items), without which a small model's accuracy says nothing. Tasks below `include_path` bring their own data,
and with only such tasks a run is offline; other names are looked up among lm-eval's own tasks, which takes 8 s and may
download. Task folders may name Python functions that lm-eval runs: `include_path` must be a folder you trust. Cost:
one forward pass a choice; all prompts in memory.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from eval.config import EvalConfig
from mindllm.config import UserError
from mindllm.stage import Stage, hash_file, hash_json, read_json, require, write_json

_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
_NAME = re.compile(r"^(?:task|group|tag): *([\w.-]+) *$", re.MULTILINE)
_BOOTSTRAP_ROUNDS = 1000  # standard errors of metrics that are no plain mean
_GUESSED = ("acc", "acc_norm")  # metrics whose expected value under guessing is known


def harness(config: EvalConfig) -> int:
    """Benchmark scores with standard error and chance level."""
    if not config.tasks:
        raise UserError("tasks: name at least one; eval/tasks holds small Chinese and English ones")
    if not Path(config.include_path).is_dir():
        raise UserError(f"include_path: {config.include_path} is no folder")
    export = require(config.model, "python -m mindllm.export CONFIG")
    settings = {k: getattr(config, k) for k in ("tasks", "num_fewshot", "limit", "batch_size", "seed")}
    inputs = {"export": export["hash"], "tasks": hash_tasks(config.include_path)}
    stage = Stage(config.folder("harness"), "harness", settings, inputs)
    local = set(config.tasks) <= own_tasks(config.include_path)
    with _quiet(), _environment(_OFFLINE if local else {}):
        if (read_json(stage.folder / "meta.json") or {}).get("hash") != stage.plan["hash"]:
            manager = find_tasks(config.tasks, config.include_path, local)  # first: a mistyped name must clear nothing
        if stage.start(config.force):
            scores = list(rows(run_tasks(config, manager)))
            write_json(stage.folder / "scores.json", {"scores": scores})
            items = sum({row["task"]: row["num_items"] for row in scores}.values())
            stage.finish(**{"in": items, "out": items, "unit": "items"})
    print_scores(read_json(stage.folder / "scores.json")["scores"])
    return 0


def hash_tasks(folder: str | Path) -> str:
    """One hash over the names and contents of all task files below `folder`."""
    paths = sorted(p for p in Path(folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return hash_json([f"{p.relative_to(folder).as_posix()} {hash_file(p)}" for p in paths])


def own_tasks(folder: str | Path) -> set[str]:
    """Names of the tasks, groups and tags that YAML files below `folder` define.

    Read without lm-eval, because the libraries below it look at the environment (offline or not) when first imported.
    """
    paths = sorted(Path(folder).rglob("*.yaml"))
    return {name for path in paths for name in _NAME.findall(path.read_text(encoding="utf-8"))}


def find_tasks(names: list[str], include_path: str, local: bool) -> Any:
    """lm-eval's task manager: our tasks and, unless `local`, its own. Raises UserError with the nearest known name."""
    from lm_eval.tasks import TaskManager  # slow: 1 s, so not at the top

    manager = TaskManager(include_path=include_path, include_defaults=not local)  # slow: 8 s with its own
    unknown = [name for name in names if not manager.match_tasks([name])]
    if unknown:
        near = difflib.get_close_matches(unknown[0], manager.all_tasks, 1)
        raise UserError(f"tasks: unknown task {', '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}")
    return manager


def run_tasks(config: EvalConfig, manager: Any) -> dict[str, Any]:
    """What lm-eval's `simple_evaluate` computes, without its questions to git, the hub and the machine. slow."""
    import torch
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM

    from mindllm.hf.export import quiet

    quiet()
    loaded = manager.load(config.tasks)
    for task in loaded["tasks"].values():
        _set_fewshot(task, config)
    random.seed(config.seed)  # tasks may shuffle or draw examples by any of the three
    np.random.seed(config.seed)
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = HFLM(str(Path(config.model).resolve()), device=device, dtype="float32", batch_size=config.batch_size)
    with _without_bars():
        # log_samples holds the number of choices  memory: all prompts
        return evaluate(lm, loaded, limit=config.limit, bootstrap_iters=_BOOTSTRAP_ROUNDS, log_samples=True)


def _set_fewshot(task: Any, config: EvalConfig) -> None:
    """lm-eval's rule: a task that fixes 0 examples keeps 0; others take ours, or their own, or 0."""
    own = task.get_config("num_fewshot")
    wanted = own if config.num_fewshot is None else config.num_fewshot
    task.set_config(key="num_fewshot", value=0 if own == 0 or wanted is None else wanted)
    task.set_fewshot_seed(seed=config.seed)


def rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """{task, metric, value, stderr, chance, num_items, num_fewshot, higher_is_better} of every task, from what lm-eval
    returns; scores of groups are left out."""
    for task, count in results["n-samples"].items():
        found = results["results"][task]
        for key, value in found.items():
            metric, comma, chosen = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            stderr = found.get(f"{metric}_stderr,{chosen}")
            yield {
                "task": task,
                "metric": metric if chosen == "none" else f"{metric} ({chosen})",
                "value": float(value),
                "stderr": float(stderr) if isinstance(stderr, int | float) else None,
                "chance": chance_level(results, task) if metric in _GUESSED else None,
                "num_items": count["effective"],
                "num_fewshot": results["n-shot"].get(task),
                "higher_is_better": results["higher_is_better"].get(task, {}).get(metric),
            }


def chance_level(results: dict[str, Any], task: str) -> float | None:
    """Expected accuracy of guessing: the mean over items of 1 / choices. None for tasks that are no multiple choice."""
    settings = results["configs"][task]
    items = {sample["doc_id"]: len(sample["arguments"]) for sample in results["samples"][task]}
    if settings["output_type"] != "multiple_choice" or not items:
        return None
    # with acc_mutual_info every choice is scored twice, once without its question
    twice = any(m["metric"] == "acc_mutual_info" for m in settings["metric_list"])
    return sum((2 if twice else 1) / n for n in items.values()) / len(items)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Progress bars fill a log file: draw lm-eval's on a terminal only. It has no option that reaches all of them."""
    from lm_eval.api import model, task
    from lm_eval.models import huggingface

    tqdm = task.tqdm

    def hidden(*arguments: Any, **options: Any) -> Any:
        return tqdm(*arguments, **{**options, "disable": True})

    modules = [] if sys.stderr.isatty() else [model, task, huggingface]
    for module in modules:
        module.tqdm = hidden
    try:
        yield
    finally:
        for module in modules:
            module.tqdm = tqdm


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Errors of lm-eval and the libraries below it are shown, their progress reports and warnings are not."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers", "datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def show_score(value: float | None) -> str:
    """Three decimals; powers of ten where that would be a long number (perplexities); - for None."""
    return "-" if value is None else f"{value:.3f}" if abs(value) < 1e5 else f"{value:.2e}"


def print_scores(scores: list[dict[str, Any]]) -> None:
    """Scores with standard error and chance level, as a table."""
    table = Table("task", "metric", title="benchmark scores", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("score", "stderr", "chance", "items", "shots"):
        table.add_column(column, justify="right")
    for row in scores:
        numbers = (show_score(row[key]) for key in ("value", "stderr", "chance"))
        table.add_row(row["task"], row["metric"], *numbers, str(row["num_items"]), str(row["num_fewshot"]))
    Console().print(table)
