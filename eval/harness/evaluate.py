"""One task on one model: lm-eval's evaluation, and everything that the rows need of it as one JSON value.

A record is stored under a key of all that it depends on: the model, the task with its code and documents, examples,
subset, scorer. So a killed evaluation goes on with the next task, and a changed setting recomputes what it changes and
nothing else. Cost: the key hashes a task's documents, 0.2 s for 10,000; the record holds 100 to 300 bytes an item.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from eval.config import EvalConfig
from eval.harness.errors import add_errors
from eval.harness.outcomes import outcomes
from eval.harness.prompts import Prompts, choose_subset
from eval.harness.quiet import seed_everything
from mindllm.stage import hash_json

FORMAT = 3  # of records; a new one makes the old worthless
_BOOTSTRAP_ROUNDS = 1000  # standard errors of metrics that are no plain mean
_PLACES = ("config_source",)  # where a task's file lies does not change its scores


@dataclass
class Job:
    """One task to evaluate: its lm-eval object, prompts, the chosen items (None: all), and the key of its record."""

    name: str
    task: Any
    prompts: Prompts
    items: list[int] | None
    key: str


def make_job(name: str, task: Any, config: EvalConfig, model_hash: str, code_hash: str) -> Job:
    """Fix examples and items of a task. Raises UserError where there are fewer examples than wanted. Changes `task`."""
    set_num_fewshot(task, config)
    documents = task.eval_docs
    items = choose_subset(len(documents), config.limit_of(name), config.seed, name)
    described = describe(task.config)
    prompts = Prompts(task, name, config.seed, config.examples == "per_item")
    key = {
        "format": FORMAT,
        "model": model_hash,
        "task": name,
        "config": described,
        "class": describe(type(task)),
        "code": code_hash,
        "documents": [hash_documents(found) for found in (documents, examples_of(task))],
        "num_fewshot": task.get_config("num_fewshot"),
        "examples": config.examples,
        "seed": config.seed,
        "items": items,
        "scorer": [config.scorer, config.batch_size, config.dtype],
        "lm_eval": version("lm_eval"),
    }
    return Job(name, task, prompts, items, hash_json(key))


def set_num_fewshot(task: Any, config: EvalConfig) -> None:
    """lm-eval's rule: a task that fixes 0 examples keeps 0; others take ours, their own, or 0. Whole texts take 0."""
    own = 0 if task.OUTPUT_TYPE == "loglikelihood_rolling" else task.get_config("num_fewshot")
    wanted = own if config.num_fewshot is None else config.num_fewshot
    task.set_config(key="num_fewshot", value=0 if own == 0 or wanted is None else wanted)
    task.set_fewshot_seed(seed=config.seed)


def examples_of(task: Any) -> list[Any]:
    """The documents that examples are drawn from; none where the task takes no examples, or draws them by itself."""
    sampler = getattr(task, "sampler", None)
    return sampler.fewshot_docs() if sampler is not None and task.get_config("num_fewshot") else []


def describe(value: Any) -> Any:
    """A task's settings as JSON: functions by their source, so that what they do is part of the key."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: describe(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): describe(inner) for key, inner in value.items() if key not in _PLACES}
    if isinstance(value, list | tuple):
        return [describe(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, type) or callable(value):
        return f"{value.__qualname__} {_source(value)}" if hasattr(value, "__qualname__") else ""  # modules are paths
    return type(value).__name__


@functools.cache  # slow: 30 ms for a class of lm-eval's
def _source(value: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):  # built in, or made while running
        return ""


def hash_documents(documents: Any) -> str:
    """One hash over the contents of all documents, in order."""
    digest = xxhash.xxh3_64()
    for document in documents:  # slow: 20 us a document
        digest.update(json.dumps(document, ensure_ascii=False, default=repr, sort_keys=True).encode(errors="replace"))
    return digest.hexdigest()


def hash_code(folder: str | Path) -> str:
    """One hash over the Python files below a folder of tasks: functions that a task names may call others there."""
    paths = sorted(p for p in Path(folder).rglob("*.py") if "__pycache__" not in p.parts)
    return hash_json([[p.relative_to(folder).as_posix(), p.read_text(encoding="utf-8")] for p in paths])


def evaluate(lm: Any, job: Job, config: EvalConfig) -> dict[str, Any]:
    """The record of a task: {task, metrics, items, ...}; scores are lm-eval's. slow: a forward pass a prompt or choice.

    memory: all prompts of the task. Answers are drawn anew from the seed, so the order of tasks does not matter.
    """
    import lm_eval

    seed_everything(config.seed)
    job.prompts.attach(lm)
    try:
        results = lm_eval.evaluate(
            lm,
            {"tasks": {job.name: job.task}},
            samples=None if job.items is None else {job.name: job.items},
            bootstrap_iters=_BOOTSTRAP_ROUNDS,
            log_samples=True,
        )
    finally:
        job.prompts.detach()
    return make_record(job, results, config)


def make_record(job: Job, results: dict[str, Any], config: EvalConfig) -> dict[str, Any]:
    """What is kept of lm-eval's results of one task, as JSON."""
    from lm_eval.api.metrics import mean

    prompts, metadata = job.prompts, job.task.get_config("metadata") or {}
    rounded = [] if config.dtype == "float32" else [f"computed in {config.dtype}"]
    samples = results["samples"][job.name]
    metrics = add_errors(job.task, results["results"][job.name], samples, config.seed)
    items = outcomes(job.task, samples)
    share = 1 / max(prompts.num_prompts, 1)
    return {
        "task": job.name,
        "key": job.key,
        "output_type": job.task.OUTPUT_TYPE,
        "metrics": {k: _plain_number(v) for k, v in metrics.items()},
        "higher_is_better": results["higher_is_better"].get(job.name, {}),
        "means": [metric for metric, aggregate in job.task.aggregation().items() if aggregate is mean],
        "num_fewshot": results["n-shot"].get(job.name),
        "num_total": results["n-samples"][job.name]["original"],
        "num_evaluated": len(items),
        "seed": config.seed,
        "group": metadata.get("group", "other"),
        "benchmark": metadata.get("benchmark", job.name),
        "marks": list(dict.fromkeys([*metadata.get("marks", []), *prompts.marks, *rounded])),
        "shortened": prompts.num_shortened * share,
        "cut": prompts.num_cut * share,
        "items": items,
    }


def _plain_number(value: Any) -> Any:
    """numpy's numbers as Python's; names as they are."""
    return value if isinstance(value, str | int) else float(value)
