"""The verb: which tasks run, which were done before, and scores.json put together from all of them.

Scores are lm-eval's (EleutherAI), on any exported folder. Every task (of a group every subject) is stored as soon as it
is done, under a key of all that it depends on, so a killed evaluation goes on with the next task and changed settings
recompute only what they change. The model is loaded once, and not at all when nothing is left to do. Cost: what the
tasks cost; putting together takes seconds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.config import EvalConfig
from eval.exported import hash_model
from eval.harness import quiet
from eval.harness.clean import samples_path
from eval.harness.evaluate import Job, evaluate, hash_code, make_job
from eval.harness.scores import make_rows
from eval.harness.table import missing_lines, print_scores
from eval.harness.tasks import Loaded, Needs, find_tasks, hash_tasks, load_tasks, needs
from mindllm.config import RunFailed, UserError
from mindllm.progress import Meter
from mindllm.stage import Stage, held, read_json, write_json, write_text

SETTINGS = ("tasks", "num_fewshot", "limit", "limits", "examples", "scorer", "batch_size", "dtype", "seed")
MAY_CHANGE = (*(f"config.{key}" for key in SETTINGS), "inputs.tasks", "inputs.lm_eval")  # see the keys of records

_DELETE = "delete this file and run the same command again; what the others hold is not computed again"
_MAX_REASON = 300  # characters of a library's message


def harness(config: EvalConfig) -> int:
    """Benchmark scores with standard error, chance level and what a reader has to know about each."""
    if not config.tasks:
        raise UserError("tasks: name at least one; eval/tasks holds small Chinese and English ones")
    if not Path(config.include_path).is_dir():
        raise UserError(f"include_path: {config.include_path} is no folder")
    settings = {key: getattr(config, key) for key in SETTINGS}
    inputs = {
        "export": hash_model(config.model),
        "tasks": hash_tasks(config.include_path),
        "lm_eval": version("lm_eval"),
    }
    stage = Stage(config.folder("harness"), "harness", settings, inputs)
    needed = needs(config.tasks, config.include_path)
    with quiet.quiet(), quiet.environment({} if needed.hub else quiet.OFFLINE), _alone(stage.folder):
        _look_again(stage)
        if not _is_done(stage):
            manager = find_tasks(config.tasks, config.include_path, needed.stock)  # first: typing errors clear nothing
        if stage.start(config.force, may_change=MAY_CHANGE):
            rows = run_tasks(config, stage, manager, needed)
            items = sum({row["task"]: row["num_items"] for row in rows if row["parts"] is None}.values())
            stage.finish(**{"in": items, "out": items, "unit": "items"})
    found = _read(stage.folder / "scores.json")
    print_scores(found["scores"], found["missing"])
    return 0


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else evaluates into this folder while the block runs. Raises UserError where somebody does."""
    with contextlib.ExitStack() as until_end:
        with contextlib.suppress(OSError):  # what is wrong with the place, Stage says better
            folder.mkdir(parents=True, exist_ok=True)
            until_end.enter_context(held(folder))
        yield


def _is_done(stage: Stage) -> bool:
    return (read_json(stage.folder / "meta.json") or {}).get("hash") == stage.plan["hash"]


def _look_again(stage: Stage) -> None:
    """Where tasks were missing, the stage is not done for good: their data may be there now. Nor without its scores."""
    found = _read(stage.folder / "scores.json")
    if found is None or found["missing"]:
        (stage.folder / "meta.json").unlink(missing_ok=True)


def _read(path: Path) -> Any:
    """A JSON value, or None where there is no file. Raises UserError for a damaged one, which can be deleted alone."""
    try:
        return read_json(path)
    except RuntimeError as error:
        raise UserError(f"{path}: damaged ({error.__cause__}); {_DELETE}") from None


def run_tasks(config: EvalConfig, stage: Stage, manager: Any, needed: Needs) -> list[dict[str, Any]]:
    """Evaluate what is not stored yet; write samples/ and scores.json; returns the rows.

    Raises UserError where no task at all could be had.
    """
    loaded = load_tasks(config.tasks, manager)
    missing = [{"task": absent.task_name, "why": absent.why} for absent in loaded.missing]
    if not loaded.tasks:
        raise UserError("\n  ".join(["tasks: none of them can be had", *missing_lines(missing)]))
    _check_limits(config, loaded)
    for line in missing_lines(missing):
        print(f"harness: left out: {line}", flush=True)
    model, code = stage.plan["inputs"]["export"], hash_code(config.include_path)
    jobs = [make_job(name, task, config, model, code) for name, task in loaded.tasks.items()]
    records = {job.name: record for job, record in zip(jobs, _records(jobs, config, stage.folder), strict=True)}
    rows = make_rows(records, loaded.groups)
    for name, record in records.items():
        lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in record["items"])
        write_text(samples_path(stage.folder, name), "".join(lines))
    model_folder = str(Path(config.model).resolve())
    write_json(stage.folder / "scores.json", {"model": model_folder, "scores": rows, "missing": missing})
    return rows


def _check_limits(config: EvalConfig, loaded: Loaded) -> None:
    names = [*loaded.tasks, *(absent.task_name for absent in loaded.missing)]
    for pattern in config.limits:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"limits: no task here is called {pattern}; the tasks are {', '.join(names[:10])}, ...")


def _records(jobs: list[Job], config: EvalConfig, folder: Path) -> list[dict[str, Any]]:
    """The record of each job, from cache/ or computed and put there. The model is loaded when it is first needed."""
    stored = {job.name: _stored(folder, job) for job in jobs}
    left = [job for job in jobs if stored[job.name] is None]
    if left and len(left) < len(jobs):
        print(f"harness: {len(jobs) - len(left)} of {len(jobs)} tasks were evaluated before", flush=True)
    if left:
        with (
            quiet.environment(quiet.ONE_PROCESS),
            quiet.without_bars(),
            quiet.compiled_templates(),
            Meter("harness", left) as meter,
        ):
            lm = load_model(config)
            for number, job in enumerate(left):
                meter.begin(job.name)
                write_json(_record_path(folder, job), evaluate(lm, job, config))
                stored[job.name] = _stored(folder, job)
                meter.advance(number)
    return [stored[job.name] for job in jobs]


def _record_path(folder: Path, job: Job) -> Path:
    return folder / "cache" / f"{job.key}.json"


def _stored(folder: Path, job: Job) -> Any:
    """The record of a job as it is kept, or None. Raises UserError for what is damaged, before anything is computed."""
    record = _read(path := _record_path(folder, job))
    if record is not None and not (isinstance(record, dict) and record.get("key") == job.key):
        raise UserError(f"{path}: damaged (no record of {job.name}); {_DELETE}")
    return record


def load_model(config: EvalConfig) -> Any:
    """The exported folder as an lm-eval model: our scorer, or lm-eval's own (`scorer: hf`). slow.

    Raises UserError for a folder that holds no whole model.
    """
    import torch

    from mindllm.hf.export import quiet as quiet_transformers

    quiet_transformers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"device": device, "dtype": config.dtype, "batch_size": config.batch_size}
    folder = str(Path(config.model).resolve())
    try:
        if config.scorer == "hf":
            from lm_eval.models.huggingface import HFLM

            return HFLM(folder, **options)
        from eval.harness.model import SharedPrefixLM  # slow: imports lm-eval, which must see whether we are offline

        return SharedPrefixLM(folder, **options)
    except (UserError, RunFailed):
        raise
    except Exception as error:  # of whatever reads a model of this kind
        said = " ".join(str(error).split())[:_MAX_REASON]
        raise UserError(f"model: {config.model} cannot be loaded ({type(error).__name__}: {said})") from error
