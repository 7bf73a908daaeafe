"""Scores of several models brought together: by benchmark and metric, each model's row beside the others'.

A benchmark goes by its title whatever task scored it, lm-eval's own or ours; where models were scored differently
(tasks, shots, items) that is said. Pure functions; cost: nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from eval.report.models import Model, Row
from eval.report.suite import GROUP_OF, IN_PARTS, TITLES
from eval.report.units import PERCENT, Unit, unit_of

# How eval.harness.scores and eval.importing.counts mark a group that is not whole.
_SOME_PARTS = re.compile(r"[\d,]+ of [\d,]+ parts|[\d,]+ subjects instead of [\d,]+")


@dataclass(frozen=True)
class Entry:
    """The rows of one benchmark and metric, one a model: (number of the model, row). task: "" where there is one."""

    benchmark: str
    task: str
    metric: str
    rows: list[tuple[int, Row]]

    @property
    def unit(self) -> Unit:
        """How its scores are shown."""
        return unit_of(self.metric, next((row.chance for _, row in self.rows if row.chance is not None), None))

    @property
    def title(self) -> str:
        """The benchmark, and the task where it has several."""
        return f"{self.benchmark}: {self.task}" if self.task not in ("", self.benchmark) else self.benchmark

    def remarks(self) -> Iterator[str]:
        """Shots, and what keeps the models of an entry from being compared."""
        shots = list(dict.fromkeys(row.num_fewshot for _, row in self.rows if row.num_fewshot is not None))
        items = list(dict.fromkeys(row.num_items for _, row in self.rows if row.num_items is not None))
        tasks = list(dict.fromkeys(row.task for _, row in self.rows))
        if shots:
            yield f"{' and '.join(map(str, shots))} shot{'s' * (shots != [1])}" + ": not alike" * (len(shots) > 1)
        if len(items) > 1:
            yield f"{' and '.join(f'{n:,}' for n in items)} items: not alike"
        if len(tasks) > 1:
            yield f"tasks {' and '.join(tasks)}: not alike"


def named(row: Row) -> Row:
    """The row with the title and group of its benchmark where this is one of the suite under lm-eval's own name."""
    title = TITLES.get(row.benchmark.casefold(), row.benchmark)
    return replace(row, benchmark=title, group=GROUP_OF.get(title, row.group))


def roots(model: Model) -> list[Row]:
    """Rows that are not part of another one's score."""
    return [row for row in model.rows if row.part_of is None]


def make_entries(models: Sequence[Model], benchmark: str) -> Iterator[Entry]:
    """The rows of a benchmark, those of different models together; apart by task if one model has several tasks."""
    rows = [(n, row) for n, model in enumerate(models) for row in roots(model) if row.benchmark == benchmark]
    tasks = [{row.task for number, row in rows if number == n} for n in range(len(models))]
    apart = max(map(len, tasks)) > 1
    keys = dict.fromkeys((row.task if apart else "", row.metric) for _, row in rows)
    for task, metric in keys:
        same = [(n, row) for n, row in rows if row.metric == metric and task in ("", row.task)]
        yield Entry(benchmark, task, metric, same)


def missing_parts(row: Row) -> list[str]:
    """The mark that says that a group was scored without some of its parts, if there is one."""
    return [mark for mark in row.marks if _SOME_PARTS.fullmatch(mark)]


def whole_score(model: Model, benchmark: str) -> Row | None:
    """The row that stands for a benchmark in a mean: the first share of its only task; None where that is not whole."""
    rows = [row for row in roots(model) if row.benchmark == benchmark]
    first = next((row for row in rows if unit_of(row.metric, row.chance) is PERCENT and row.value is not None), None)
    if first is None or len({row.task for row in rows}) > 1 or benchmark in IN_PARTS and not first.parts:
        return None
    return None if missing_parts(first) else first


def mean_row(rows: Sequence[Row]) -> Row:
    """The mean of rows as one; its standard error from theirs, as of independent scores.

    Grey where guessing explains all of those that it could explain.
    """
    guessed = [row for row in rows if row.chance is not None]
    errors = [row.stderr for row in rows]
    error = None if None in errors else math.sqrt(sum(e**2 for e in errors if e is not None)) / len(rows)
    return replace(
        rows[0],
        value=_mean([row.value for row in rows]),
        stderr=error,
        chance=_mean([row.chance for row in rows]),
        length_baseline=_mean([row.length_baseline for row in rows]),
        marks=(),
        clear=not guessed or any(row.clear for row in guessed),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
