"""What a run folder says about one evaluated model: scores, what is missing, bits per byte, steps and tokens.

Only files that the stages of eval and export have written are read, so any run folder will do; scores.json of earlier
versions lacks keys, which then are unknown. Cost: milliseconds, and with a contamination list the items of all tasks.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.exported import hash_model
from eval.harness import read_samples, rows_on_clean
from eval.report.facts import model_facts
from eval.report.suite import OTHER
from eval.rows import read_rows
from mindllm.config import UserError
from mindllm.metrics.jsonl import read_lines
from mindllm.metrics.runs import names_of
from mindllm.stage import hash_json, read_json

SCORES, BITS, RATINGS = Path("harness", "scores.json"), Path("bpb", "bpb.json"), Path("elo", "ratings.json")


@dataclass(frozen=True)
class Row:
    """A line of scores.json (see eval.harness.scores). clear: False where guessing explains the score."""

    task: str
    metric: str
    value: float | None
    stderr: float | None
    chance: float | None
    length_baseline: float | None
    num_items: int | None
    num_fewshot: int | None
    group: str
    benchmark: str
    parts: int | None
    part_of: str | None
    marks: tuple[str, ...]
    shortened: float | None
    cut: float | None
    clear: bool


@dataclass(frozen=True)
class Clean:
    """A score on the items that are not in the contamination list."""

    value: float | None
    stderr: float | None
    num_items: int
    num_contaminated: int


@dataclass(frozen=True)
class Model:
    """One evaluated model.

    facts: (name, value) of the export.  step, tokens: how far it is trained, if known.  series: equal for exports that
    may be steps of one training; "" where nothing is known.  missing: {task, why}.  bpb: bpb.json, or None.  clean: by
    (task, metric); empty without a contamination list.  notes: what a reader has to know.
    """

    name: str
    facts: list[tuple[str, str]]
    step: int | None
    tokens: int | None
    series: str
    rows: list[Row]
    missing: list[dict[str, str]]
    bpb: dict[str, Any] | None
    clean: dict[tuple[str, str], Clean]
    notes: list[str]


def find_runs(paths: Sequence[str]) -> list[Path]:
    """Folders with scores, bits per byte or ratings, of what a user named: such a run, or a folder of several.

    A folder named twice counts once. Raises UserError for a path without any.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        inside = [path] if _is_run(path) else sorted(p for p in path.glob("*") if _is_run(p))
        if not inside:
            here = "no scores, bits per byte or ratings in it" if path.is_dir() else "is no folder"
            raise UserError(f"{path}: {here}; make some: python -m eval harness CONFIG run={path}")
        for run in inside:
            found.setdefault(os.path.realpath(run), run)
    return list(found.values())


def _is_run(folder: Path) -> bool:
    return any((folder / file).is_file() for file in (SCORES, BITS, RATINGS))


def is_model(run: Path) -> bool:
    """Whether a run says something about one model; ratings are of several."""
    return any((run / file).is_file() for file in (SCORES, BITS))


def read_ratings(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What ratings.json holds, by name of the run, of the runs that have one."""
    found = [folder for folder in folders if (folder / RATINGS).is_file()]
    return {name: read_json(folder / RATINGS) for name, folder in zip(names_of(found), found, strict=True)}


def read_models(folders: Sequence[Path], contamination: Sequence[dict[str, Any]] | None = None) -> list[Model]:
    """The models of several runs, by training step where they all know it, else as they were named."""
    names = names_of(folders)
    models = [read_model(folder, name, contamination) for folder, name in zip(folders, names, strict=True)]
    series = {model.series for model in models}
    if len(series) == 1 and "" not in series:
        models.sort(key=lambda model: model.step or 0)
    return models


def read_contamination(path: str) -> list[dict[str, Any]] | None:
    """The lines of a contamination list; None for "". Raises UserError for a file that is none."""
    return [row for _, row in read_rows(path, ["id"])] if path else None


def read_model(
    run: Path, name: str, contamination: Sequence[dict[str, Any]] | None = None, export: Path | None = None
) -> Model:
    """What a run folder says. contamination: lines with an `id`.

    export: the exported folder; None: RUN/export, or the one that scores.json names.
    """
    found = read_json(run / SCORES) or {}
    if not isinstance(found, dict) or not isinstance(found.get("scores", []), list):
        raise RuntimeError(f"{run / SCORES}: damaged (no scores in it); evaluate again: python -m eval harness CONFIG")
    export, notes = export or _export_of(run, found), []
    meta = read_json(export / "meta.json") or {}
    scored = ((read_json(run / "harness" / "plan.json") or {}).get("inputs") or {}).get("export")
    if scored and (export / "config.json").is_file() and scored != hash_model(export):
        notes.append(f"{export.as_posix()} is not the model that was scored, so nothing is said about it")
        meta, export = {}, Path(os.devnull)
    step, tokens = _progress(meta, run)
    bpb = read_json(run / BITS)
    notes += (bpb or {}).get("notes", [])
    clean: dict[tuple[str, str], Clean] = {}
    if contamination is not None:
        clean, note = _clean(run / "harness", found.get("scores", []), contamination)
        notes += note
    return Model(
        name=name,
        facts=model_facts(export),
        step=step,
        tokens=tokens,
        series=_series(run, export, meta) if step is not None else "",
        rows=[make_row(row) for row in found.get("scores", [])],
        missing=[{key: row[key] for key in ("task", "why")} for row in found.get("missing") or []],
        bpb=bpb,
        clean=clean,
        notes=notes,
    )


def _export_of(run: Path, scores: dict[str, Any]) -> Path:
    own = run / "export"
    return own if own.exists() or not scores.get("model") else Path(scores["model"])


def make_row(row: dict[str, Any]) -> Row:
    """A line of scores.json as a Row; numbers that are none (nan, infinite) are unknown."""
    task = row["task"]
    return Row(
        task=task,
        metric=row["metric"],
        value=_number(row.get("value")),
        stderr=_number(row.get("stderr")),
        chance=_number(row.get("chance")),
        length_baseline=_number(row.get("length_baseline")),
        num_items=row.get("num_items"),
        num_fewshot=row.get("num_fewshot"),
        group=row.get("group") or OTHER,
        benchmark=row.get("benchmark") or task,
        parts=row.get("parts"),
        part_of=row.get("part_of"),
        marks=tuple(row.get("marks") or ()),
        shortened=_number(row.get("shortened")),
        cut=_number(row.get("cut")),
        clear=_is_clear(row),
    )


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _is_clear(row: dict[str, Any]) -> bool:
    """False where guessing explains the score.

    Earlier versions did not say it: then a value less than two standard errors away from chance is explained. A sample
    of right (or wrong) answers alone has no spread; the standard error of guessing itself is taken there.
    """
    if "distinguishable" in row:
        return row["distinguishable"] is not False
    chance = row.get("chance")
    if chance is None:
        return True
    error = row.get("stderr") or math.sqrt(chance * (1 - chance) / max(row["num_items"], 1))
    return bool(abs(row["value"] - chance) >= 2 * error)


def _progress(meta: dict[str, Any], run: Path) -> tuple[int | None, int | None]:
    """Training step and tokens of an export; tokens from the metrics of the training where the export has none."""
    counts = meta.get("counts") or {}
    step, tokens = counts.get("step"), counts.get("tokens")
    if step is not None and tokens is None:
        lines, _ = read_lines(run / "pretrain" / "metrics.jsonl")
        tokens = next((int(line["tokens"]) for line in lines if line.get("step") == step and "tokens" in line), None)
    return step, tokens


def _series(run: Path, export: Path, meta: dict[str, Any]) -> str:
    """What exports of one training have in common: it, where they name it; else folder, shape and tokenizer."""
    training = (meta.get("counts") or {}).get("training")
    if training:
        return str(training)
    tokenizer = (meta.get("inputs") or {}).get("tokenizer")
    return hash_json([os.path.realpath(run.parent), tokenizer, json.dumps(read_json(export / "config.json"))])


def _clean(
    folder: Path, rows: list[dict[str, Any]], contamination: Sequence[dict[str, Any]]
) -> tuple[dict[tuple[str, str], Clean], list[str]]:
    """Scores on clean items, and a note where they cannot be had: items are stored since `is_mean` is in a row."""
    if not all("is_mean" in row for row in rows):
        return {}, ["no scores on clean items: the items were not stored; evaluate again"]
    try:
        samples = read_samples(folder, rows)
    except FileNotFoundError as error:
        return {}, [f"no scores on clean items: {error.filename} does not exist"]
    return dict(_by_score(rows_on_clean(rows, samples, contamination))), []


def _by_score(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], Clean]]:
    for row in rows:
        counts = (row["num_items"], row["num_contaminated"])
        yield (row["task"], row["metric"]), Clean(row["value"], row["stderr"], *counts)
